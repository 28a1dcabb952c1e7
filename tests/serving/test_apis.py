"""The answers of a real server through each of its APIs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chronos_export import Forecaster
from tests.helpers.serving import Server
from tests.helpers.serving_load import as_call


def test_a_missing_value_is_null_or_nan(server: Server) -> None:
    answers = [
        server.ask("POST", "/invocations", f'{{"inputs": [{{"target": [3, 1, {missing}, 5]}}]}}')
        for missing in ("null", "NaN", "2")
    ]
    assert answers[0] == answers[1] != answers[2]


def test_the_endpoint_of_upstreams_notebook(server: Server, artifact: Path) -> None:
    """Its example with covariates, and what stands beside the numbers of its example with time stamps."""
    item = {
        "target": [1.0, 2.0, 3.0, 2.0, 0.5, 2.0, 3.0, 2.0, 1.0],
        "past_covariates": {
            "feat_1": [3.0, 6.0, 9.0, 6.0, 1.5, 6.0, 9.0, 6.0, 3.0],
            "feat_2": ["A", "B", "B", "B", "A", "A", "A", "A", "B"],
            "feat_3": [10.0, 20.0, 30.0, 20.0, 5.0, 20.0, 30.0, 20.0, 10.0],
        },
        "future_covariates": {"feat_1": [2.5, 2.2, 3.3], "feat_2": ["B", "A", "A"]},
    }
    asked = {"inputs": [item], "parameters": {"prediction_length": 3, "quantile_levels": [0.1, 0.5, 0.9]}}
    status, answer = server.ask("POST", "/invocations", asked)
    assert status == 200
    (found,) = answer["predictions"]
    assert list(found) == ["mean", "0.1", "0.5", "0.9"]
    assert found["mean"] == found["0.5"]
    inputs, options = as_call(asked)
    (lone,), _ = Forecaster(artifact, "onnxruntime", "cpu", 1).predict_quantiles(inputs, **options)
    assert np.array_equal(np.float32([found["0.1"], found["0.5"], found["0.9"]]), lone[0].T)

    stamps = [
        {
            "target": [1.0, 2.0, 3.0, 2.0, 0.5, 2.0, 3.0, 2.0, 1.0],
            "item_id": "A",
            "start": "2024-01-01T01:00:00",
        },
        {"target": [5.4, 3.0, 3.0, 2.0, 1.5, 2.0, -1.0], "item_id": "B", "start": "2024-02-02T03:00:00"},
    ]
    asked = {"inputs": stamps, "parameters": {"prediction_length": 5, "freq": "1h"}}
    found = server.ask("POST", "/invocations", asked)[1]["predictions"]
    assert [(one["item_id"], one["start"], len(one["mean"])) for one in found] == [
        ("A", "2024-01-01T10:00:00", 5),
        ("B", "2024-02-02T10:00:00", 5),
    ]
    asked = {
        "inputs": [{"target": [[1.0, 2.0, 3.0], [5.0, 4.0, 3.0]]}],
        "parameters": {"prediction_length": 4},
    }
    (found,) = server.ask("POST", "/invocations", asked)[1]["predictions"]
    assert np.shape(found["mean"]) == np.shape(found["0.9"]) == (2, 4)


def test_kserves_time_series(server: Server, artifact: Path) -> None:
    given = {"type": "univariate_time_series", "name": "a", "frequency": "M", "series": [1.0, 2.0, 3.0]}
    both = {**given, "type": "multivariate_time_series", "series": [[1.0, 2.0], [3.0, 4.0]]}
    asked = {
        "model": "chronos-2",
        "inputs": [{**given, "start_timestamp": "2024-01-31T00:00:00Z"}, both],
        "options": {"horizon": 2, "quantiles": [0.1]},
    }
    status, answer = server.ask("POST", "/v1/timeseries/forecast", asked)
    assert status == 200
    first, second = (output["content"][0] for output in answer["outputs"])
    assert first["start_timestamp"] == "2024-04-30T00:00:00Z"
    forecaster = Forecaster(artifact, "onnxruntime", "cpu", 1)
    series = [np.float32([1, 2, 3]), np.float32([[1, 2], [3, 4]])]
    quantiles, medians = forecaster.predict_quantiles(series, 2, [0.1])
    for found, low, median in zip((first, second), quantiles, medians, strict=True):
        assert np.array_equal(np.float32(found["mean_forecast"]).ravel(), median.ravel())
        assert np.array_equal(np.float32(found["quantiles"]["0.1"]).ravel(), low.ravel())
