"""What tests need that is made once, in a cache folder: Node packages, virtual environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock


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
