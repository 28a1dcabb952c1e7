"""`embed`: upstream's embeddings of alive tokens, from a graph that is made when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export import Forecaster, export, load
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import AccuracyError, UsageError
from chronos_export.exporting.export import validate_artifact
from chronos_export.graph import embeddings
from chronos_export.validation.exact import in_float64
from tests.forecaster.conftest import Opened
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.inputs import series

CONTEXT = 64


class Exact:
    """Upstream's model in float64, for its pipeline."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model = in_float64(model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, context: torch.Tensor, group_ids: torch.Tensor) -> Any:
        return self.model.encode(context=context.double(), group_ids=group_ids)


@dataclass(frozen=True)
class Embedding:
    path: Path
    forecaster: Forecaster
    loaded: Chronos2Pipeline
    upstream: Chronos2Pipeline
    exact: Chronos2Pipeline


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Embedding:
    folder = tmp_path_factory.mktemp("embedding")
    source = str(make_checkpoint(folder / "source", "toy", context_length=CONTEXT, max_output_patches=2))
    path = export(source, output=folder / "artifact", embeddings=True).path
    upstream = load_checkpoint(source).pipeline
    return Embedding(
        path,
        Forecaster(path, threads=1),
        load(path, threads=1),
        upstream,
        Chronos2Pipeline(model=Exact(upstream.model)),
    )


def alive(values: np.ndarray, tokens: int) -> np.ndarray:
    """bool [rows, tokens]: patches with an observation, REG and the output token."""
    seen = ~np.isnan(np.atleast_2d(values)[:, -CONTEXT:].astype(float))
    steps = 16 * (tokens - 2)
    seen = np.pad(seen, ((0, 0), (steps - seen.shape[1], 0))).reshape(len(seen), -1, 16).any(axis=2)
    return np.pad(seen, ((0, 0), (0, 2)), constant_values=True)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch_size=st.sampled_from([1, 4, 256]), short=st.booleans())
def test_embeddings(seed: int, batch_size: int, short: bool, made: Embedding) -> None:
    random = np.random.default_rng(seed)
    shapes = [[*random.integers(1, 4, random.integers(0, 2)), random.integers(1, 90)] for _ in range(6)]
    inputs = [series(random, *shape) for shape in shapes]
    options = {"batch_size": batch_size, "context_length": 20 if short else None}
    found, statistics = made.forecaster.embed(inputs, **options)
    torch_found, torch_statistics = made.loaded.embed(inputs, **options)
    theirs, their_statistics = made.upstream.embed(inputs, **options)
    exact, exact_statistics = made.exact.embed(inputs, **options)
    for number, values in enumerate(inputs):
        assert np.array_equal(found[number], torch_found[number].numpy())
        assert found[number].shape == theirs[number].shape
        rounding = np.finfo(np.float32).eps * np.nan_to_num(np.abs(values.astype(float))).max()
        for part in (0, 1):  # mean, deviation
            mine, true = statistics[number][part], exact_statistics[number][part].numpy()
            assert np.array_equal(mine, torch_statistics[number][part].numpy())
            their_off = np.abs(their_statistics[number][part].numpy() - true).max()
            assert np.abs(mine - true).max() <= 10 * max(their_off, rounding)
        kept = values if not short else np.atleast_2d(values)[:, -20:]
        mask = alive(kept, found[number].shape[1])
        size = exact[number].double().square().mean(dim=2, keepdim=True).sqrt()
        mine_off, their_off = (
            ((torch.as_tensor(one) - exact[number]).abs() / size).numpy()[mask].max()
            for one in (found[number], theirs[number])
        )
        assert mine_off <= 10 * max(their_off, 1e-6)


def test_without_the_graph_it_says_how_to_get_it(opened: Opened) -> None:
    for pipeline in (opened.forecaster, opened.loaded):
        with pytest.raises(UsageError, match="does not embed") as caught:
            pipeline.embed([np.ones(30)])
        assert isinstance(caught.value, AttributeError)
        assert caught.value.fix.endswith("--force --embeddings")
        assert str(opened.path) in caught.value.fix


def test_the_card_says_what_it_costs(made: Embedding) -> None:
    card = (made.path / "README.md").read_text()
    header = "| graph | bytes | cases | error | worst_of_limit | seconds | of_a_forecast |"
    row = card[card.index(header) :].splitlines()[2].split("|")
    assert row[1].strip() == "embeddings.onnx"
    assert int(row[2]) == (made.path / "embeddings.onnx").stat().st_size
    assert float(row[5]) <= 1


def test_it_is_proven_again(made: Embedding) -> None:
    proof = validate_artifact(made.path)
    assert proof.embeddings is not None
    assert proof.embeddings.cases > 20


def test_a_narrow_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--embeddings in int8"):
        export("demo", output=tmp_path / "out", dtype="int8", embeddings=True)


@pytest.mark.parametrize("factor", [1.001, 0.0])
def test_embeddings_that_are_not_upstreams_are_refused(
    factor: float, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = embeddings.encode
    monkeypatch.setattr(embeddings, "encode", lambda g, *args: g.Mul(encode(g, *args), g.number(factor)))
    with pytest.raises(AccuracyError, match=r"embeddings of .* off, and upstream's"):
        export(str(toy), output=tmp_path / "out", embeddings=True)
    assert list(tmp_path.iterdir()) == []
