"""Everything that needs a GPU, in one run, in the repository's root:

    python3 -m scripts.gpu_check [--dry-run]

Builds the kernel for the card, holds it against float64, runs compute-sanitizer and times it against its
peers. Where upstream is installed: the accelerated pipeline against upstream, case by case, and timed. Where
TensorRT or TensorRT-RTX is too: engines built, held against upstream, and timed. A section that cannot run
says why. Writes gpu_check.json and gpu_check.md to $OUT, or to benchmarks/.

The machine needs nvcc and torch; what else it has no network for is brought along. Where `make test` has run:

    .venv/bin/pip freeze --exclude-editable | grep -viE '^(torch|triton|nvidia|cuda|setuptools)' > wheels.txt
    .venv/bin/pip download --no-deps --dest wheels -r wheels.txt
    .venv/bin/pip download --no-deps --dest wheels tensorrt-cu13 tensorrt-cu13-bindings tensorrt-cu13-libs

(the last is served by NVIDIA's index alone), and on the machine

    python3 -m pip install --no-deps --no-index --find-links wheels wheels/*.whl

TensorRT runs the plugin only if it is compiled: set TENSORRT_INCLUDE_DIR to the folder of its headers, or
CHRONOS_EXPORT_PLUGINS to the folder that `chronos-export plugin build` filled.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "exporter"), str(ROOT / "plugins" / "group_attention")]

import build  # noqa: E402

from chronos_export.cuda_kernel import Kernel, register  # noqa: E402

from . import accuracy, correctness, end_to_end, engines, layer, sanitizer  # noqa: E402
from .environment import environment  # noqa: E402
from .problem import Problem, Run  # noqa: E402
from .report import markdown  # noqa: E402

DRY_ARCHITECTURES = (90,)


def main() -> int:
    """Run the sections; exit status 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="as far as a machine without a GPU can go")
    parser.add_argument("--only", default="", help="sections whose name contains this")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        sys.exit("gpu_check: PyTorch sees no GPU here; with --dry-run it goes as far as it can without")
    folder = Path(os.environ.get("OUT") or ROOT / "benchmarks")
    plan = _dry_sections(ROOT / "build") if arguments.dry_run else _gpu_sections(ROOT / "build")
    sections: dict[str, Any] = {}
    for name, section in plan.items():
        if arguments.only in name:
            sections[name] = _run_section(name, section)
    results = {"environment": environment(), "dry_run": arguments.dry_run, "sections": sections}
    page = markdown(results)
    if not arguments.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_check.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / "gpu_check.md").write_text(page)
    print(page)
    return 1 if any(_has_failed(s) for s in sections.values()) else 0


def _gpu_sections(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    library, program = folder / build.LIBRARY_NAME, folder / "launches"
    major, minor = torch.cuda.get_device_capability()
    run: Run = _run_operator
    checks = (*correctness.CHECKS_ANYWHERE, *correctness.CHECKS_ON_GPU)
    return {
        "build": lambda: _build(library, (10 * major + minor,), program) | _registered(library),
        **{check.__name__.replace("_", " "): partial(_records, check, run) for check in checks},
        "compute-sanitizer": lambda: {"records": sanitizer.run_sanitizers(program)},
        "layer": lambda: layer.time_layers(run, _say),
        "whole model": lambda: end_to_end.time_model(_say),
        "accelerated pipeline": lambda: accuracy.check_accelerated("cuda"),
        "accelerated pipeline, tf32": lambda: accuracy.check_accelerated("cuda", tf32=True),
        "plugin": lambda: _plugin(folder / "plugins", f"{major}{minor}"),
        "engines": lambda: engines.check_demo(_say),
        "engines, full size": lambda: engines.time_full_size(_say),
    }


def _dry_sections(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    emulated = folder / "libchronos_group_attention_emulated.so"

    def check() -> dict[str, Any]:
        build.build_emulated_library(emulated)
        kernel = Kernel(emulated)

        def run(problem: Problem) -> torch.Tensor:
            return kernel.run(*problem.arguments, stream=0)

        return {
            "records": correctness.check_values(run, "cpu", 1, 2) + correctness.check_isolation(run, "cpu")
        }

    no_gpu = {
        "why": "needs a GPU",
        "planned": [[str(d), n] for d in layer.DTYPES for n in layer.SEGMENT_LENGTHS],
    }
    library = folder / "dry" / build.LIBRARY_NAME
    return {
        "build": lambda: _build(library, DRY_ARCHITECTURES, folder / "dry" / "launches"),
        "correctness, emulated": check,
        "layer": lambda: no_gpu,
        "whole model": lambda: {"why": "needs a GPU"},
        "accelerated pipeline": lambda: accuracy.check_accelerated("cpu"),
        "engines": lambda: engines.check_demo(_say),
        "engines, full size": lambda: {"why": "needs a GPU"},
    }


def _records(check: Callable[[Run, str], list[dict[str, Any]]], run: Run) -> dict[str, Any]:
    return {"records": check(run, "cuda")}


def _run_operator(problem: Problem) -> torch.Tensor:
    result: torch.Tensor = torch.ops.chronos.group_attention(*problem.arguments)
    return result


def _build(library: Path, architectures: tuple[int, ...], program: Path) -> dict[str, Any]:
    resources = build.build_library(library, architectures)
    sanitizer.build_program(library, program)
    return {
        "records": [
            {
                "kernel": r.kernel,
                "architecture": r.architecture,
                "good": r.within_budget,
                "registers": r.registers,
            }
            for r in resources
        ]
    }


def _plugin(folder: Path, architecture: str) -> dict[str, Any]:
    """Compile the plugin for the engines, unless it was brought along."""
    from chronos_export.compiled import plugin_library
    from chronos_export.errors import MachineError
    from chronos_export.plugin_build import build_plugin

    if plugin_library() is not None:
        return {"why": "it was built before"}
    try:
        build_plugin(None, folder, architectures=[architecture])
    except MachineError as error:
        return {"why": error.summary}
    os.environ["CHRONOS_EXPORT_PLUGINS"] = str(folder)
    return {"records": [{"check": "compiles", "good": True}]}


def _registered(library: Path) -> dict[str, Any]:
    register(library)
    return {"library": library.name}


def _run_section(name: str, section: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A section that cannot run is a line in the report; the others go on."""
    begin = time.monotonic()
    try:
        result = section()
    except Exception as error:
        result = {
            "why": f"{type(error).__name__}: {str(error)[:500]}",
            "failed": not isinstance(error, ImportError),
        }
    result["seconds"] = round(time.monotonic() - begin, 1)
    _say(f"{name}: {result['seconds']} s" + (f", not run: {result['why']}" if result.get("why") else ""))
    return result


def _has_failed(section: dict[str, Any]) -> bool:
    return bool(section.get("failed")) or any(r.get("good") is False for r in section.get("records", []))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
