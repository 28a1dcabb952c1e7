"""Calls on one thread each, side by side: the same forecasts, and the same errors."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.errors import IntegrityError
from chronos_export.forecaster.model import Model
from chronos_export.graph_contract import UNIVARIATE, WEIGHTS
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Floats, Graphs, Session, SideBySide
from tests.helpers.checkpoints import make_model
from tests.helpers.upstream import assert_forecast_as_upstream

ROWS = 40
SIZES = [1] * 20 + [3] * 5 + [5]


@pytest.fixture(scope="module")
def artifact(artifact_of: Callable[[str], Artifact]) -> Artifact:
    return artifact_of("toy")


def model(artifact: Artifact, threads: int, kind: Callable[..., Session] = OrtSession) -> SessionModel:
    settings = asdict(artifact.manifest.config.chronos_config)
    return SessionModel(Model.over(kind(artifact, threads=threads), Limits(tokens=60), settings))


def graphs(artifact: Artifact) -> Graphs:
    """The one of a session on onnxruntime."""
    single_threaded = OrtSession(artifact, threads=2).single_threaded
    assert isinstance(single_threaded, Graphs)
    return single_threaded


def two_rows() -> tuple[Floats, Floats]:
    return np.zeros((2, 30), np.float32), np.full((2, 16), np.nan, np.float32)


def ragged() -> tuple[Tensor, Tensor]:
    """Shuffled rows of singles and groups, lengths 1 to 100."""
    random = torch.Generator().manual_seed(0)
    context = torch.randn(ROWS, 100, generator=random).cumsum(1)
    for row in range(ROWS):
        context[row, : int(100 * torch.rand((), generator=random))] = torch.nan
    ids = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    return context, ids[torch.randperm(ROWS, generator=random)]


@pytest.mark.parametrize("kind", [OrtSession, OpenVinoSession])
def test_the_forecasts_are_upstreams(
    kind: type[SideBySide], artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_at_once = threading.Barrier(2, timeout=60)
    met: list[str] = []

    context, ids = ragged()
    beside = model(artifact, 2, kind)
    assert isinstance(beside.session, SideBySide)
    run_univariate = beside.session.single_threaded.run_univariate

    def meeting(*args: Floats) -> Floats:
        if len(met) < 2:
            met.append(threading.current_thread().name)
            both_at_once.wait()
        return run_univariate(*args)

    monkeypatch.setattr(beside.session.single_threaded, "run_univariate", meeting)
    found = beside(context, ids, num_output_patches=2).quantile_preds
    assert len(set(met)) == 2  # two calls were under way at the same time
    assert_forecast_as_upstream(found, make_model("toy"), context, ids)


def test_the_first_error_ends_the_others(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def failing(context: Floats, _: Floats) -> Floats:
        begun.append(len(context))
        raise ZeroDivisionError

    planned = model(artifact, 2)
    assert isinstance(planned.session, SideBySide)
    monkeypatch.setattr(planned.session.single_threaded, "run_univariate", failing)
    with pytest.raises(ZeroDivisionError):
        planned(torch.randn(2000, 100))
    assert len(begun) < 1000


@pytest.mark.parametrize("in_place", [False, True])
def test_an_artifact_changed_behind_a_pipeline(artifact: Artifact, tmp_path: Path, in_place: bool) -> None:
    """What was verified stays what is used, even where the folder is gone; what is written is seen."""
    folder = Path(shutil.copytree(artifact.path, tmp_path / "mine"))
    session = graphs(open_artifact(folder))
    arguments = two_rows()
    for name in (UNIVARIATE, WEIGHTS):
        other = Path(shutil.copy(folder / name, tmp_path / "other"))
        other.write_bytes(other.read_bytes()[:-1] + b"?")
        (folder / name).write_bytes(other.read_bytes()) if in_place else other.replace(folder / name)
    assert np.array_equal(session.run_univariate(*arguments), graphs(artifact).run_univariate(*arguments))
    in_groups = arguments[0], np.zeros(2, np.int64), arguments[1]
    if not in_place:
        shutil.rmtree(folder)
        assert np.array_equal(session.run(*in_groups), graphs(artifact).run(*in_groups))
        return
    with pytest.raises(IntegrityError, match="was changed after it was loaded") as raised:
        session.run(*in_groups)
    assert raised.value.fix == f"load({str(folder)!r}) again"


def test_graphs_are_found_from_another_working_directory(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(artifact.path.parent)
    session = graphs(open_artifact(artifact.path.name))
    monkeypatch.chdir(tmp_path)
    assert len(session.run_univariate(*two_rows())) == 2


def test_a_graph_is_opened_once_by_many_threads(artifact: Artifact) -> None:
    session = graphs(artifact)
    assert session._opened == {}
    arguments = two_rows()
    workers = [threading.Thread(target=session.run_univariate, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert list(session._opened) == [UNIVARIATE]
