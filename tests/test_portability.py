"""What macOS and Windows lack is not used: everything imports, exports and forecasts without it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "exporter" / "chronos_export"
WITHOUT = "import os, sys\nsys.modules['fcntl'] = None\ndel os.sched_getaffinity\n"
IMPORT_ALL = """
import pkgutil, warnings
from importlib import import_module
import chronos_export
warnings.filterwarnings("ignore", "only soft file lock is available")  # filelock, of what this test took away
for module in pkgutil.walk_packages(chronos_export.__path__, "chronos_export."):
    if module.name.endswith("__main__"):
        continue
    try:
        import_module(module.name)
    except ModuleNotFoundError as missing:
        if missing.name not in ("kserve", "fastapi", "uvicorn", "grpc", "orjson", "prometheus_client"):
            raise  # these are of the extra serve, whose environment is another one
"""
EXPORT = """
import numpy as np
from chronos_export import export, load
export(sys.argv[1], output="artifact")
print(load("artifact").predict([np.arange(50.0)], prediction_length=3)[0].shape)
"""


def run(code: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_everything_imports_exports_and_forecasts(toy: Path, tmp_path: Path) -> None:
    done = run(IMPORT_ALL + EXPORT, toy, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "torch.Size([1, 21, 3])\n"), done.stderr


def test_no_file_imports_a_module_that_windows_lacks() -> None:
    posix = {"fcntl", "resource", "pwd", "grp", "termios"}
    found = [
        f"{file.relative_to(PACKAGE)} imports {alias.name}"
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in posix
    ]
    assert found == []
