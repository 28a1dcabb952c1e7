"""Ours in PyTorch on a GPU against upstream on the CPU, on every case that proves an export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from chronos.chronos2 import Chronos2Model

from chronos_export import accelerate
from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint, load_reference
from chronos_export.graph.precision import precision_of
from chronos_export.model.rewrite import rewrite
from chronos_export.runtime.session import Floats, Ints
from chronos_export.validation.cases import Case
from chronos_export.validation.comparison import validate
from chronos_export.validation.proof import cases_of
from scripts.benchmarks.cuda_peers import CudaGraph
from scripts.benchmarks.timing import tf32


class OnDevice:
    """A model that is called as the rewritten one is, behind the call of a `Session`."""

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.device = model, device

    @torch.no_grad()
    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `Session.run`."""
        inputs = (torch.from_numpy(x).to(self.device) for x in (context, group_ids, future_covariates))
        out: Floats = self.model(*inputs).float().cpu().numpy()
        return out

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `Session.run_univariate`."""
        return self.run(context, np.arange(len(context)), future_covariates)


class Accelerated:
    """Upstream's model, called as the rewritten one is; covariates are fed in whole patches."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model, self.patch = model, model.chronos_config.output_patch_size

    def __call__(self, context: torch.Tensor, ids: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        patches = -(-future.shape[1] // self.patch)
        future = torch.nn.functional.pad(future, (0, patches * self.patch - future.shape[1]), value=torch.nan)
        out: torch.Tensor = self.model(
            context=context, group_ids=ids, future_covariates=future, num_output_patches=patches
        ).quantile_preds
        return out


@pytest.fixture(scope="module")
def demo() -> Checkpoint:
    return load_checkpoint("demo")


@pytest.fixture(scope="module")
def reference(demo: Checkpoint) -> Chronos2Model:
    return load_reference(demo).model


@pytest.fixture(scope="module")
def cases(demo: Checkpoint) -> list[Case]:
    return list(cases_of(demo.config))


@pytest.fixture(autouse=True)
def in_ieee() -> Iterator[None]:
    with tf32(False):
        yield


def need_tf32(dtype: str, device: str) -> None:
    if (dtype, device) == ("tf32", "cpu"):
        pytest.skip("only a GPU computes in tf32")


@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_accelerate(
    run: Any, demo: Checkpoint, reference: Chronos2Model, cases: list[Case], device: str, dtype: str
) -> None:
    need_tf32(dtype, device)
    model = Accelerated(accelerate(load_reference(demo)).model.to(device))
    with tf32(dtype == "tf32"):
        verdict = validate(reference, {"accelerated": OnDevice(model, device)}, cases, precision_of(dtype))
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float16"])
def test_the_rewritten_model(
    run: Any, demo: Checkpoint, reference: Chronos2Model, cases: list[Case], device: str, dtype: str
) -> None:
    need_tf32(dtype, device)
    precision = precision_of(dtype)
    model = rewrite(load_reference(demo).model).to(device, precision.torch_type)
    with tf32(dtype == "tf32"):
        verdict = validate(reference, {"rewritten": OnDevice(model, device)}, cases, precision)
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_cuda_graph_gives_the_same_bits(run: Any, demo: Checkpoint, dtype: torch.dtype) -> None:
    model = rewrite(load_reference(demo).model).to("cuda", dtype)
    captured = CudaGraph(model)
    for seed, rows in ((0, 20), (1, 20), (2, 7)):
        context = torch.randn(rows, 300, generator=torch.Generator().manual_seed(seed)).cuda()
        inputs = context, torch.arange(rows, device="cuda") // 5, context.new_full((rows, 32), torch.nan)
        with torch.no_grad():
            assert torch.equal(captured(*inputs), model(*inputs))
