"""The bundled checkpoint is whole, small, trained as its card says, and as good as its card says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model

from chronos_export import demo_data
from chronos_export.errors import MachineError, UsageError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for scripts/, which is no package of ours

from scripts.train_demo import score, synthetic  # noqa: E402
from scripts.train_demo.card import ratio, wins  # noqa: E402
from scripts.train_demo.train import Recipe, train  # noqa: E402

DEMO = ROOT / "exporter" / "chronos_export" / "demo"
CARD = (DEMO / "README.md").read_text()
ROUNDING = 0.5e-4  # the card has four decimals
# Upstream's float32 forecasts move by 1e-5 of a series' deviation with the order of the sums. MASE counts in
# units that are at least 1/16 of it in these data sets, WQL in larger ones.
NOISE = 1e-5 * 16


@pytest.fixture(scope="module")
def pipeline() -> Chronos2Pipeline:
    loaded: Chronos2Pipeline = Chronos2Pipeline.from_pretrained(DEMO)
    return loaded


@pytest.fixture(scope="module")
def table(pipeline: Chronos2Pipeline) -> score.Table:
    return score.score_all(pipeline)


def test_every_weight_is_there_and_none_is_left_over() -> None:
    model, report = Chronos2Model.from_pretrained(DEMO, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.d_kv == 64
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_the_folder_fits_in_a_package() -> None:
    assert sum(file.stat().st_size for file in DEMO.iterdir()) <= 4_000_000
    assert "license: apache-2.0" in CARD


def test_its_scores_are_those_of_the_card(table: score.Table) -> None:
    rows = dict(re.findall(r"^\| (\w+) \| ([\d. |]+) \|$", CARD, flags=re.MULTILINE))
    assert set(rows) == set(table)
    for name, row in table.items():
        stated = [float(cell) for cell in rows[name].split("|")]
        found = [row[label][metric] for metric in ("mase", "wql") for label in row]
        np.testing.assert_allclose(stated, found, rtol=0, atol=ROUNDING + NOISE)


def test_it_is_ahead_of_the_seasonal_naive_where_the_card_says_so(table: score.Table) -> None:
    assert f"in MASE: {', '.join(wins(table, 'mase'))}." in CARD
    assert f"In WQL: {', '.join(wins(table, 'wql'))}." in CARD
    assert f"MASE {ratio(table, 'mase'):.3f}, WQL {ratio(table, 'wql'):.3f}." in CARD


def test_a_perfect_forecast_scores_0_and_a_known_one_scores_by_hand() -> None:
    history, actual = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[5.0, 6.0]])
    exact = np.repeat(actual[..., None], len(score.LEVELS), axis=2)
    assert score.scores(exact, actual, history, period=1) == (0.0, 0.0)
    # one too low everywhere: MASE 1 / 1, loss 2 * mean(levels) * 1 = 1, over the mean value 5.5
    assert score.scores(exact - 1, actual, history, period=1) == pytest.approx((1.0, 1 / 5.5))
    # one too high at the upper half costs what one too low costs at the lower half
    assert score.scores(exact + 1, actual, history, period=1) == pytest.approx((1.0, 1 / 5.5))


def test_the_seasonal_naive_repeats_the_last_season_and_widens_with_each() -> None:
    history = np.array([[1.0, 5.0, 2.0, np.nan, 3.0, 8.0]])
    quantiles = score.seasonal_naive(2)(history, 5)[0]
    np.testing.assert_array_equal(quantiles[:, 4], [3, 8, 3, 8, 3])
    spread = quantiles[:, -1] - quantiles[:, 0]
    np.testing.assert_allclose(spread / spread[0], np.sqrt([1, 1, 2, 2, 3]))


def test_a_known_covariate_reaches_the_forecast_through_group_attention(pipeline: Chronos2Pipeline) -> None:
    """Noise can only be forecast from a covariate that carries it; so small a model gains a few percent."""
    horizon = 48
    driver = np.random.default_rng(7).normal(size=512 + horizon)
    blind = {"target": 100 + 3 * driver[:-horizon], "past_covariates": {"driver": driver[:-horizon]}}
    told = {**blind, "future_covariates": {"driver": driver[-horizon:]}}
    misses = []
    for task in (blind, told):
        forecast, _ = pipeline.predict_quantiles([task], prediction_length=horizon, quantile_levels=[0.5])
        misses.append(np.abs(forecast[0][0, :, 0].numpy() - 100 - 3 * driver[-horizon:]).mean())
    assert misses[1] < 0.99 * misses[0]


def test_training_twice_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = Recipe(steps=4, tasks=60, tokens=256, d_model=32, d_ff=32, layers=1, heads=1)
    first, again = (train(recipe, tmp_path / name).model.state_dict() for name in ("first", "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = train(Recipe(**{**vars(recipe), "seed": 1}), tmp_path / "other").model.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_task_depends_on_its_seed_and_index_only() -> None:
    tasks = synthetic.pool(3, 40)
    again = synthetic.task(3, 39)
    torch.testing.assert_close(tasks[39]["context"], again["context"], rtol=0, atol=0, equal_nan=True)
    for task in tasks:
        rows = task["context"].shape[0]
        assert rows == task["n_targets"] + task["n_covariates"]
        assert task["n_future_covariates"] <= task["n_covariates"]
        assert not torch.isinf(task["context"]).any()
        known = task["context"][rows - task["n_future_covariates"] :]
        assert not torch.isnan(known).any()
    assert {task["n_covariates"] > 0 for task in tasks} == {True, False}
    assert any(task["n_targets"] > 1 for task in tasks)
    assert any(torch.isnan(task["context"]).any() for task in tasks)


@pytest.mark.parametrize("name", demo_data.NAMES)
def test_real_data_is_long_regular_and_split_without_overlap(name: str) -> None:
    data = demo_data.load(name)
    assert list(data.frame.columns) == ["item_id", "timestamp", *data.targets]
    assert data.frame["timestamp"].is_monotonic_increasing
    assert data.frame["timestamp"].is_unique
    past, future = data.hold_out(windows=2)
    assert len(future) == data.horizon
    assert past["timestamp"].max() < future["timestamp"].min()
    assert len(past) + 2 * data.horizon == len(data.frame)


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="macrodata"):
        demo_data.load("macro")


def test_without_statsmodels_the_error_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MachineError, match="pip install"):
        demo_data.load("nile")
