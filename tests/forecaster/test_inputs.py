"""What the inputs become: the rows that upstream makes of them, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from chronos.chronos2.dataset import Chronos2Dataset, DatasetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export.errors import UsageError
from chronos_export.forecaster.batches import batches
from chronos_export.forecaster.inputs import as_tasks
from tests.helpers.inputs import inputs

HORIZON = 5


def same(mine: np.ndarray, theirs: torch.Tensor) -> bool:
    return np.array_equal(mine, theirs.numpy(), equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(given_inputs=inputs(HORIZON), batch_size=st.integers(1, 12), context_length=st.integers(1, 100))
def test_rows_are_upstreams(given_inputs: Any, batch_size: int, context_length: int) -> None:
    theirs = Chronos2Dataset(given_inputs, context_length, HORIZON, batch_size, 16, mode=DatasetMode.TEST)
    mine = batches(as_tasks(given_inputs, HORIZON), batch_size, context_length, cross_learning=False)
    for batch, wanted in zip(mine, theirs, strict=True):
        assert same(batch.context, wanted["context"])
        assert same(batch.future, wanted["future_covariates"])
        assert same(batch.group_ids, wanted["group_ids"])
        assert [(part.start, part.stop) for part in batch.targets] == wanted["target_idx_ranges"]


@settings(max_examples=50, deadline=None)
@given(given_inputs=inputs(HORIZON))
def test_what_upstream_has_prepared(given_inputs: Any) -> None:
    prepared = Chronos2Dataset(given_inputs, 100, HORIZON, 8, 16, mode=DatasetMode.TEST).inputs
    for one, other in zip(as_tasks(prepared, HORIZON), as_tasks(given_inputs, HORIZON), strict=True):
        assert np.array_equal(one.context, other.context, equal_nan=True)
        assert np.array_equal(one.future, other.future, equal_nan=True)
        assert one.targets == other.targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_any_type(dtype: torch.dtype) -> None:
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    wanted = tensor.float().numpy()
    for given_inputs in (tensor, list(tensor), [{"target": item} for item in tensor]):
        assert np.array_equal([task.context for task in as_tasks(given_inputs, HORIZON)], wanted)


def test_a_tensor_that_learns() -> None:
    (task,) = as_tasks([torch.ones(3, requires_grad=True)], HORIZON)
    assert np.array_equal(task.context, np.ones((1, 3)))


def past(**covariates: Any) -> dict[str, Any]:
    return {"target": np.ones(10), "past_covariates": covariates}


@pytest.mark.parametrize(
    ("given_inputs", "message"),
    [
        ([], "`inputs` is empty"),
        (np.ones(16), "Expected 3-d tensor with shape"),
        (np.ones((4, 3)), "Expected 3-d tensor with shape"),
        ([np.ones((1, 2, 9)), np.ones(9)], "Each element should be 1-d .* index 0"),
        ([np.ones(9), np.ones(())], "Each element should be 1-d .* index 1"),
        ([np.ones(9), np.ones(0)], "at least one step.* index 1"),
        (
            [{"target": np.ones(10)}, {"target": np.ones(10), "extra": []}],
            r"Found invalid keys .*\['extra'\]",
        ),
        ([{"target": np.ones(10)}, {}], "does not contain the required key 'target'"),
        ([{"target": np.ones((1, 2, 17))}], "Target must be 1-d or 2-d"),
        ([{"target": np.ones(0)}], "no target has a time step"),
        ([past() | {"past_covariates": np.ones(10)}], "Found invalid type for `past_covariates`"),
        ([past(a=np.ones(9))], "`past_covariates` must be 1-d with length .* a with shape"),
        ([past(a=np.ones((1, 10)))], "`past_covariates` must be 1-d with length"),
        ([past() | {"future_covariates": [1]}], "Found invalid type for `future_covariates`"),
        ([past() | {"future_covariates": {"a": np.ones(5)}}], "Expected keys in `future_covariates`"),
        (
            [past(a=np.ones(10)) | {"future_covariates": {"a": np.ones(4)}}],
            "`future_covariates` must be 1-d with length",
        ),
        ([past(), {"target": np.ones((2, 5))}], "same n_targets. Expected 1, got 2 at index 1"),
        (
            [past(a=np.ones(10)), past(b=np.ones(10))],
            r"same past_covariates keys. Expected \['a'\], got \['b'\]",
        ),
        (
            [past(a=np.ones(10)) | {"future_covariates": {"a": np.ones(5)}}, past(a=np.ones(10))],
            "same future_covariates keys",
        ),
        (
            [past(a=np.ones(10)) | {"future_covariates": {"a": values}} for values in (None, np.ones(5))],
            "same future_covariates whose values are given",
        ),
    ],
)
def test_what_upstream_refuses_is_refused_in_its_words(given_inputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        as_tasks(given_inputs, HORIZON)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(
    "given_inputs",
    [
        ["series"],
        [[1.0, 2.0]],
        [np.array(["1.0", "2.0"])],
        np.zeros((1, 1, 3), complex),
        [{"context": np.ones((1, 3))}],
        [{"context": np.ones(3), "future_covariates": np.ones((1, 5)), "n_targets": 1}],
    ],
)
def test_what_is_no_series_is_a_type_error_as_upstream_has_it(given_inputs: Any) -> None:
    with pytest.raises(TypeError) as error:
        as_tasks(given_inputs, HORIZON)
    assert isinstance(error.value, UsageError)


def test_rows_that_were_prepared_apart() -> None:
    prepared = {"context": np.ones((2, 3)), "future_covariates": np.ones((1, 5)), "n_targets": 1}
    with pytest.raises(UsageError, match="same first dimension, got 2 and 1"):
        as_tasks([prepared], HORIZON)


def test_true_is_not_one_and_one_is_not_true() -> None:
    """As for pandas: a flag that is numbers in the future has not been seen in the past."""
    item = {"target": np.ones((2, 4)), "past_covariates": {"flag": np.array([True, False] * 2)}}
    ahead = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    (task,) = as_tasks([item | {"future_covariates": {"flag": ahead}}], HORIZON)
    assert np.isnan(task.future[2]).all()
    (task,) = as_tasks([item | {"future_covariates": {"flag": ahead == 1}}], HORIZON)
    assert np.array_equal(task.future[2], ahead)
