"""What tests need that is made once, in a cache folder: Node packages, virtual environments."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"


def cache() -> Path:
    """The folder that keeps environments: CHRONOS_EXPORT_TEST_CACHE, or one in the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("CHRONOS_EXPORT_TEST_CACHE") or base / "chronos-export-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def node_packages(*packages: str) -> Path:
    """A `node_modules` folder with these packages, each as `name@version`."""
    folder = cache() / ("node-" + "-".join(packages).replace("/", "-"))
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text('{"private": true}')
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
            subprocess.run(command, cwd=folder, check=True, timeout=300)
            (folder / "done").touch()
    return folder / "node_modules"


def environment_of_the_wheel(*extras: str) -> Path:
    """Python of an environment with this project's wheel, built now, and what some extras add to it.

    The packages stay for the next time; the wheel is always a new one.
    """
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()).hexdigest()
    folder = cache() / "-".join(["wheel", *extras, platform.python_version(), wanted[:12]])
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    with FileLock(f"{folder}.lock"), TemporaryDirectory() as built:
        _run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, ROOT)
        (wheel,) = Path(built).glob("*.whl")
        if not (folder / "done").exists():
            venv.create(folder, with_pip=True, clear=True)
            with_extras = f"chronos-export[{','.join(extras)}] @ {wheel.as_uri()}"
            _run("-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, with_extras, python=python)
            (folder / "done").touch()
        _run("-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel, python=python)
    return python


def _run(*arguments: str | Path, python: Path = Path(sys.executable)) -> None:
    subprocess.run([python, *arguments], check=True, timeout=600)


def virtual_environment(name: str, *packages: str) -> Path:
    """The Python of an environment with some packages, made of this one's version.

    Args:
        name: Of its folder; another list of packages needs another name.
        packages: As pip takes them.
    """
    folder = cache() / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = [sys.executable, "-m", "uv", "--quiet"]
            subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True, timeout=300)
            install = [*uv, "pip", "install", "--python", python, *packages]
            subprocess.run(install, check=True, timeout=300)
            (folder / "done").touch()
    return python
