"""A wheel of this checkout, and virtual environments that hold it and what it needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into `folder`."""
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, timeout=300)
    (wheel,) = folder.glob("chronos_export-*.whl")
    return wheel


def make_environment(folder: Path, wheel: Path, extras: str) -> Path:
    """Make a virtual environment with a wheel and some of its extras, without pip; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=100)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install(python, f"{wheel}[{extras}]", "--constraint", str(ROOT / "constraints.txt"))
    return python


def install(python: Path, *arguments: str) -> None:
    """Have pip install something into the environment of another Python."""
    subprocess.run([*PIP, "--python", python, "install", *arguments], check=True, timeout=600)


def installed_bytes(python: Path) -> int:
    """Return the size of all that is installed in an environment."""
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    asked = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return sum(file.stat().st_size for file in Path(asked.stdout.strip()).rglob("*") if file.is_file())


def needed_bytes(package: str) -> int:
    """Return the size of a package that is installed here, and of all that it needs."""
    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    wanted = [Requirement(package)]
    while wanted:
        requirement = wanted.pop()
        for extra in {"", *requirement.extras}:
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            try:
                distribution = metadata.distribution(requirement.name)
            except metadata.PackageNotFoundError:
                continue  # of another system
            files = (Path(str(file.locate())) for file in distribution.files or ())
            sizes[requirement.name] = sum(file.stat().st_size for file in files if file.is_file())
            needed = map(Requirement, distribution.requires or ())
            wanted += [each for each in needed if not each.marker or each.marker.evaluate({"extra": extra})]
    return sum(sizes.values())
