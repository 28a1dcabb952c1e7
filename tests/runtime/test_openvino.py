"""The graphs on OpenVINO: the same forecasts, whatever the ids."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import chronos_export
from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Folder
from tests.helpers.checkpoints import make_model
from tests.helpers.memory import in_a_fresh_process
from tests.helpers.upstream import assert_as_upstream, assert_forecast_as_upstream, exact_pipeline


@pytest.fixture(scope="module")
def artifact(artifact_of: Callable[[str], Artifact]) -> Path:
    return artifact_of("demo").path


@pytest.fixture(scope="module")
def graphs(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a size whose branches OpenVINO gets wrong."""
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(load_checkpoint(str(toy)), folder, precision_of("float32"))
    return folder


@pytest.fixture(scope="module")
def bfloat16_graphs(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bfloat16")
    write_graphs(load_checkpoint(str(toy)), folder, precision_of("bfloat16"))
    return folder


def noise(rows: int, steps: int) -> np.ndarray:
    return np.random.default_rng(steps).standard_normal((rows, steps), dtype=np.float32).cumsum(1)


def unknown(rows: int) -> np.ndarray:
    return np.full((rows, 16), np.nan, np.float32)


def test_export_proves_openvino_where_it_is_installed(artifact: Path) -> None:
    runners = {row["runner"] for row in open_artifact(artifact).manifest.validation["worst"]}
    assert {"openvino", "openvino/univariate"} <= runners


def test_ids_that_are_equal_in_32_bits_stay_apart(artifact: Path) -> None:
    context, future = noise(4, 100), unknown(4)
    ids = np.array([5, 5 + 2**32, 5, 5 + 2**32])
    found = OpenVinoSession(open_artifact(artifact)).run(context, ids, future)
    assert_forecast_as_upstream(found, load_checkpoint("demo").pipeline.model, context, ids)
    merged = OrtSession(open_artifact(artifact)).run(context, np.zeros(4, np.int64), future)
    assert np.abs(found - merged).max() > 1e-2


@pytest.mark.parametrize("ids", [[0], [0, 1, 2], [0, 0, 1, 1], [0, 1, 1, 1, 2]], ids=str)
def test_the_first_call_of_any_groups_is_right(ids: list[int], graphs: Path) -> None:
    """Branches of a graph gave wrong answers the first time they were taken."""
    context, group_ids = noise(len(ids), 100), np.array(ids)
    found = OpenVinoSession(Folder(graphs)).run(context, group_ids, unknown(len(ids)))
    assert_forecast_as_upstream(found, make_model("toy"), context, group_ids)


def test_threads_share_a_session(artifact: Path) -> None:
    session = OpenVinoSession(open_artifact(artifact))
    inputs = [noise(3, 50 + n) for n in range(4)]
    future = unknown(3)
    alone = [session.run_univariate(x, future) for x in inputs]
    together: dict[int, list[np.ndarray]] = {n: [] for n in range(4)}

    def work(number: int) -> None:
        for _ in range(20):
            together[number].append(session.run_univariate(inputs[number], future))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert all(np.array_equal(found, expected) for found in together[number])


def test_loads_as_a_pipeline(artifact: Path) -> None:
    series = torch.randn(2, 80, generator=torch.Generator().manual_seed(1)).cumsum(1)
    upstream = load_checkpoint("demo").pipeline
    asked = (chronos_export.load(artifact, runtime="openvino"), upstream, exact_pipeline(upstream))
    assert_as_upstream(*(pipeline.predict([series], prediction_length=20) for pipeline in asked))


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Folder
signal.signal(signal.SIGINT, signal.default_int_handler)
session = OpenVinoSession(Folder(Path(sys.argv[1])))
session.run_univariate(np.zeros((1, 30), np.float32), np.full((1, 16), np.nan, np.float32))
del session
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_a_session_is_gone(graphs: Path) -> None:
    """OpenVINO makes signals run on a stack of its own, and took it along."""
    command = [sys.executable, "-c", INTERRUPTED, str(graphs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


CHANGING = """
import json, sys
from pathlib import Path
import numpy as np
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Folder
from tests.helpers.memory import resident
session, random = OpenVinoSession(Folder(Path({folder!r})), threads=2), np.random.default_rng(0)
held = []
for _ in range(3):
    for _ in range({calls}):
        rows, steps, horizon = (int(random.integers(1, most)) for most in (20, 400, 64))
        context = random.standard_normal((rows, steps), dtype=np.float32)
        future = np.full((rows, horizon), np.nan, np.float32)
        session.run(context, random.integers(0, 4, rows), future)
        session.run_univariate(context, future)
        session.single_threaded.run_univariate(context, future)
    held.append(resident())
print(json.dumps(held))
"""


@pytest.mark.parametrize("calls", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_every_new_shape(calls: int, bfloat16_graphs: Path) -> None:
    """OpenVINO kept 4 MB for each, until there were none left."""
    first, _, last = in_a_fresh_process(CHANGING.format(folder=str(bfloat16_graphs), calls=calls))
    assert last - first <= 100e6  # it was 970 MB
