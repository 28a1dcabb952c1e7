"""Engines of the demo checkpoint, built in every dtype by whichever TensorRT is here, against upstream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.hashing import hash_file
from chronos_export.checkpoint.loading import load_checkpoint, load_reference
from chronos_export.engine.building import build_engines
from chronos_export.engine.choice import EngineOptions, choose
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.packages import is_installed
from chronos_export.progress import ignore
from chronos_export.runtime.tensorrt_loading import LoadedEngine, load_engine
from chronos_export.runtime.tensorrt_session import TensorRtSession
from chronos_export.validation.engines import prove_engine
from chronos_export.validation.proof import cases_of

ROWS = (100, 200)
DTYPES = ("float32", "tf32", "float16", "bfloat16")


def build(folder: Path, dtype: str, device: str = "cuda") -> list[EngineInfo]:
    """The engines of both graphs, for the GPU that is here or ahead of time."""
    options = EngineOptions()
    if device == "cpu":
        if not is_installed("tensorrt-rtx"):
            pytest.skip("builds engines: pip install tensorrt-rtx")
        options = EngineOptions("tensorrt-rtx", compute_capabilities=("8.6",))
    runtime, reason = choose(options, ROWS, dtype)
    if runtime is None:
        pytest.skip(reason)
    write_graphs(load_checkpoint("demo"), folder, precision_of(dtype))
    return build_engines(folder, ROWS, options, precision_of(dtype), ignore)


def load(info: EngineInfo) -> LoadedEngine:
    return load_engine(info, hash_file(info.path).sha256, plugin_library(), "")


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_engine_forecasts_as_upstream_does(tmp_path: Path, device: str, dtype: str) -> None:
    checkpoint = load_checkpoint("demo")
    reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
    for info in build(tmp_path, dtype, device):
        digest = hash_file(info.path).sha256
        proof, results = prove_engine(reference, info, digest, cases, precision_of(dtype), ignore)
        assert bool(proof.not_run) is (device == "cpu"), proof.line
        assert not proof.failed, proof.line
        assert [result for result in results if result.problem] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_graphs_give_the_same_bits(tmp_path: Path, dtype: str) -> None:
    """Shapes that take turns, other rows every time."""
    general, univariate = map(load, build(tmp_path, dtype))
    graphs, plain = TensorRtSession(general, univariate), TensorRtSession(general, univariate, graphs=0)
    for seed in range(6):
        for steps in (512, 256):
            rows = 20 - seed
            context = np.random.default_rng(seed).normal(size=(rows, steps)).cumsum(1).astype(np.float32)
            inputs = context, np.arange(rows) // 5, np.full((rows, 64), np.nan, np.float32)
            assert np.array_equal(graphs.run(*inputs), plain.run(*inputs))
            alone = inputs[0], inputs[2]
            assert np.array_equal(graphs.run_univariate(*alone), plain.run_univariate(*alone))
