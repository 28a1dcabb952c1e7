"""The kernel on a GPU against float64: what `scripts/gpu_check` checks, as tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import build
from scripts.gpu_check import correctness
from scripts.gpu_check.problem import Problem

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Problem], Tensor]:
    from chronos_export.model.cuda_kernel import register

    major, minor = torch.cuda.get_device_capability()
    library = tmp_path_factory.mktemp("kernel") / build.LIBRARY_NAME
    build.build_library(library, (10 * major + minor,))
    register(library)
    return lambda problem: torch.ops.chronos.group_attention(*problem.arguments)


@pytest.mark.parametrize(
    "check",
    [
        correctness.check_values,
        correctness.check_isolation,
        correctness.check_tf32,
        correctness.check_launches,
    ],
)
def test_on_the_gpu(check: Callable[..., list[dict[str, Any]]], run: Callable[[Problem], Tensor]) -> None:
    assert [r for r in check(run, "cuda") if not r["good"]] == []
