"""From nothing to the first forecast: a fresh process of ours beside one of upstream's, and the export."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chronos_export.artifact.manifest import read_manifest
from chronos_export.bench.subject import Subject
from chronos_export.checkpoint.source import locate
from chronos_export.machine.packages import is_installed

EXPORT, ENGINE = "export, proven", "TensorRT-RTX engine, with no GPU"
FOR_A_GPU = ("tensorrt-rtx", "--batch", "100,2000", "--compute-capability", "8.6")
SCRIPT = Path(__file__).with_name("first_forecast.py")
SIDES = ("upstream", "ours")


@dataclass(frozen=True)
class Start:
    """One process, from its start to its end.

    Attributes:
        model: Whose weights.
        what: `upstream` or `ours`, to the first forecast of 20 rows; or the export, or its engine.
        steps: Seconds of each step, {} if it failed.
        note: Why it failed, or how large it became.
    """

    model: str
    what: str
    steps: dict[str, float]
    note: str = ""

    @property
    def seconds(self) -> float:
        return sum(self.steps.values())


def cold_starts(subject: Subject, say: Callable[[str], None] = lambda _: None) -> Iterator[Start]:
    """Exports and first forecasts of the bundled checkpoint and of `subject`, as they are found.

    The files are in the system's cache, as after any recent use.
    """
    published = subject.artifact.path if subject.artifact else None
    models = {"demo": (locate("demo").folder, None), subject.name: (subject.checkpoint, published)}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (checkpoint, artifact)) in enumerate(models.items()):
            if artifact is None:
                say(f"cold start: export of {name}")
                artifact = Path(folder) / str(number)
                exported = export(name, checkpoint, artifact)
                yield exported
                if not exported.steps:
                    continue
                yield from engines(name, artifact)
            say(f"cold start: first forecasts of {name}")
            yield from first_forecasts(name, {"upstream": checkpoint, "ours": artifact})


def export(name: str, checkpoint: Path, artifact: Path) -> Start:
    """Export and prove a checkpoint in a process of its own; with an engine, if TensorRT-RTX is installed."""
    runtime = FOR_A_GPU if is_installed("tensorrt-rtx") else ("onnxruntime",)
    command = [sys.executable, "-m", "chronos_export", "--model", str(checkpoint)]
    command += ["--runtime", *runtime, "-o", str(artifact), "--json"]
    begin = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.time() - begin
    if done.returncode:
        return Start(name, EXPORT, {}, _last_line(done.stderr))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = {e["stage"]: e["seconds"] for e in events if e["event"] == "stage" and e["fraction"] == 1.0}
    return Start(name, EXPORT, {**steps, "the rest": seconds - sum(steps.values())})


def engines(name: str, artifact: Path) -> Iterator[Start]:
    """What the engine of an export took; none if it has none."""
    for entry in read_manifest(artifact).engines:
        size, memory = entry["bytes"] / 1e6, entry["peak_rss_bytes"] / 1e6
        note = f"rows {entry['profiles']}, {size:.0f} MB, built in {memory:.0f} MB of memory"
        yield Start(name, ENGINE, {"build": entry["build_seconds"]}, note)


def first_forecasts(name: str, folders: dict[str, Path]) -> list[Start]:
    """Upstream's checkpoint and our artifact, loaded and asked once, in turn."""
    return [_first_forecast(name, side, folders[side]) for side in SIDES]


def _first_forecast(name: str, side: str, folder: Path) -> Start:
    # -P keeps the folder of the script, whose modules have common names, off the path.
    command = [sys.executable, "-P", str(SCRIPT), side, str(folder), repr(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return Start(name, side, {}, _last_line(done.stderr))
    return Start(name, side, json.loads(done.stdout.splitlines()[-1]))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:120] if lines else "no reason given"
