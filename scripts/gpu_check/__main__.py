"""Everything that needs a GPU, in one run of under ten minutes, in the repository's root:

    python3 -m scripts.gpu_check [--dry-run] [--only NAME] [--minutes 9]

Compiles the kernel for the card, holds it against float64, times it against its peers, times the whole model
against upstream, holds the accelerated pipeline and, where TensorRT is installed, engines against upstream
case by case, and runs compute-sanitizer. Each section runs in a process of its own under a time limit, and
what it found is written as soon as it ends, however it ends: gpu_check.json and gpu_check.md in $OUT, or in
benchmarks/. Exit status 1 if a check failed.

The machine needs nvcc and PyTorch. `scripts/gpu_check/wheels.py` brings the other packages along where it has
no network; TensorRT needs one. The plugin, without which no engine runs, is compiled where
TENSORRT_INCLUDE_DIR is the folder of TensorRT's headers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from .apart import run_apart, write_records
from .environment import environment
from .report import markdown
from .sections import SECTIONS
from .setting import ROOT, dry, on_gpu


def main() -> int:
    """Run the sections, or one of them for `run_apart`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="as far as a machine without a GPU can go")
    parser.add_argument("--only", default="", help="sections whose name contains this, and the build")
    parser.add_argument("--minutes", type=float, default=9, help="that all of it may take")
    parser.add_argument("--section", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        sys.exit("gpu_check: PyTorch sees no GPU here; with --dry-run it goes as far as it can without")
    setting = dry() if arguments.dry_run else on_gpu()
    setting.use_folder()
    if arguments.section:
        name, file = arguments.section
        write_records(SECTIONS[name].run(setting), Path(file))
        return 0
    return _run_sections(arguments.dry_run, arguments.only, 60 * arguments.minutes)


def _run_sections(dry_run: bool, only: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    results: dict[str, Any] = {"environment": environment(), "dry_run": dry_run, "sections": {}}
    for name, section in SECTIONS.items():
        if name != "build" and only not in name:
            continue
        if dry_run and not section.dry:
            found: dict[str, Any] = {"records": [], "why": "needs a GPU"}
        else:
            command = [sys.executable, "-m", "scripts.gpu_check", *(["--dry-run"] if dry_run else [])]
            limit = min(section.limit_s, deadline - time.monotonic())
            found = run_apart([*command, "--section", name], limit)
        results["sections"][name] = found
        print(f"== {name}: {found.get('seconds', 0)} s {found.get('why', '')}", file=sys.stderr, flush=True)
        page = _write(results)
    print(page)
    return 1 if any(_has_failed(section) for section in results["sections"].values()) else 0


def _write(results: dict[str, Any]) -> str:
    """The page of what there is so far, written unless this is a dry run."""
    page = markdown(results)
    if not results["dry_run"]:
        folder = Path(os.environ.get("OUT") or ROOT / "benchmarks")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_check.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / "gpu_check.md").write_text(page)
    return page


def _has_failed(section: dict[str, Any]) -> bool:
    return bool(section.get("failed")) or any(r.get("good") is False for r in section["records"])


if __name__ == "__main__":
    sys.exit(main())
