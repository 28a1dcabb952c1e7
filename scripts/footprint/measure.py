"""Processes that forecast once, and artifacts to forecast with."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from chronos_export.artifact.manifest import MadeFrom, Manifest
from chronos_export.artifact.model_config import ModelConfig
from chronos_export.artifact.publishing import publish
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from chronos_export.graph_contract import WEIGHTS
from chronos_export.untrusted.records import read_record
from scripts.benchmarks import first_forecast


@dataclass(frozen=True)
class Process:
    """One process from its start to its first forecast.

    Attributes:
        steps: Seconds of each step.
        processor_seconds: What it kept processors busy for, all threads together.
        resident_bytes: What it held then.
        peak_bytes: What it held at most.
    """

    steps: dict[str, float]
    processor_seconds: float
    resident_bytes: int
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """What passed."""
        return sum(self.steps.values())


def first_forecasts(python: Path, side: str, folder: Path, rows: int, rounds: int) -> Process:
    """Have processes forecast once, one after the other.

    Args:
        python: Whose environment they run in.
        side: One of those of `first_forecast`.
        folder: A checkpoint for upstream, else an artifact.
        rows: Series that are forecast together.
        rounds: How many processes.

    Returns:
        The quickest in seconds, the largest in bytes.
    """
    found = [_first_forecast(python, side, folder, rows) for _ in range(rounds)]
    return Process(
        min(found, key=lambda process: process.seconds).steps,
        min(process.processor_seconds for process in found),
        max(process.resident_bytes for process in found),
        max(process.peak_bytes for process in found),
    )


def publish_unproven(source: str, folder: Path) -> Path:
    """Publish graphs that need not be right, only of the size of a checkpoint; return the folder."""
    checkpoint = load_checkpoint(source)
    with publish(folder) as staging:
        write_graphs(checkpoint, staging.folder, precision_of("float32"))
        made_from = MadeFrom("./unproven", None, checkpoint.digest, "unknown")
        config = read_record(ModelConfig, checkpoint.config)
        staging.manifest = Manifest(made_from, config, "float32", [])
    return folder


def weight_bytes(artifact: Path) -> int:
    """Return the size of an artifact's weights."""
    return (artifact / WEIGHTS).stat().st_size


def _first_forecast(python: Path, side: str, folder: Path, rows: int) -> Process:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = str(first_forecast.__file__)
    command = [str(python), "-P", script, side, str(folder), repr(time.time()), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    used, steps = map(json.loads, done.stdout.splitlines())
    return Process(steps, **used)
