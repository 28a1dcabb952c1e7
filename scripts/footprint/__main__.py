"""Measure what it takes to forecast: `python -m scripts.footprint [--rounds 3] [--only demo] [-o FILE]`.

Upstream and `load` run in this environment, `Forecaster` in a fresh one that holds the wheel with [cpu] and
nothing else. The files are in the system's cache, as after any recent use. Ends with 1 if an aim in bytes is
missed; seconds, which depend on what else the machine does, are only said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from chronos_export.bench.weights import full_config, random_model
from chronos_export.checkpoint.quiet import quiet
from chronos_export.checkpoint.source import locate
from chronos_export.machine.cpu import available_cores, cpu_name
from scripts.footprint.environment import build_wheel, installed_bytes, make_environment, needed_bytes
from scripts.footprint.measure import Process, first_forecasts, publish_unproven, weight_bytes

SIDES = {"upstream": "upstream", "load": "ours", "Forecaster": "forecaster"}
NEEDS = {"upstream": "chronos-forecasting", "load": "chronos-export[cpu,pipeline]"}
INSTALL, SECONDS, TIMES_WEIGHTS = 200e6, {"demo": 0.5, "full size": 2.0}, 1.3  # what is aimed at
HEAD = (
    "| model | rows | side | seconds | processor seconds | resident MB | at most MB | times the weights"
    " | of the seconds |"
)


@dataclass(frozen=True)
class Measured:
    """A side's processes for one request.

    Attributes:
        model: "demo" or "full size".
        rows: Series that were forecast together.
        side: One of `SIDES`.
        process: What they took.
        weights: Bytes of the artifact's weights.
    """

    model: str
    rows: int
    side: str
    process: Process
    weights: int

    @property
    def times_weights(self) -> float:
        return self.process.resident_bytes / self.weights

    def line(self) -> str:
        process = self.process
        memory = f"{process.resident_bytes / 1e6:.0f} | {process.peak_bytes / 1e6:.0f}"
        times = f"{process.seconds:.2f} | {process.processor_seconds:.2f}"
        steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in process.steps.items())
        cells = f"{self.model} | {self.rows} | {self.side} | {times} | {memory} | {self.times_weights:.2f}"
        return f"| {cells} | {steps} |"

    @property
    def _name(self) -> str:
        return f"the first forecast of {self.model}, {self.rows} rows,"

    def too_slow(self) -> Iterator[str]:
        """Yield the aim in seconds, if it was missed."""
        if self.process.seconds > SECONDS[self.model]:
            yield f"{self._name} took {self.process.seconds:.2f} s, not {SECONDS[self.model]}"

    def too_large(self) -> Iterator[str]:
        """Yield the aim in bytes, if it was missed."""
        if self.model == "full size" and self.times_weights > TIMES_WEIGHTS:
            yield f"{self._name} left {self.times_weights:.2f} times the weights, not {TIMES_WEIGHTS}"


def main() -> None:
    asked = arguments()
    machine = f"{available_cores()} cores of {cpu_name()}, load average {psutil.getloadavg()[0]:.1f} before"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        fresh = make_environment(work / "environment", build_wheel(work), "cpu")
        sizes = {side: needed_bytes(package) for side, package in NEEDS.items()}
        sizes["Forecaster"] = installed_bytes(fresh)
        found = [each for model in asked.only for each in measure(model, work, fresh, asked.rounds)]
    lines = [f"`python -m scripts.footprint --rounds {asked.rounds}`: {machine}.", ""]
    lines += ["| side | installed MB |", "| --- | ---: |"]
    lines += [f"| {side} | {size / 1e6:.0f} |" for side, size in sizes.items()]
    lines += ["", HEAD, "| --- | ---: | --- |" + " ---: |" * 5 + " --- |", *(each.line() for each in found)]
    ours = [each for each in found if each.side == "Forecaster"]
    slow = [miss for each in ours for miss in each.too_slow()]
    large = [miss for each in ours for miss in each.too_large()]
    if sizes["Forecaster"] > INSTALL:
        large.append(f"[cpu] takes {sizes['Forecaster'] / 1e6:.0f} MB, not {INSTALL / 1e6:.0f}")
    text = "\n".join([*lines, "", *(f"Missed: {miss}." for miss in (*slow, *large))]) + "\n"
    if asked.output:
        Path(asked.output).write_text(text)
    print(text)
    sys.exit(bool(large))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes; the quickest and the largest count")
    parser.add_argument("--only", nargs="+", choices=SECONDS, default=list(SECONDS), help="which models")
    parser.add_argument("-o", "--output", help="write the tables to this file too")
    return parser.parse_args()


def measure(model: str, work: Path, fresh: Path, rounds: int) -> Iterator[Measured]:
    """Measure one series, and twenty that are forecast together, on each side."""
    checkpoint = locate("demo").folder
    if model != "demo":
        checkpoint = work / "checkpoint"
        with quiet():
            random_model(full_config()).save_pretrained(checkpoint)
    artifact = publish_unproven(str(checkpoint), work / model)
    for rows in (1, 20):
        for side, name in SIDES.items():
            python = fresh if side == "Forecaster" else Path(sys.executable)
            folder = checkpoint if side == "upstream" else artifact
            process = first_forecasts(python, name, folder, rows, rounds)
            yield Measured(model, rows, side, process, weight_bytes(artifact))


if __name__ == "__main__":
    main()
