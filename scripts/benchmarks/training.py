"""Time and memory of fine-tuning: upstream's `fit` against `accelerate(pipeline).fit`.

    python -m scripts.benchmarks.training [--rows 100 200 400] [--layers 2] [--rounds 3] [--steps 3]

Random weights of amazon/chronos-2's width on pull request 442's shape: context 1440, groups of 20, horizon
96. Each side runs in a process of its own, in turn, so that the peak memory is its own. A step is forward,
backward and optimizer; the first one warms up. Writes training.md and training.json to benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from transformers.trainer_callback import TrainerCallback

from chronos_export import accelerate
from chronos_export.bench.comparison import CONTEXT, GROUP, HORIZON
from chronos_export.bench.weights import full_config
from chronos_export.checkpoint.quiet import quiet

from .apart import run_apart
from .machine import cpu_environment
from .memory import PeakMemory
from .records import Record, Timing
from .report import table

UPSTREAM, OURS = SIDES = ("upstream", "accelerate")
HEAD = "rows | upstream s/step | accelerate s/step | times faster | upstream GB | accelerate GB | times less"


def main(given: list[str] | None = None) -> None:
    """Run both sides in turn, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 200, 400], help="multiples of 20")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes per side")
    parser.add_argument("--steps", type=int, default=3, help="steps timed in a process; the median counts")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks"), metavar="DIR")
    asked = parser.parse_args(given)
    if any(rows < GROUP or rows % GROUP for rows in asked.rows):
        parser.error(f"--rows {asked.rows}: a batch is whole groups of {GROUP}")
    runs: list[dict[str, Any]] = []
    for rows in asked.rows:
        for turn in range(asked.rounds):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                runs.append({"rows": rows, "round": turn, "side": side, **_in_a_process(side, rows, asked)})
                print(runs[-1], file=sys.stderr)
    sizes = {"threads": torch.get_num_threads(), "layers": asked.layers, "steps": asked.steps}
    environment = {**cpu_environment(), **sizes}
    text = as_markdown(environment, runs)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "training.md").write_text(text)
    stored = json.dumps({"environment": environment, "runs": runs}, indent=1)
    (asked.output / "training.json").write_text(stored + "\n")
    print(text)


def _in_a_process(side: str, rows: int, asked: argparse.Namespace) -> dict[str, Any]:
    found: list[Any] = []
    if why := run_apart(partial(train, side, rows, asked.layers, asked.steps), found.append, None):
        sys.exit(f"{side}, {rows} rows: {why}")
    return {"seconds": found[0].seconds, "bytes": found[0].memory}


def train(side: str, rows: int, layers: int, steps: int) -> Iterator[Record]:
    """Seconds of a step, and bytes that training added to the process at most."""

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.seconds, self.memory = list[float](), PeakMemory()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(perf_counter() - self.began)
            self.bytes = self.memory.bytes()

    torch.manual_seed(0)
    watch = Watch()
    with quiet(), tempfile.TemporaryDirectory() as folder:
        pipeline = Chronos2Pipeline(Chronos2Model(full_config(num_layers=layers)))
        (pipeline if side == UPSTREAM else accelerate(pipeline)).fit(
            list(torch.randn(rows // GROUP, GROUP, CONTEXT + HORIZON)),
            prediction_length=HORIZON,
            context_length=CONTEXT,
            min_past=CONTEXT,
            num_steps=1 + steps,
            batch_size=rows,
            output_dir=folder,
            callbacks=[watch],
            remove_printer_callback=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
    yield Timing("fine-tuning", side, rows, "float32", median(watch.seconds[1:]), memory=watch.bytes)


def as_markdown(environment: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Medians over the rounds; ratios are of the two processes of a round."""
    lines = []
    for rows in dict.fromkeys(run["rows"] for run in runs):
        cells = [str(rows)]
        for quantity, scale in (("seconds", 1.0), ("bytes", 1e-9)):
            upstream, ours = (
                [run[quantity] * scale for run in runs if (run["rows"], run["side"]) == (rows, side)]
                for side in SIDES
            )
            ratios = sorted(one / other for one, other in zip(upstream, ours, strict=True))
            cells += [f"{median(upstream):.2f}", f"{median(ours):.2f}"]
            cells += [f"{median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"]
        lines.append(tuple(cells))
    about = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    return f"{about}\n\n{table(HEAD, lines)}\n"


if __name__ == "__main__":
    main()
