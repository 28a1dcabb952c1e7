"""From nothing to the first forecast: a fresh process of ours beside one of upstream's, and the export."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.manifest import read_manifest
from chronos_export.checkpoint.source import locate
from chronos_export.machine.packages import is_installed

from .records import Start

EXPORT, ENGINE = "export, proven", "TensorRT-RTX engine, with no GPU"
FOR_A_GPU = ("tensorrt-rtx", "--batch", "100,2000", "--compute-capability", "8.6")
SCRIPT = Path(__file__).with_name("first_forecast.py")
SIDES = ("upstream", "ours")


def cold_starts(name: str, checkpoint: Path, say: Callable[[str], None]) -> Iterator[Start]:
    """Exports and first forecasts of the bundled checkpoint and of another, as they are found.

    The files are in the system's cache, as after any recent use.
    """
    with tempfile.TemporaryDirectory() as folder:
        for model, source in (("demo", locate("demo").folder), (name, checkpoint)):
            say(f"cold start: export of {model}")
            artifact = Path(folder) / source.name
            exported = export(model, source, artifact)
            yield exported
            if exported.steps:
                yield from engines(model, artifact)
                say(f"cold start: first forecasts of {model}")
                yield from first_forecasts(model, {"upstream": source, "ours": artifact})


def export(model: str, checkpoint: Path, artifact: Path) -> Start:
    """Export and prove a checkpoint in a process of its own; with engines, if TensorRT-RTX is installed."""
    runtime = FOR_A_GPU if is_installed("tensorrt-rtx") else ("onnxruntime",)
    command = [sys.executable, "-m", "chronos_export", "--model", str(checkpoint)]
    command += ["--runtime", *runtime, "-o", str(artifact), "--json"]
    begin = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.time() - begin
    if done.returncode:
        return Start(model, EXPORT, {}, _last_line(done.stderr))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = {e["stage"]: e["seconds"] for e in events if e["event"] == "stage" and e["fraction"] == 1.0}
    return Start(model, EXPORT, {**steps, "the rest": seconds - sum(steps.values())})


def engines(model: str, artifact: Path) -> Iterator[Start]:
    """What the engines of an export took; none if it has none."""
    for entry in read_manifest(artifact).engines:
        info = EngineInfo.from_entry(entry, artifact)
        yield Start(model, f"{ENGINE}, {info.graph}", {"build": info.build_seconds}, engine_note(info))


def engine_note(info: EngineInfo) -> str:
    """What an engine is and what it took."""
    admitted = " or ".join(map(str, info.profiles))
    size, memory = info.bytes / 1e6, info.peak_rss_bytes / 1e6
    return f"{admitted}; {size:.0f} MB, built in {memory:.0f} MB of memory"


def first_forecasts(model: str, folders: dict[str, Path]) -> list[Start]:
    """Upstream's checkpoint and our artifact, loaded and asked once, in turn."""
    return [_first_forecast(model, side, folders[side]) for side in SIDES]


def _first_forecast(model: str, side: str, folder: Path) -> Start:
    # -P keeps the folder of the script, whose modules have common names, off the path.
    command = [sys.executable, "-P", str(SCRIPT), side, str(folder), repr(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return Start(model, side, {}, _last_line(done.stderr))
    used, steps = map(json.loads, done.stdout.splitlines()[-2:])
    return Start(model, side, steps, _memory_note(used))


def _memory_note(used: dict[str, float]) -> str:
    """What a process held; "" where the system does not say."""
    if "peak_bytes" not in used:
        return ""
    return f"{used['resident_bytes'] / 1e6:.0f} MB in memory, at most {used['peak_bytes'] / 1e6:.0f}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:120] if lines else "no reason given"
