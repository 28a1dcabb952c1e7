"""Compile the group-attention kernel: for GPUs with nvcc, for the host emulator with g++.

Needs nothing but Python, so that it runs on a bare machine:

    python3 build.py LIBRARY [ARCHITECTURE...]      # e.g. build/libchronos_group_attention.so 90
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE_FOLDER = Path(__file__).resolve().parent
LIBRARY_NAME = "libchronos_group_attention.so"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
PTX_ARCHITECTURE = 100  # what newer GPUs compile from when they are first used
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)'")
_SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_MANGLED = re.compile(r"(mma|fma|row)_kernel(?:INS_\d*(B?Float\d+|Tf32))?")


class CompilerError(Exception):
    """A compiler is missing or refused the source; the message ends with what it said."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture.

    Args:
        kernel: Its name and element type, "mma_kernel<Float16>".
        architecture: Compute capability times ten.
        registers: Per thread.
        spilled: Bytes stored to and loaded from local memory.
    """

    kernel: str
    architecture: int
    registers: int
    spilled: int

    @property
    def budget(self) -> int:
        """Registers a thread may take: 4 blocks of 128 threads fit a multiprocessor, or 5 of mma_kernel."""
        if self.kernel.startswith("row_kernel"):
            return 72
        if self.kernel == "mma_kernel<Tf32>":
            return 168  # 3 blocks
        return 96 if self.kernel.startswith("mma_kernel") and self.architecture >= 90 else 128

    @property
    def within_budget(self) -> bool:
        """Whether nothing is spilled and the registers stay inside the budget."""
        return self.spilled == 0 and self.registers <= self.budget


def build_library(output: Path, architectures: tuple[int, ...] = ARCHITECTURES) -> list[Resources]:
    """Compile the shared library; returns what each kernel takes on each architecture.

    Args:
        output: The library's path; its folder is made.
        architectures: Compute capabilities times ten. PTX is added when all of `ARCHITECTURES` are asked for.

    Raises:
        CompilerError: nvcc is missing or fails.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    if set(architectures) >= set(ARCHITECTURES):
        targets.append(f"-gencode=arch=compute_{PTX_ARCHITECTURE},code=compute_{PTX_ARCHITECTURE}")
    said = _run(
        "nvcc", "-std=c++17", "-O3", "-shared", "--cudart=static", "--threads=2", "-Xptxas=-v", *targets,
        "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unknown-pragmas",
        "-Xcompiler=-static-libstdc++,-static-libgcc", "-Xlinker=--exclude-libs,ALL", "-Xlinker=--as-needed",
        SOURCE_FOLDER / "group_attention.cu", "-o", output,
    )  # fmt: skip
    return parse_resources(said)


def parse_resources(said: str) -> list[Resources]:
    """Read `-Xptxas -v`. Outputs of two threads do not mix: nvcc prints them one compilation at a time."""
    found = []
    for block in said.split("Compiling entry function")[1:]:
        entry = _ENTRY.search("Compiling entry function" + block)
        spill, registers = _SPILL.search(block), _REGISTERS.search(block)
        name = _MANGLED.search(block)
        if not (entry and spill and registers and name):
            raise CompilerError(f"cannot read what ptxas said:\n{block[:500]}")
        kernel = f"{name[1]}_kernel" + (f"<{name[2]}>" if name[2] else "")
        found.append(Resources(kernel, int(entry[2]), int(registers[1]), int(spill[1]) + int(spill[2])))
    return sorted(found, key=lambda r: (r.kernel, r.architecture))


def build_check(
    output: Path, source_folder: Path = SOURCE_FOLDER, *, sanitize: bool = False, warn: bool = True
) -> None:
    """Compile the emulator's test program, `emulator/check.cpp` (see there). Warnings are errors, or off."""
    flags = ("-O1", "-g1", *SANITIZERS) if sanitize else ("-O2",)
    _compile_for_host(source_folder / "emulator" / "check.cpp", output, *flags, *(() if warn else ("-w",)))


def build_emulated_library(output: Path) -> None:
    """Compile the library's C interface over the emulator: same functions, host memory, any stream."""
    _compile_for_host(
        SOURCE_FOLDER / "group_attention.cu", output, "-O2", "-fPIC", "-shared", "-fvisibility=hidden"
    )


def _compile_for_host(source: Path, output: Path, *flags: str) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
    _run("g++", "-std=c++17", *warnings, *flags, "-x", "c++", source, "-o", output)


def _run(program: str, *arguments: str | Path) -> str:
    if shutil.which(program) is None:
        raise CompilerError(f"{program} is not on PATH")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompilerError(f"{program} failed:\n{done.stderr[-4000:]}{done.stdout[-4000:]}")
    return done.stdout + done.stderr


def main() -> None:
    """The command line of the module's docstring."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    output, architectures = Path(sys.argv[1]), tuple(int(a) for a in sys.argv[2:]) or ARCHITECTURES
    with tempfile.TemporaryDirectory(dir=output.parent if output.parent.exists() else None) as folder:
        built = Path(folder) / output.name
        try:
            resources = build_library(built, architectures)
        except CompilerError as error:
            sys.exit(str(error))
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, output)
    for r in resources:
        use = f"{r.registers:3} of {r.budget} registers, {r.spilled} B spilled"
        print(f"sm_{r.architecture:<4} {r.kernel:<24} {use}")
    if not all(r.within_budget for r in resources):
        sys.exit("a kernel spills or takes more registers than its budget")


if __name__ == "__main__":
    main()
