"""A section in a process of its own: what it found before it crashed or ran out of time is kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .setting import ROOT, Record

SHORTEST_S = 5.0  # less time than this is none
OUT_OF_TIME = "no time was left for it"


def run_apart(command: list[str], limit_s: float) -> dict[str, Any]:
    """Run a command that writes its records to the file whose name is added to it, see `write_records`.

    Args:
        command: Of the section.
        limit_s: Seconds after which it is ended, with all that it started.

    Returns:
        {"records", "seconds"}, and "why" it did not come to its end, "failed" if that is a fault.
    """
    if limit_s < SHORTEST_S:
        return {"records": [], "seconds": 0.0, "why": OUT_OF_TIME}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "records")
        process = subprocess.Popen([*command, str(file)], cwd=ROOT, stdout=sys.stderr, start_new_session=True)
        try:
            process.wait(limit_s)
            why = f"it ended with status {process.returncode}" if process.returncode else ""
            failed = bool(why)
        except subprocess.TimeoutExpired:
            why, failed = f"stopped after {limit_s:.0f} s", False
        finally:
            _end(process)
        lines = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    result = {"records": records, "seconds": round(time.monotonic() - begin, 1)}
    last = records.pop() if records and "why it ended" in records[-1] else None
    if last:
        return {**result, "why": last["why it ended"], "failed": last["failed"]}
    return {**result, "why": why, "failed": failed} if why else result


def write_records(records: Iterable[Record], file: Path) -> None:
    """Write each record as a line as soon as it is there, and last why there are no more, if not all came."""
    with file.open("w") as out:

        def write(record: Record) -> None:
            out.write(json.dumps(record, default=str) + "\n")
            out.flush()
            print(*(f"{k}: {v};" for k, v in record.items()), file=sys.stderr, flush=True)

        try:
            for record in records:
                write(record)
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:500]}"
            write({"why it ended": said, "failed": not isinstance(error, ImportError)})


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
