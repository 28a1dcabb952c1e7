"""`Forecaster`: the numbers of upstream's pipeline on the same runtime, to the bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export import Forecaster
from chronos_export.errors import UsageError
from tests.forecaster.conftest import Opened
from tests.helpers.inputs import inputs, series
from tests.helpers.upstream import sort_is_stable

LONGER = "We recommend keeping prediction length"
pytestmark = pytest.mark.filterwarnings(f"ignore:{LONGER}:UserWarning")


def same(mine: list[np.ndarray], *others: list[torch.Tensor]) -> None:
    for other in others:
        for one, wanted in zip(mine, other, strict=True):
            assert one.dtype == np.float32
            assert wanted.dtype == torch.float32
            assert np.array_equal(one, wanted.numpy(), equal_nan=True)


def calls() -> st.SearchStrategy[dict[str, Any]]:
    """Inputs and options of `predict`."""

    def call(prediction_length: int) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {"inputs": inputs(prediction_length), "prediction_length": st.just(prediction_length)},
            optional={
                "batch_size": st.integers(1, 30),
                "context_length": st.integers(1, 64),
                "cross_learning": st.booleans(),
                "max_output_patches": st.integers(1, 3),
                "unrolled_quantiles": st.sampled_from([[0.5], [0.1, 0.9], [0.01, 0.5, 0.99]]),
            },
        )

    return st.sampled_from([1, 5, 16, 17, 32, 33, 64, 90]).flatmap(call)


@settings(max_examples=80, deadline=None)
@given(call=calls())
def test_predict(call: dict[str, Any], opened: Opened) -> None:
    with sort_is_stable():
        theirs = opened.upstream.predict(**call)
    same(opened.forecaster.predict(**call), opened.loaded.predict(**call), theirs)


@settings(max_examples=30, deadline=None)
@given(
    call=calls(),
    levels=st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.13, 0.5, 0.9, 0.999, 1.0]), min_size=1, max_size=5),
)
def test_predict_quantiles(call: dict[str, Any], levels: list[float], opened: Opened) -> None:
    call["quantile_levels"] = levels
    mine = opened.forecaster.predict_quantiles(**call)
    with sort_is_stable():
        theirs = opened.upstream.predict_quantiles(**call)
    for number in (0, 1):  # quantiles, median
        same(mine[number], opened.loaded.predict_quantiles(**call)[number], theirs[number])


def test_defaults_are_upstreams(opened: Opened) -> None:
    inputs = [series(np.random.default_rng(seed), 3, 50) for seed in range(100)]  # more rows than a batch
    same(opened.forecaster.predict(inputs), opened.loaded.predict(inputs), opened.upstream.predict(inputs))
    mine, theirs = (p.predict_quantiles(inputs) for p in (opened.forecaster, opened.upstream))
    same(mine[0], theirs[0])
    assert mine[0][0].shape == (3, 32, 9)
    same(mine[1], theirs[1])


def test_limits_are_upstreams(opened: Opened) -> None:
    for name in (
        "quantiles",
        "model_context_length",
        "model_prediction_length",
        "model_output_patch_size",
        "max_output_patches",
    ):
        assert getattr(opened.forecaster, name) == getattr(opened.upstream, name)


def test_after_each_batch(opened: Opened) -> None:
    seen: list[int] = []
    opened.forecaster.predict(np.ones((5, 2, 9)), 3, batch_size=4, after_batch=lambda: seen.append(1))
    assert len(seen) == 3


def test_what_a_callback_raises_ends_it(opened: Opened) -> None:
    def late() -> None:
        raise TimeoutError("time limit exceeded")

    with pytest.raises(TimeoutError, match="time limit exceeded"):
        opened.forecaster.predict(np.ones((5, 2, 9)), 3, after_batch=late)


Ask = Callable[[Any, np.ndarray], object]
ROWS = np.ones((1, 1, 9))


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda p, x: p.predict(x, 33, limit_prediction_length=True), ValueError, f"{LONGER} <= 32"),
        (lambda p, x: p.predict(x, 3, unrolled_quantiles=[0.15, 0.123]), ValueError, "must be a subset"),
        (lambda p, x: p.predict(x, 3, temperature=1), TypeError, "temperature"),
        (lambda p, x: p.predict_quantiles(x, 3, temperature=1), TypeError, "temperature"),
    ],
)
def test_what_upstream_refuses(ask: Ask, kind: type[Exception], message: str, opened: Opened) -> None:
    for pipeline in (opened.forecaster, opened.loaded, opened.upstream):
        with pytest.raises(kind, match=message):
            ask(pipeline, ROWS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_length": 0}, "prediction_length is 0"),
        ({"context_length": 0}, "context_length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_output_patches": 0}, "max_output_patches is 0"),
    ],
)
def test_numbers_that_make_no_forecast(options: dict[str, int], message: str, opened: Opened) -> None:
    for pipeline in (opened.forecaster, opened.loaded):
        with pytest.raises(UsageError, match=message) as error:
            pipeline.predict(ROWS, **options)
        assert error.value.allowed


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"prediction_length": 33}, UserWarning, f"{LONGER} <= 32"),
        ({"context_length": 65}, UserWarning, "The specified context_length 65 is greater .* to 64"),
        ({"predict_batches_jointly": True}, FutureWarning, "`predict_batches_jointly` .* deprecated"),
    ],
)
def test_what_upstream_warns_of(
    options: dict[str, Any], kind: type[Warning], message: str, opened: Opened
) -> None:
    call = {"prediction_length": 3, **options}
    for pipeline in (opened.forecaster, opened.loaded, opened.upstream):
        with pytest.warns(kind, match=message):
            pipeline.predict(ROWS, **call)


def test_levels_beyond_the_models_are_told(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    opened.forecaster.predict_quantiles(ROWS, 3, [0.001, 0.5])
    assert "those outside of 0.01 to 0.99" in caplog.text


@pytest.mark.parametrize("copied", [deepcopy, lambda forecaster: pickle.loads(pickle.dumps(forecaster))])
def test_a_copy_forecasts_the_same(copied: Callable[[Forecaster], Forecaster], opened: Opened) -> None:
    (one,), (two,) = (f.predict(ROWS) for f in (opened.forecaster, copied(opened.forecaster)))
    assert np.array_equal(one, two)


def test_it_says_what_it_is(opened: Opened) -> None:
    assert repr(opened.forecaster) == f"<Forecaster of {opened.path} with onnxruntime on cpu>"
