"""A process that forecasts once and says how long each step took: run by `cold_start`, never imported.

    python -P first_forecast.py ours|upstream FOLDER STARTED

STARTED is the time when the process was started, as `time.time()` gives it. Nothing but the standard library
is imported before the clock runs.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

ROWS, CONTEXT, HORIZON = 20, 1440, 96


def main(side: str, folder: str, started: str) -> None:
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
    else:
        from chronos import Chronos2Pipeline

        step("import")
        pipeline = Chronos2Pipeline.from_pretrained(folder)
        step("open")
    import numpy as np

    rows = np.random.default_rng(0).normal(size=(ROWS, CONTEXT)).cumsum(axis=1).astype(np.float32)
    pipeline.predict([rows], HORIZON)
    step("first call")
    print(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
