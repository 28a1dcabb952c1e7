"""One call for every backend, and no silent change of backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import MachineError, UsageError
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.session import Folder
from tests.helpers.memory import in_a_fresh_process

Artifacts = Callable[[str], Artifact]


def test_transposed_inputs_are_taken(artifact_of: Artifacts) -> None:
    session = OrtSession(artifact_of("toy"), threads=1)
    context = np.random.default_rng(0).standard_normal((50, 4), dtype=np.float32).T
    future = np.full((20, 4), np.nan, np.float32).T
    ids = np.array([0, 9, 1, 9, 0, 9, 1, 9])[::2]
    assert not context.flags.c_contiguous
    out = session.run(context, ids, future)
    assert (out.shape, out.dtype) == ((4, 21, 32), np.float32)
    np.testing.assert_array_equal(out, session.run(context.copy(), ids.copy(), future.copy()))
    assert session.run_univariate(context, future).shape == out.shape


def test_an_unknown_device_is_refused(artifact_of: Artifacts) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu'") as error:
        OrtSession(artifact_of("toy"), "tpu")
    assert error.value.allowed == "cpu, cuda"


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has it"
)
def test_a_provider_that_is_not_installed_names_its_extra(artifact_of: Artifacts) -> None:
    with pytest.raises(MachineError, match="no CUDAExecutionProvider") as error:
        OrtSession(artifact_of("toy"), "cuda")
    assert error.value.fix == (
        "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]>=1.21'"
    )


@pytest.mark.filterwarnings(
    "ignore:Specified provider 'CUDAExecutionProvider' is not in available:UserWarning"
)
@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has it"
)
def test_a_silent_fall_back_to_the_cpu_is_an_error(
    artifact_of: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime lists a provider whose libraries do not load, and then runs on the CPU without a word."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(MachineError, match="on CPUExecutionProvider, not on CUDAExecutionProvider"):
        OrtSession(artifact_of("toy"), "cuda")


def test_a_shape_that_comes_back_takes_no_more_memory(artifact_of: Artifacts) -> None:
    """By default onnxruntime takes as much again."""
    code = f"""
import json, numpy as np
from chronos_export.artifact.reading import open_artifact
from tests.helpers.memory import peaks
from chronos_export.runtime.onnxruntime_session import OrtSession
session = OrtSession(open_artifact({str(artifact_of("toy").path)!r}), threads=1)
context = np.random.default_rng(0).standard_normal((300, 1000), dtype=np.float32)
call = context, np.zeros(300, np.int64), np.full((300, 16), np.nan, np.float32)
print(json.dumps(peaks(*[lambda: session.run(*call)] * 4)))
"""
    first, *later = in_a_fresh_process(code)
    assert first > 30e6
    assert max(later) < 1.2 * first


def test_a_type_without_kernels_names_the_runtime_that_has_them(toy: Path, tmp_path: Path) -> None:
    write_graphs(load_checkpoint(str(toy)), tmp_path, precision_of("bfloat16"))
    with pytest.raises(MachineError, match=r"CPUExecutionProvider cannot run \w+\.onnx") as error:
        OrtSession(Folder(tmp_path)).run_univariate(
            np.zeros((2, 30), np.float32), np.zeros((2, 16), np.float32)
        )
    assert f"load({str(tmp_path)!r}, runtime='openvino')" in error.value.fix
