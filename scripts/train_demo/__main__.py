"""Train the demo checkpoint, or score one: `python -m scripts.train_demo [--evaluate]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from chronos import Chronos2Pipeline

from .card import card
from .score import Table, as_markdown, score_all
from .train import Recipe, train

DEMO = Path(__file__).parents[2] / "exporter" / "chronos_export" / "checkpoint" / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DEMO, help="the checkpoint's folder")
    parser.add_argument("--evaluate", action="store_true", help="only score the checkpoint in --output")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # the same sums on every machine, whatever its core count
    if arguments.evaluate:
        table = score_all(Chronos2Pipeline.from_pretrained(arguments.output))
    else:
        table = make(Recipe(), arguments.output)
    print(as_markdown(table))
    print(json.dumps(table))


def make(recipe: Recipe, output: Path) -> Table:
    """Train, score and write the checkpoint's folder; returns the scores."""
    print(json.dumps(asdict(recipe)), flush=True)
    train(recipe).save_pretrained(output)
    pipeline = Chronos2Pipeline.from_pretrained(output)  # the one just trained still computes in bfloat16
    table = score_all(pipeline)
    (output / "README.md").write_text(card(recipe, pipeline.model.num_parameters(), table))
    return table


if __name__ == "__main__":
    main()
