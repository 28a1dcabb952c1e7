"""Checkpoints and exports shared by the tests of one session. Who edits one makes one of their own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from chronos_export import export
from chronos_export.artifact.reading import Artifact
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from tests.helpers.checkpoints import make_adapter, make_checkpoint
from tests.helpers.stand_in import StandIn

torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other

# Whoever starts the tests in the background may ignore these, and children ignore what their parent does.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """For tests that call `main`, which leaves its handlers behind."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(kind) for kind in kinds]
    yield
    for kind, handler in zip(kinds, handlers, strict=True):
        signal.signal(kind, handler)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("toy"), "toy")


@pytest.fixture
def mine(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy checkpoint, free to be spoiled."""
    return Path(shutil.copytree(toy, tmp_path / "mine"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("small"), "small")


@pytest.fixture(scope="session")
def small_graphs(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """The graphs of `small`, exported in float32."""
    folder = tmp_path_factory.mktemp("small_graphs")
    write_graphs(load_checkpoint(str(small)), folder, precision_of("float32"))
    return folder


@pytest.fixture
def engine(small_graphs: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """An engine of `small` where there is no GPU."""
    engine = StandIn(small_graphs / "model.onnx")
    engine.install(monkeypatch)
    return engine


@pytest.fixture(scope="session")
def quantiles13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("quantiles13"), "quantiles13")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), toy)


@pytest.fixture(scope="session")
def checkpoint_of(toy: Path, small: Path, quantiles13: Path) -> Callable[[str], str]:
    """The source of a size: `toy`, `small`, `quantiles13` or `demo`."""
    folders = {"toy": toy, "small": small, "quantiles13": quantiles13}
    return lambda size: str(folders.get(size, size))


@pytest.fixture(scope="session")
def artifact_of(
    checkpoint_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Artifact]:
    """The published, proven artifact of a size, made when it is first asked for."""

    @cache
    def published(size: str) -> Artifact:
        return export(checkpoint_of(size), output=tmp_path_factory.mktemp("published") / size)

    return published
