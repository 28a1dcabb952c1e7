"""Cutting a batch into calls: nothing lost, nothing cut that belongs together, nothing changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import UsageError
from chronos_export.forecaster.model import Model
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime.batching import Call, Limits, observed_length, plan
from chronos_export.validation.exact import in_float64
from tests.helpers.checkpoints import make_model
from tests.helpers.torch_session import TorchSession
from tests.helpers.upstream import assert_as_upstream

PATCH = 16
NINE = Limits(profiles=(Profile(9, 200),), univariate_profiles=None)
Ints = NDArray[np.int64]

batches = st.lists(
    st.tuples(st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, 5, 2**63 - 1]), st.integers(1, 400)),
    min_size=1,
    max_size=60,
)
some_rows = st.one_of(st.just(()), st.integers(1, 80).map(lambda rows: (Profile(rows, 400),)))
limits = st.builds(
    Limits,
    tokens=st.integers(1, 3000),
    padding=st.floats(0, 1),
    profiles=some_rows,
    univariate_profiles=some_rows,
    least=st.sampled_from([0, 500]),
)


def cut(batch: list[tuple[int, int]], limit: Limits, horizon: int = 40) -> tuple[list[Call], Ints, Ints]:
    ids, lengths = (np.array(column, dtype=np.int64) for column in zip(*batch, strict=True))
    return plan(ids, lengths, horizon, PATCH, limit), ids, lengths


def too_large(batch: list[tuple[int, int]], limit: Limits) -> bool:
    ids = [group for group, _ in batch]
    sizes = [ids.count(group) for group in ids]
    return any(profile.rows < size for profile in limit.profiles for size in sizes if size > 1)


@settings(max_examples=300)
@given(batches, limits)
def test_every_promise(batch: list[tuple[int, int]], limit: Limits) -> None:
    if too_large(batch, limit):
        with pytest.raises(UsageError, match="more than any engine profile admits"):
            cut(batch, limit)
        return
    calls, ids, lengths = cut(batch, limit)
    ahead = 1 + 3  # REG and three patches of horizon
    answered = np.concatenate([call.rows for call in calls])
    assert sorted(answered) == list(range(len(batch)))  # every row, once
    for call in calls:
        groups = set(ids[call.rows])
        assert len(call.rows) == np.isin(ids, list(groups)).sum()  # no group cut
        assert call.univariate == (
            len(groups) == len(call.rows) and all((ids == g).sum() == 1 for g in groups)
        )
        assert call.context_length == lengths[call.rows].max()  # nothing observed is dropped, no padding kept
        profiles = limit.univariate_profiles if call.univariate else limit.profiles
        assert not profiles or len(call.rows) <= profiles[0].rows
        width = -(-call.context_length // PATCH) + ahead
        area = len(call.rows) * width
        assert call.tokens == area
        longest = {g: max(-(-lengths[i] // PATCH) + ahead for i in call.rows if ids[i] == g) for g in groups}
        used = sum(longest[ids[i]] for i in call.rows)
        assert len(groups) == 1 or area <= limit.tokens
        assert len(groups) == 1 or area <= limit.least or area - used <= limit.padding * area


@given(batches, limits)
def test_the_same_batch_is_cut_the_same_way(batch: list[tuple[int, int]], limit: Limits) -> None:
    if too_large(batch, limit):
        return
    one, two = (cut(batch, limit)[0] for _ in range(2))
    assert [(c.rows.tolist(), c.context_length, c.univariate) for c in one] == [
        (c.rows.tolist(), c.context_length, c.univariate) for c in two
    ]


def test_alike_rows_fill_calls() -> None:
    """97 tokens a row and 1600 a call: 16 rows each, none left half empty but the last."""
    calls, _, _ = cut([(i, 1440) for i in range(100)], Limits(tokens=1600), horizon=96)
    assert [len(call.rows) for call in calls] == [16] * 6 + [4]
    assert all(call.univariate for call in calls)


def test_a_group_is_never_cut_for_its_tokens() -> None:
    calls, _, _ = cut([(0, 400)] * 500 + [(1, 400)], Limits(tokens=100))
    assert sorted((len(call.rows), call.univariate) for call in calls) == [(1, True), (500, False)]


def test_a_group_over_every_profile_says_what_to_build() -> None:
    with pytest.raises(UsageError) as error:
        cut([(0, 10)] * 7, Limits(profiles=(Profile(4, 64),)))
    assert "7 rows of one group" in str(error.value)
    assert "--batch 7" in error.value.fix


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=8))
def test_observed_length(missing: list[list[bool]]) -> None:
    steps = observed_length(np.array(missing))
    for row, length in zip(missing, steps, strict=True):
        assert 1 <= length <= 5
        assert all(row[: 5 - length])
        assert length == 1 or not row[5 - length]


@pytest.mark.parametrize(
    "limit", [Limits(), Limits(tokens=60), Limits(tokens=400, padding=0.5), NINE], ids=str
)
def test_forecasts_do_not_depend_on_the_plan(limit: Limits) -> None:
    upstream = make_model("small")
    exact = in_float64(upstream)
    random = torch.Generator().manual_seed(0)
    rows = 40
    context = torch.randn(rows, 200, generator=random).cumsum(1)
    for row in range(rows):
        context[row, : int(200 * torch.rand((), generator=random) ** 2)] = torch.nan
    context[7] = torch.nan
    ids = torch.tensor([*[5] * 9, *range(100, 110), *[-1, 3] * 4, *[8] * 3, *range(-20, -10)])
    ids = ids[torch.randperm(rows, generator=random)]
    future = torch.full((rows, 37), torch.nan)
    future[::3] = torch.randn(future[::3].shape, generator=random)
    call = {"group_ids": ids, "num_output_patches": 3, "future_covariates": future}

    segmented = rewrite(upstream)
    session = TorchSession(segmented, univariate(segmented))
    config = upstream.config.chronos_config
    planned = SessionModel(Model.over(session, limit, config))(context, **call).quantile_preds
    whole = segmented(context, ids, torch.nn.functional.pad(future, (0, 11), value=torch.nan))
    with torch.no_grad():
        theirs = upstream(context, **call).quantile_preds
        truth = exact(context.double(), **{**call, "future_covariates": future.double()}).quantile_preds
    assert_as_upstream(list(planned), list(theirs), list(truth))
    assert_as_upstream(list(whole.detach()), list(theirs), list(truth))
