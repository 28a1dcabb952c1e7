"""What a machine without a network needs besides PyTorch, as wheels:

    .venv/bin/python -m scripts.gpu_check.wheels wheels --python 3.12

downloads them into folders of at most 60 MB each, `wheels/1`, `wheels/2` and so on, in the versions of this
environment, for a machine of another Python if need be. It ends with the command that installs them there;
packages which that machine already has stay as they are, and `--there transformers onnxruntime ...` leaves
them, and what they need, out.

TensorRT is not among them: its libraries are on NVIDIA's own index and take more than 1 GB.
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
EXTRAS = {PROJECT: ("export", "cpu")}
NEEDS = "needs.txt"
FOLDER_BYTES = 60 * 10**6
MANYLINUX = ("2014", "1", *(f"_2_{minor}" for minor in (17, 24, 26, 27, 28, 31, 34, 35)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--python", default=".".join(platform.python_version_tuple()[:2]), help="of the machine"
    )
    parser.add_argument("--there", nargs="*", default=[], help="what the machine has, besides PyTorch")
    arguments = parser.parse_args()
    there = {need for name in ("torch", *arguments.there) for need in needs_of(name, arguments.python)}
    versions = needs_of(PROJECT, arguments.python, without=there)
    del versions[PROJECT]
    with tempfile.TemporaryDirectory() as folder:
        download([f"{name}=={version}" for name, version in versions.items()], arguments.python, Path(folder))
        folders = pack(Path(folder).glob("*.whl"), arguments.folder)
    direct = [
        r.name for r in requirements(PROJECT, arguments.python) if canonicalize_name(r.name) in versions
    ]
    (folders[0] / NEEDS).write_text("\n".join(direct) + "\n")
    links = " ".join(f"--find-links {path}" for path in folders)
    print(f"python3 -m pip install --no-index {links} -r {folders[0] / NEEDS}")


def needs_of(root: str, python: str, without: Collection[str] = ()) -> dict[str, str]:
    """Name to installed version of a package and of all that it needs, directly or not."""
    found: dict[str, str] = {}
    left = [root]
    while left:
        name = canonicalize_name(left.pop())
        if name not in found and name not in without:
            found[name] = distribution(name).version
            left += [requirement.name for requirement in requirements(name, python)]
    return found


def requirements(name: str, python: str) -> list[Requirement]:
    """What a package needs under that Python; of extras, with those of `EXTRAS` only."""
    listed = [Requirement(text) for text in distribution(name).requires or ()]
    of_python = {"python_version": python, "python_full_version": f"{python}.0"}
    there = [{**of_python, "extra": extra} for extra in EXTRAS.get(name, ("",))]
    return [r for r in listed if r.marker is None or any(map(r.marker.evaluate, there))]


def download(pinned: list[str], python: str, folder: Path) -> None:
    """Fetch wheels for x86-64 Linux; pip's own error ends the run."""
    platforms = [f"--platform=manylinux{version}_x86_64" for version in MANYLINUX]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={python}", "--implementation=cp", *platforms, f"--dest={folder}", *pinned]
    if subprocess.run(command, check=False).returncode:
        sys.exit("gpu_check: these wheels could not be downloaded")


def pack(wheels: Iterable[Path], folder: Path, limit: int = FOLDER_BYTES) -> list[Path]:
    """Move wheels into numbered folders of at most `limit` bytes, the largest first; returns the folders."""
    free: list[int] = []
    for wheel in sorted(wheels, key=lambda path: -path.stat().st_size):
        size = wheel.stat().st_size
        if size > limit:
            sys.exit(f"gpu_check: {wheel.name} has {size / 1e6:.0f} MB, more than one folder may hold")
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
