"""The graphs on OpenVINO: the same forecasts, whatever the ids."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import chronos_export
from chronos_export.artifact import open_artifact
from chronos_export.exporting import export
from chronos_export.openvino_session import OpenVinoSession
from chronos_export.session import OrtSession


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export("demo", (100,), tmp_path_factory.mktemp("openvino") / "demo").path


def test_export_proves_openvino_where_it_is_installed(artifact: Path) -> None:
    runners = {row["runner"] for row in open_artifact(artifact).manifest.validation["worst"]}
    assert {"openvino", "openvino/univariate"} <= runners


def test_ids_that_are_equal_in_32_bits_stay_apart(artifact: Path) -> None:
    context = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).cumsum(1)
    future = torch.full((4, 16), torch.nan)
    ids = torch.tensor([5, 5 + 2**32, 5, 5 + 2**32])
    found = OpenVinoSession(artifact).run(context, ids, future)
    torch.testing.assert_close(found, OrtSession(artifact).run(context, ids, future), rtol=1e-4, atol=1e-4)
    merged = OrtSession(artifact).run(context, torch.zeros(4, dtype=torch.int64), future)
    assert (found - merged).abs().max() > 1e-2


def test_threads_share_a_session(artifact: Path) -> None:
    session = OpenVinoSession(artifact)
    inputs = [torch.randn(3, 50 + n, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    future = torch.full((3, 16), torch.nan)
    alone = [session.run_univariate(x, future) for x in inputs]
    together: dict[int, list[torch.Tensor]] = {n: [] for n in range(4)}

    def work(number: int) -> None:
        for _ in range(20):
            together[number].append(session.run_univariate(inputs[number], future))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert all(torch.equal(found, expected) for found in together[number])


def test_loads_as_a_pipeline(artifact: Path) -> None:
    series = torch.randn(2, 80, generator=torch.Generator().manual_seed(1)).cumsum(1)
    found = chronos_export.load(artifact, provider="openvino").predict([series], prediction_length=20)[0]
    expected = chronos_export.load(artifact).predict([series], prediction_length=20)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_without_the_package_the_error_names_the_extra(artifact: Path) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'openvino' else find(name, *a)\n"
        "from chronos_export import load\n"
        f"load({str(artifact)!r}, provider='openvino')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MachineError" in done.stderr
    assert "pip install 'chronos-export[openvino]'" in done.stderr
