"""Time every way to run Chronos-2 on this machine, and keep what is found as it is found.

    python -m scripts.benchmarks [--device cuda] [--workload 'groups of 20, 100 rows'] [-o benchmarks]

writes cpu.md, cpu.json and cpu.png, or cuda.md and cuda.json. With --dry-run the smallest sizes run on a CPU,
whatever the device: nothing is written, and no number counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import monotonic

import torch

from chronos_export.machine.compiled import kernel_library

from .apart import run_apart
from .pictures import draw_growth
from .records import CutOff, Record, Results
from .report import as_markdown
from .sections import Setting, look, names_of, say, sections

ROWS = {"cpu": 100, "cuda": 2000}
MINUTES: dict[str, float | None] = {"cpu": None, "cuda": 9.0}


def main(given: list[str] | None = None) -> int:
    """Run it; exit status 1 if a section did not come to its end for a reason of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=ROWS, default="cpu")
    parser.add_argument("--rows", type=int, help="of the large batches, at least 20; 100, or 2000 on a GPU")
    parser.add_argument("--layers", type=int, default=12, help="12, the full model, if not given")
    parser.add_argument("--rounds", type=int, default=3, help="at least; quick batches get more")
    parser.add_argument(
        "--compile", action="store_true", help="time upstream under torch.compile on a CPU too"
    )
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="NAME",
        help="time those only whose name begins so; what an earlier run found of the others is kept",
    )
    parser.add_argument("--minutes", type=float, help="that all of it may take; 9 on a GPU")
    parser.add_argument("--dry-run", action="store_true", help="the smallest sizes, on a CPU")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks"), metavar="DIR")
    asked = parser.parse_args(given)
    if asked.device == "cuda" and not asked.dry_run and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here; --dry-run goes as far as it can without")
    if asked.rows is not None and asked.rows < 20:
        parser.error(f"--rows {asked.rows}: a batch is at least one group of 20")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # end the section that runs
    with tempfile.TemporaryDirectory() as work:
        rows = (asked.rows or ROWS[asked.device]) // 20 * 20
        setting = Setting(
            asked.device, rows, asked.layers, asked.rounds, asked.compile, asked.dry_run, Path(work)
        )
        if asked.dry_run:
            setting = setting.rehearsed()
            os.environ["OMP_NUM_THREADS"] = "1"  # threads of such small products only wait for each other
        if asked.device == "cuda" and kernel_library() is None:
            os.environ["CHRONOS_EXPORT_PLUGINS"] = f"{work}/plugins"
        names = names_of(setting)
        for beginning in asked.workload:
            if not any(name.startswith(beginning) for name in names):
                parser.error("\n  ".join([f"no workload is called {beginning!r}; there are:", *names]))
        chosen = [name for name in names if not asked.workload or name.startswith(tuple(asked.workload))]
        minutes = asked.minutes or (None if asked.dry_run else MINUTES[asked.device])
        results = _run(setting, chosen, len(chosen) == len(names), minutes, asked.output)
    print(as_markdown(results))
    return 1 if any(cut.why and not cut.why.startswith("stopped") for cut in results.cut_off) else 0


def _run(
    setting: Setting, names: list[str], is_complete: bool, minutes: float | None, output: Path
) -> Results:
    """All sections; on a GPU, where time may run out, each may take half of what is left."""
    end = None if minutes is None else monotonic() + 60 * minutes
    results = Results(setting.device, setting.name, setting.layers, setting.rows)

    def take(record: Record) -> None:
        results.add(record)
        if not setting.is_rehearsal:
            results.write(output, as_markdown(results))

    why = run_apart(partial(look, setting), results.add, None)
    found = results.machine
    if found is None:
        raise SystemExit(f"the machine could not be looked at: {why}")
    if not (is_complete or setting.is_rehearsal):
        results = results.earlier(output) or results
    for name, section in sections(setting, found, names, is_complete).items():
        say(f"== {name}")
        why = run_apart(section, take, None if end is None else (end - monotonic()) / 2)
        if why or any(cut.section == name for cut in results.cut_off):
            take(CutOff(name, why))
    if results.growth and not setting.is_rehearsal:
        draw_growth(results.growth, output / f"{setting.device}.png")
    return results


if __name__ == "__main__":
    sys.exit(main())
