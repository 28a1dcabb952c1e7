"""A process that forecasts once and says how long each step took: run by others, never imported.

    python -P first_forecast.py upstream|ours|forecaster FOLDER STARTED [ROWS]

ours is `load`. STARTED is the time when the process was started, as `time.time()` gives it. Nothing but the
standard library is imported before the clock runs. Prints what the process held and used, then the steps.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

ROWS, CONTEXT, HORIZON = 20, 1440, 96


def main(side: str, folder: str, started: str, rows: str = str(ROWS)) -> None:
    steps = {"python": time.time() - float(started)}
    begin = time.perf_counter()

    def step(name: str) -> None:
        nonlocal begin
        steps[name], begin = time.perf_counter() - begin, time.perf_counter()

    pipeline: Any
    if side == "ours":
        from chronos_export import load

        pipeline = load(folder)
        step("import, verify and open")
    elif side == "forecaster":
        from chronos_export import Forecaster

        step("import")
        pipeline = Forecaster(folder)
        step("verify and open")
    else:
        from chronos import Chronos2Pipeline

        step("import")
        pipeline = Chronos2Pipeline.from_pretrained(folder)
        step("open")
    import numpy as np

    series = np.random.default_rng(0).normal(size=(int(rows), CONTEXT)).cumsum(axis=1).astype(np.float32)
    pipeline.predict([series], HORIZON)
    step("first call")
    print(json.dumps({"processor_seconds": time.process_time(), **_memory()}))
    print(json.dumps(steps))


def _memory() -> dict[str, int]:
    """Bytes that the process holds, and that it held at most; nothing where Linux does not say."""
    file = Path("/proc/self/status")
    lines = dict(line.split(":") for line in file.read_text().splitlines()) if file.exists() else {}
    entries = {"resident_bytes": "VmRSS", "peak_bytes": "VmHWM"}
    return {name: int(lines[entry].split()[0]) * 1024 for name, entry in entries.items() if entry in lines}


if __name__ == "__main__":
    main(*sys.argv[1:])
