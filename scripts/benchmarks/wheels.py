"""What a GPU machine without a network needs besides PyTorch, as wheels:

    .venv/bin/python -m scripts.benchmarks.wheels wheels --python 3.12 [--there transformers onnxruntime]

downloads them into folders of at most 60 MB each, `wheels/1`, `wheels/2` and so on, in the versions of this
environment, for the benchmarks and for `pytest -m gpu`, and ends with the command that installs them there.
What that machine has is left out with all that it needs. TensorRT is not among them: its libraries are on
NVIDIA's own index.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "chronos-export"
ROOTS = (f"{PROJECT}[cpu,export]", "pytest", "pytest-timeout")
FOLDER_BYTES = 60 * 10**6
MANYLINUX = ("2014", "1", *(f"_2_{minor}" for minor in (17, 24, 26, 27, 28, 31, 34, 35)))


def main() -> None:
    """Download, pack, and print the command for the other machine."""
    here = ".".join(platform.python_version_tuple()[:2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=here, help="of the machine")
    parser.add_argument("--there", nargs="*", default=[], help="what the machine has, besides PyTorch")
    asked = parser.parse_args()
    versions = needs_of(ROOTS, asked.python, without=needs_of(["torch", *asked.there], asked.python))
    del versions[PROJECT]
    platforms = [f"--platform=manylinux{version}_x86_64" for version in MANYLINUX]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={asked.python}", "--implementation=cp", *platforms]
    with tempfile.TemporaryDirectory() as folder:
        pinned = [f"{name}=={version}" for name, version in versions.items()]
        if subprocess.run([*command, f"--dest={folder}", *pinned], check=False).returncode:
            sys.exit("these wheels could not be downloaded")
        folders = pack(Path(folder).glob("*.whl"), asked.folder)
    links = " ".join(f"{folder}/*.whl" for folder in folders)
    print(f"python3 -m pip install --no-index --no-deps {links}")


def needs_of(roots: Iterable[str], python: str, without: Collection[str] = ()) -> dict[str, str]:
    """Return name -> installed version of packages and of all that they need under that Python."""
    there = {"python_version": python, "python_full_version": f"{python}.0"}
    found, seen, left = dict[str, str](), set[tuple[str, str]](), [Requirement(root) for root in roots]
    while left:
        asked = left.pop()
        name = canonicalize_name(asked.name)
        for extra in {"", *asked.extras} if name not in without else ():
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found[name] = distribution(name).version
            needed = [Requirement(text) for text in distribution(name).requires or ()]
            of_extra = {**there, "extra": extra}
            left += [need for need in needed if need.marker is None or need.marker.evaluate(of_extra)]
    return found


def pack(wheels: Iterable[Path], folder: Path, limit: int = FOLDER_BYTES) -> list[Path]:
    """Move wheels into numbered folders of at most `limit` bytes, the largest first; returns the folders."""
    free: list[int] = []
    for wheel in sorted(wheels, key=lambda path: -path.stat().st_size):
        size = wheel.stat().st_size
        if size > limit:
            sys.exit(f"{wheel.name} has {size / 1e6:.0f} MB, more than one folder may hold")
        number = next((i for i, room in enumerate(free) if room >= size), len(free))
        if number == len(free):
            free.append(limit)
        free[number] -= size
        place = folder / str(number + 1)
        place.mkdir(parents=True, exist_ok=True)
        shutil.move(wheel, place / wheel.name)
    return [folder / str(number + 1) for number in range(len(free))]


if __name__ == "__main__":
    main()
