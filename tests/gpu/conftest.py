"""What needs a GPU: `pytest -m gpu tests/gpu`. The kernel is compiled for the card first, which needs nvcc.

With CHRONOS_REHEARSE_GPU_TESTS=1 they run on a CPU as far as they can: the kernel under the host's emulator,
engines built ahead of time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
import torch
from torch import Tensor

import build
from chronos_export.machine.compiled import KERNEL_NAME
from chronos_export.model.cuda_kernel import Kernel, register_built
from chronos_export.model.group_attention import Arguments
from tests.helpers.attention_problem import Problem

IS_REHEARSAL = bool(os.environ.get("CHRONOS_REHEARSE_GPU_TESTS"))
Run = Callable[[Problem], Tensor]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what lies in this folder, and skip it where there is no GPU."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker("gpu")
        is_rehearsed = IS_REHEARSAL and "device" in signature(item.function).parameters
        if not (torch.cuda.is_available() or is_rehearsed):
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))


@pytest.fixture(scope="session")
def device() -> str:
    """Where tensors are. Tests that do not take it themselves need a real GPU."""
    return "cpu" if IS_REHEARSAL else "cuda"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the kernel, compiled for the card."""
    folder = tmp_path_factory.mktemp("plugins")
    major, minor = (9, 0) if IS_REHEARSAL else torch.cuda.get_device_capability()
    resources = build.build_library(folder / KERNEL_NAME, (10 * major + minor,))
    assert all(kernel.within_budget for kernel in resources)
    return folder


@pytest.fixture(scope="session")
def run(device: str, libraries: Path) -> Run:
    """The operator: the compiled kernel on the GPU, or its source under the emulator."""
    if device == "cpu":
        emulated = libraries / "libemulated.so"
        build.build_emulated_library(emulated)
        kernel = Kernel(emulated)
        return lambda problem: kernel.run(Arguments(*problem.arguments), stream=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHRONOS_EXPORT_PLUGINS", str(libraries))
        assert register_built() is not None
    return lambda problem: torch.ops.chronos.group_attention(*problem.arguments)
