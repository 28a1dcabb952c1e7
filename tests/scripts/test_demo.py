"""The bundled checkpoint is whole, small, trained as its card says, and as good as its card says."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model

from chronos_export.errors import MachineError, UsageError
from chronos_export.validation import real_series as demo_data
from scripts.train_demo import score, synthetic
from scripts.train_demo.card import ratio
from scripts.train_demo.train import Recipe, Stage, train

ROOT = Path(__file__).parents[2]

DEMO = ROOT / "exporter" / "chronos_export" / "checkpoint" / "demo"
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


def stated() -> score.Table:
    """The table of the card."""
    rows = re.findall(r"^\| (\w+) \| ([\d. |]+) \|$", CARD, flags=re.MULTILINE)
    labels = ("demo", "seasonal naive", "last value")
    table: score.Table = {}
    for name, line in rows:
        cells = [float(cell) for cell in line.split("|")]
        table[name] = {
            label: {"mase": cells[column], "wql": cells[column + 3]} for column, label in enumerate(labels)
        }
    return table


def test_its_scores_are_those_of_the_card(table: score.Table) -> None:
    assert set(stated()) == set(table)
    for name, row in stated().items():
        for label, metrics in row.items():
            assert table[name][label] == pytest.approx(metrics, rel=0, abs=ROUNDING + NOISE), (name, label)


@pytest.mark.parametrize(("metric", "phrase"), [("mase", "forecast in MASE"), ("wql", "In WQL")])
def test_it_is_ahead_of_the_seasonal_naive_where_the_card_says_so(metric: str, phrase: str) -> None:
    found = re.search(rf"{phrase}: ([\w, ]+)\.", CARD)
    assert found
    named = set(found[1].split(", ")) - {"none"}
    for name, row in stated().items():
        lead = row["seasonal naive"][metric] - row["demo"][metric]
        assert lead >= -2 * ROUNDING if name in named else lead <= 2 * ROUNDING, name
    assert named <= set(stated())


def test_the_mean_ratios_of_the_card_follow_from_its_table() -> None:
    found = re.search(r"Geometric mean .* MASE ([\d.]+), WQL ([\d.]+)\.", CARD)
    assert found
    for metric, said in zip(("mase", "wql"), found.groups(), strict=True):
        pairs = [(row["demo"][metric], row["seasonal naive"][metric]) for row in stated().values()]
        slack = np.mean([ROUNDING / demo + ROUNDING / naive for demo, naive in pairs])
        follows = ratio(stated(), metric)
        assert float(said) == pytest.approx(follows, rel=0, abs=1.1 * slack * follows + 0.5e-3)


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
    """Noise can only be forecast from a covariate that carries it; otherwise half of the series gain."""
    better = [miss(pipeline, seed, told=True) < miss(pipeline, seed, told=False) for seed in range(12)]
    assert sum(better) >= 11  # by chance: once in 300 times


def miss(pipeline: Chronos2Pipeline, seed: int, told: bool) -> float:
    """Mean absolute error of the forecast of a target that is its covariate, known ahead or not."""
    horizon = 48
    driver = np.random.default_rng(seed).normal(size=512 + horizon)
    task = {"target": 100 + 3 * driver[:-horizon], "past_covariates": {"driver": driver[:-horizon]}}
    ahead = {"future_covariates": {"driver": driver[-horizon:]}} if told else {}
    forecast, _ = pipeline.predict_quantiles(
        [{**task, **ahead}], prediction_length=horizon, quantile_levels=[0.5]
    )
    return float(np.abs(forecast[0][0, :, 0].numpy() - 100 - 3 * driver[-horizon:]).mean())


def test_training_twice_gives_the_same_weights() -> None:
    tiny = {"d_model": 32, "d_ff": 32, "layers": 1, "heads": 1}
    stages = (Stage(context=3, outputs=1, rows=16, steps=2), Stage(context=4, outputs=2, rows=8, steps=2))
    recipe = Recipe(stages=stages, series=64, longest=4, **tiny)
    first, again = (train(recipe).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = train(replace(recipe, seed=1)).model.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_tasks_are_what_fit_takes_and_hold_each_kind_of_row() -> None:
    pool = synthetic.Pool(3, rows=256, length=200)
    tasks = synthetic.Tasks(pool, seed=0, count=10**6, shortest=64, longest=160, horizon=32)
    found = [tasks[index] for index in range(200)]
    kinds = {(len(t["context"]), t["n_targets"], t["n_covariates"], t["n_future_covariates"]) for t in found}
    assert kinds == {(1, 1, 0, 0), (3, 1, 2, 2), (3, 1, 2, 0), (3, 3, 0, 0)}
    lengths = [task["context"].shape[1] for task in found]
    assert min(lengths) >= 64 and max(lengths) <= 160 and len(set(lengths)) > 50
    assert any(torch.isnan(task["context"]).any() for task in found)
    assert not any(torch.isinf(task["context"]).any() for task in found)
    assert all(task["future_covariates"].shape == (len(task["context"]), 32) for task in found)


def test_a_task_is_always_the_same() -> None:
    pool = synthetic.Pool(3, rows=64, length=200)
    once, again, other = (
        synthetic.Tasks(pool, seed, count=10, shortest=64, longest=160, horizon=32) for seed in (0, 0, 1)
    )
    for index in (9, 0, 4):
        assert torch.equal(once[index]["context"].nan_to_num(), again[index]["context"].nan_to_num())
        assert not torch.equal(once[index]["context"], other[index]["context"])


def test_the_target_of_known_covariates_is_made_of_them() -> None:
    """Least squares on the covariates explains most of it; on another group's covariates, next to nothing."""
    pool, rng = synthetic.Pool(3, rows=256, length=600), np.random.default_rng(0)
    tasks = synthetic.Tasks(pool, seed=0, count=1, shortest=64, longest=500, horizon=32)
    groups = np.stack([tasks.driven(rng, 500) for _ in range(40)]).astype(np.float64)

    def explained(target: int, covariates: int) -> float:
        known = np.column_stack([groups[covariates, 1:].T, np.ones(groups.shape[2])])
        rest = groups[target, 0] - known @ np.linalg.lstsq(known, groups[target, 0], rcond=None)[0]
        return float(1 - rest.var() / groups[target, 0].var())

    assert np.median([explained(group, group) for group in range(40)]) > 0.8
    assert np.median([explained(group, (group + 1) % 40) for group in range(40)]) < 0.2


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
