"""Reading the compiler's report, holding the budget, and what the library exports and needs."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

import build

ROOT = Path(__file__).resolve().parents[2]

SAID = """
ptxas info    : Compiling entry function '_ZN7chronos10mma_kernelINS_8BFloat16EEEvNS_1P' for 'sm_90'
ptxas info    : Function properties for _ZN7chronos10mma_kernelINS_8BFloat16EEEv27ChronosGroupAttentionParams
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 96 registers, used 1 barriers
ptxas info    : Compiling entry function '_ZN7chronos10mma_kernelINS_4Tf32EEEvNS_1P' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 148 registers, used 1 barriers
ptxas info    : Compiling entry function '_ZN7chronos10fma_kernelE27ChronosGroupAttentionParams' for 'sm_80'
ptxas info    : Function properties for _ZN7chronos10fma_kernelE27ChronosGroupAttentionParams
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 127 registers, used 1 barriers, 544 bytes cmem[0]
"""


def test_the_compilers_report_is_read() -> None:
    assert build.parse_resources(SAID) == [
        build.Resources("fma_kernel", 80, 127, 0),
        build.Resources("mma_kernel<BFloat16>", 90, 96, 16),
        build.Resources("mma_kernel<Tf32>", 90, 148, 0),
    ]


def test_a_report_without_registers_is_an_error() -> None:
    with pytest.raises(build.CompilerError, match="cannot read"):
        build.parse_resources(SAID.replace("Used 127 registers", ""))


@pytest.mark.parametrize(
    ("resources", "within"),
    [
        (build.Resources("fma_kernel", 80, 128, 0), True),
        (build.Resources("fma_kernel", 80, 129, 0), False),
        (build.Resources("fma_kernel", 80, 100, 4), False),
        (build.Resources("mma_kernel<Float16>", 90, 97, 0), False),
        (build.Resources("mma_kernel<Float16>", 86, 126, 0), True),
        (build.Resources("mma_kernel<Tf32>", 80, 168, 0), True),
        (build.Resources("mma_kernel<Tf32>", 120, 169, 0), False),
        (build.Resources("row_kernel<Float16>", 90, 73, 0), False),
    ],
)
def test_the_budget(resources: build.Resources, within: bool) -> None:
    assert resources.within_budget is within


@pytest.mark.parametrize("over", [{"registers": 129}, {"spilled": 4}])
def test_a_kernel_over_budget_fails_the_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, over: dict[str, int]
) -> None:
    script, found = _script("kernel"), build.parse_resources(SAID)[0]
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(build, "build_library", lambda library: [replace(found, **over)])
    with pytest.raises(script.CheckFailed, match="sm_80 fma_kernel"):
        script.compile_all(tmp_path)


def test_every_gpu_is_compiled_for_and_ptx_for_those_to_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(build, "_run", lambda *arguments: asked.extend(map(str, arguments)) or SAID)
    build.build_library(tmp_path / build.LIBRARY_NAME)
    codes = [argument.partition(",code=")[2] for argument in asked if argument.startswith("-gencode")]
    assert codes == [f"sm_{gpu}" for gpu in (80, 86, 89, 90, 100, 120)] + ["compute_100"]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
def test_no_kernel_uses_atomics(tmp_path: Path) -> None:
    """Nor asks for memory: sums are in one order, so results are the same every time."""
    source, ptx = build.SOURCE_FOLDER / "group_attention.cu", tmp_path / "kernels.ptx"
    subprocess.run(["nvcc", "-std=c++17", "-arch=compute_90", "--ptx", source, "-o", ptx], check=True)
    instructions = ptx.read_text()
    assert len(re.findall(r"\bmma\.sync\.", instructions)) > 100  # what is looked for could be found
    assert re.findall(r"\b(?:atom|red)\.\S+|\bmalloc\b", instructions) == []


def test_without_a_compiler_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.CompilerError, match="nvcc is not on PATH"):
        build.build_library(tmp_path / build.LIBRARY_NAME)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
def test_the_library_for_all_gpus(tmp_path: Path) -> None:
    library = tmp_path / build.LIBRARY_NAME
    resources = build.build_library(library)
    assert {r.architecture for r in resources} == set(build.ARCHITECTURES)
    assert len({r.kernel for r in resources}) == 7
    assert all(r.within_budget for r in resources)
    _script("kernel").inspect_library(tmp_path)  # raises if it exports or needs anything else
    header = (build.SOURCE_FOLDER / "group_attention.h").read_text()
    declared = re.search(r"define CHRONOS_GROUP_ATTENTION_ABI (\d+)", header)
    assert declared is not None
    assert ctypes.CDLL(str(library)).chronos_group_attention_abi() == int(declared[1])


def _script(name: str) -> ModuleType:
    loader = SourceFileLoader(name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
