"""The artifact behind upstream's own pipeline: the same forecasts for whatever that pipeline can be asked."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline

from chronos_export import export, load
from chronos_export.artifact.reading import Artifact
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import IntegrityError, UsageError
from chronos_export.validation import real_series as demo_data
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.upstream import assert_as_upstream, exact_pipeline

LONGER = "We recommend keeping prediction length"


@dataclass(frozen=True)
class Three:
    """The pipeline under test, upstream's, and upstream's in float64."""

    mine: Chronos2Pipeline
    upstream: Chronos2Pipeline
    exact: Chronos2Pipeline

    def compare(self, inputs: Any, **options: Any) -> None:
        """Ask all three to predict."""
        answers = [pipeline.predict(inputs, **options) for pipeline in (self.mine, self.upstream, self.exact)]
        assert_as_upstream(*answers)


def three(source: str, artifact: Artifact) -> Three:
    upstream = load_checkpoint(source).pipeline
    return Three(load(artifact.path, threads=1), upstream, exact_pipeline(upstream))


@pytest.fixture(scope="module")
def demo(artifact_of: Callable[[str], Artifact]) -> Three:
    return three("demo", artifact_of("demo"))


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Three:
    """A small model that forecasts 64 steps at most before it must unroll, from 256 at most."""
    folder = tmp_path_factory.mktemp("near")
    source = make_checkpoint(folder / "source", "small", context_length=256, max_output_patches=4)
    return three(str(source), export(str(source), output=folder / "artifact"))


def real(name: str) -> np.ndarray:
    """[targets, time] of a real data set, without its last horizon."""
    data = demo_data.load(name)
    past, _ = data.hold_out()
    return past[list(data.targets)].to_numpy(np.float32).T.copy()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).cumsum(-1)


@pytest.mark.parametrize("name", demo_data.NAMES)
def test_predict_on_real_data(name: str, demo: Three) -> None:
    """Univariate each, then all targets together; co2 has missing weeks."""
    series = real(name)
    horizon = demo_data.load(name).horizon
    demo.compare([torch.from_numpy(row) for row in series], prediction_length=horizon)
    demo.compare([torch.from_numpy(series)], prediction_length=horizon)


def test_ragged_mixture_of_real_series(demo: Three) -> None:
    inputs = [torch.from_numpy(real(name)) for name in demo_data.NAMES]
    demo.compare([*inputs, inputs[0][0], inputs[1][0, :3], inputs[2][0, :1]], prediction_length=20)


def test_predict_quantiles(demo: Three) -> None:
    series = [torch.from_numpy(real("macrodata"))]
    answers = [
        pipeline.predict_quantiles(series, prediction_length=8, quantile_levels=[0.1, 0.45, 0.5, 0.99])
        for pipeline in (demo.mine, demo.upstream, demo.exact)
    ]
    for part in (0, 1):  # quantiles, mean
        assert_as_upstream(*(answer[part] for answer in answers))


@pytest.mark.filterwarnings("ignore:A future version of pandas will return a BaseOffset:DeprecationWarning")
def test_predict_df_with_known_covariates(demo: Three) -> None:
    data = demo_data.load("macrodata")
    past, future = data.hold_out()
    options = {
        "future_df": future[["item_id", "timestamp", "realint", "infl"]],
        "prediction_length": data.horizon,
        "quantile_levels": [0.1, 0.5, 0.9],
        "target": ["realgdp", "realcons", "unemp"],
    }
    past = past[["item_id", "timestamp", "realint", "infl", "realgdp", "realcons", "unemp"]]
    frames = [pipeline.predict_df(past, **options) for pipeline in (demo.mine, demo.upstream)]
    values = ["predictions", "0.1", "0.5", "0.9"]
    assert frames[0].drop(columns=values).equals(frames[1].drop(columns=values))
    assert len(frames[0]) == 3 * data.horizon
    # float64 through a DataFrame would be cast on its way in, so the noise is that of the same rows here.
    inputs = [
        {
            "target": past[options["target"]].to_numpy(np.float32).T,
            "past_covariates": {c: past[c].to_numpy(np.float32) for c in ("realint", "infl")},
            "future_covariates": {c: future[c].to_numpy(np.float32) for c in ("realint", "infl")},
        }
    ]
    near, true = (p.predict(inputs, prediction_length=data.horizon)[0] for p in (demo.upstream, demo.exact))
    allowed = 10 * (near - true).abs().amax((1, 2)).numpy()
    for limit, name in zip(allowed, options["target"], strict=True):
        mine, theirs = (f[f["target_name"] == name][values].to_numpy() for f in frames)
        assert np.abs(mine - theirs).max() <= limit


def test_covariates_change_the_forecast(demo: Three) -> None:
    """So that the test before this one can fail."""
    target, flag = noise(1, 90)[0].numpy(), np.tile([0.0, 1.0], 45)
    options = [{"target": target, "past_covariates": {"flag": flag}, "future_covariates": {"flag": ahead}}
               for ahead in (np.zeros(16), np.ones(16))]  # fmt: skip
    one, two = (demo.mine.predict([o], prediction_length=16)[0] for o in options)
    assert (one - two).abs().max() > 1e-3
    demo.compare(options, prediction_length=16)


@pytest.mark.parametrize("batch_size", [256, 5])
def test_cross_learning(batch_size: int, demo: Three) -> None:
    series = [row[-200:] for row in torch.from_numpy(real("macrodata"))]
    demo.compare(series, prediction_length=12, cross_learning=True, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [256, 100, 7])
def test_107_rows_and_groups_larger_than_the_batch(batch_size: int, near: Three) -> None:
    groups = [noise(5, 60, seed=i) for i in range(19)] + [noise(12, 60, seed=99)]
    near.compare(groups, prediction_length=10, batch_size=batch_size)


@pytest.mark.parametrize("shape", [(6, 1, 50), (3, 4, 50)], ids=["univariate", "multivariate"])
def test_tensors_of_three_dimensions(shape: tuple[int, ...], near: Three) -> None:
    near.compare(noise(*shape), prediction_length=16)
    near.compare(noise(*shape).numpy(), prediction_length=16)


def test_series_of_one_and_two_dimensions_in_one_list(near: Three) -> None:
    near.compare([noise(50), noise(2, 33), noise(1, 7), noise(1)], prediction_length=16)


def test_context_longer_than_the_models_and_shorter_by_request(near: Three) -> None:
    near.compare([noise(2, 700), noise(300)], prediction_length=16)
    near.compare([noise(2, 700), noise(300)], prediction_length=16, context_length=37)


@pytest.mark.filterwarnings(f"ignore:{LONGER}:UserWarning")
@pytest.mark.parametrize("horizon", [64, 65, 150, 300])
def test_horizons_past_the_models_own(horizon: int, near: Three) -> None:
    """Unrolled by upstream's pipeline: nine paths a row."""
    near.compare([noise(3, 90), noise(40)], prediction_length=horizon)


@pytest.mark.filterwarnings(f"ignore:{LONGER}:UserWarning")
def test_long_horizons_with_covariates_and_cross_learning(near: Three) -> None:
    inputs = [
        {
            "target": noise(80, seed=i).numpy(),
            "past_covariates": {"known": noise(80, seed=i + 10).numpy()},
            "future_covariates": {"known": noise(100, seed=i + 20).numpy()},
        }
        for i in range(3)
    ]
    near.compare(inputs, prediction_length=100)
    near.compare(inputs, prediction_length=100, cross_learning=True)


@pytest.mark.slow
@pytest.mark.filterwarnings(f"ignore:{LONGER}:UserWarning")
def test_1100_steps_from_8192(
    artifact_of: Callable[[str], Artifact], checkpoint_of: Callable[[str], str]
) -> None:
    """With the limits of amazon/chronos-2."""
    three(checkpoint_of("small"), artifact_of("small")).compare(
        [noise(3, 9000), noise(40)], prediction_length=1100
    )


def test_an_infinity_stays_in_its_group(near: Three) -> None:
    """Upstream answers NaN to the whole batch."""
    groups = [noise(3, 60, seed=i) for i in range(4)]
    clean = near.mine.predict(groups, prediction_length=16)
    groups[2] = groups[2].clone()
    groups[2][1, 30] = torch.inf
    out = near.mine.predict(groups, prediction_length=16)
    for i in (0, 1, 3):
        assert_as_upstream([out[i]], [clean[i]], [near.exact.predict([groups[i]], prediction_length=16)[0]])
    assert not out[2].isfinite().all()


def test_a_series_whose_sum_overflows_leaves_the_others_their_forecasts(near: Three) -> None:
    """Two values of NoData, as raster formats mark it: upstream clamps the mean, so 19 of 20 are forecast."""
    series = noise(20, 100)
    series[7, [20, 60]] = torch.finfo(torch.float32).min
    options = {"prediction_length": 16, "cross_learning": True}
    mine, upstream, exact = (
        p.predict(list(series), **options) for p in (near.mine, near.upstream, near.exact)
    )
    finite = [bool(forecast.isfinite().all()) for forecast in mine]
    assert finite == [bool(forecast.isfinite().all()) for forecast in upstream]
    assert finite.count(True) == 19
    others = [[forecast for n, forecast in enumerate(all_) if n != 7] for all_ in (mine, upstream, exact)]
    assert_as_upstream(*others)


@pytest.mark.parametrize("level", [0.1, 19.99, 123456.789])
def test_a_constant_covariate_tells_nothing_on_any_level(level: float, demo: Three) -> None:
    """As in float64; where upstream's float32 misses the mean by a bit, that bit is divided by itself."""
    target = noise(30)

    def forecast(pipeline: Chronos2Pipeline, constant: float) -> torch.Tensor:
        return pipeline.predict([torch.stack([target, torch.full((30,), constant)])], 16)[0][:1]

    wanted = [forecast(demo.upstream, 0.0)], [forecast(demo.exact, 0.0)]
    assert_as_upstream([forecast(demo.mine, level)], *wanted)


def test_threads_share_a_pipeline(near: Three) -> None:
    inputs = [[noise(4, 50 + i, seed=i), noise(30 + i, seed=i)] for i in range(12)]
    alone = [near.mine.predict(series, prediction_length=20) for series in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = pool.map(lambda series: near.mine.predict(series, prediction_length=20), inputs)
            for one, other in zip(together, alone, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_upstreams_class_with_the_models_own_limits(near: Three) -> None:
    assert isinstance(near.mine, Chronos2Pipeline)
    for name in ("model_context_length", "model_output_patch_size", "model_prediction_length", "quantiles"):
        assert getattr(near.mine, name) == getattr(near.upstream, name)


@pytest.mark.parametrize(
    ("ask", "missing"),
    [
        (lambda pipeline: pipeline.fit([noise(50)], prediction_length=4), "config"),
        (lambda pipeline: pipeline.save_pretrained("nowhere"), "save_pretrained"),
        (lambda pipeline: pipeline.model.to("cpu"), "to"),
    ],
    ids=["fit", "save_pretrained", "to"],
)
def test_what_a_graph_cannot_do_is_said(
    ask: Callable[[Chronos2Pipeline], Any], missing: str, near: Three
) -> None:
    with pytest.raises(UsageError, match=f"forecasts, and has no {missing!r}") as error:
        ask(near.mine)
    assert "accelerate" in error.value.fix
    assert not hasattr(near.mine.model, missing)


@pytest.mark.parametrize("copied", [deepcopy, lambda pipeline: pickle.loads(pickle.dumps(pipeline))])
def test_a_copy_forecasts_the_same(
    copied: Callable[[Chronos2Pipeline], Chronos2Pipeline],
    artifact_of: Callable[[str], Artifact],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = artifact_of("toy")
    monkeypatch.chdir(artifact.path.parent)
    pipeline = load(artifact.path.name, threads=1)
    monkeypatch.chdir("/")
    other = copied(pipeline)
    assert other.model.session is not pipeline.model.session
    (one,), (two,) = (p.predict([noise(2, 50)], prediction_length=16) for p in (pipeline, other))
    assert torch.equal(one, two)


def test_a_pickle_is_verified_when_it_is_opened(
    artifact_of: Callable[[str], Artifact], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(artifact_of("toy").path, tmp_path / "mine"))
    pickled = pickle.dumps(load(folder, threads=1))
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(IntegrityError, match=r"model\.onnx has"):
        pickle.loads(pickled)


@pytest.mark.parametrize("threads", [-1, "2", None])
def test_threads_that_are_no_number_are_refused(threads: Any, artifact_of: Callable[[str], Artifact]) -> None:
    with pytest.raises(UsageError, match=f"threads is {threads!r}"):
        load(artifact_of("toy").path, threads=threads)


def test_pytorchs_default_type_and_device_are_not_asked(near: Three) -> None:
    context, covariates = noise(3, 50), noise(3, 20)
    ask = {"context": context, "future_covariates": covariates, "num_output_patches": 2}
    usual = near.mine.model(**ask).quantile_preds
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = near.mine.model(**ask).quantile_preds
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(found, usual)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"context": torch.zeros(0, 5)}, r"context has shape \[0, 5\]"),
        ({"context": torch.zeros(3, 0)}, r"context has shape \[3, 0\]"),
        ({"context": torch.zeros(5)}, r"context has shape \[5\]"),
        ({"context": torch.zeros(3, 5, dtype=torch.int64)}, "type int64"),
        ({"context": torch.zeros(3, 5), "group_ids": torch.arange(2)}, r"group_ids has shape \[2\]"),
        ({"context": torch.zeros(3, 5), "group_ids": torch.zeros(3)}, "type float32"),
        ({"context": torch.zeros(3, 5), "future_covariates": torch.zeros(2, 16)}, r"has shape \[2, 16\]"),
        ({"context": torch.zeros(3, 5), "future_covariates": torch.zeros(3, 17)}, r"has shape \[3, 17\]"),
        ({"context": torch.zeros(3, 5), "num_output_patches": 0}, "num_output_patches is 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(call: dict[str, Any], message: str, near: Three) -> None:
    with pytest.raises(UsageError, match=message) as error:
        near.mine.model(**call)
    assert error.value.exit_code == 2
    assert error.value.allowed


def test_a_pipeline_opens_nothing_that_is_not_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        load(tmp_path / "nowhere")


def test_forecasting_needs_none_of_what_exports(artifact_of: Callable[[str], Artifact]) -> None:
    """A new process waits for what it imports: upstream is the floor, and the graphs are opened meanwhile."""
    program = """
import sys
from chronos_export import load
assert not {"torch", "chronos"} & set(sys.modules)
import torch
load(sys.argv[1], threads=1).predict(torch.randn(2, 1, 40), prediction_length=3)
for name in ("onnx", "polygraphy", "openvino", "chronos_export.model", "chronos_export.graph"):
    assert name not in sys.modules, f"imported {name}"
"""
    command = [sys.executable, "-c", program, str(artifact_of("toy").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
