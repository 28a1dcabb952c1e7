"""One artifact, opened as a `Forecaster`, as upstream's pipeline, and as upstream's own code has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from chronos import Chronos2Pipeline

from chronos_export import Forecaster, export, load
from tests.helpers.checkpoints import make_checkpoint


@dataclass(frozen=True)
class Opened:
    """The same artifact thrice, on the same runtime.

    Attributes:
        path: The artifact. Its model forecasts 32 steps at most before it must unroll, from 64 at most.
        forecaster: Without PyTorch.
        loaded: What `load` gives.
        upstream: Upstream's pipeline, whose code is untouched, over the same session.
    """

    path: Path
    forecaster: Forecaster
    loaded: Chronos2Pipeline
    upstream: Chronos2Pipeline


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("opened")
    source = make_checkpoint(folder / "source", "toy", context_length=64, max_output_patches=2)
    path = export(str(source), output=folder / "artifact").path
    loaded = load(path, threads=1)
    return Opened(path, Forecaster(path, threads=1), loaded, Chronos2Pipeline(model=loaded.model))
