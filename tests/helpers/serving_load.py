"""Requests of many kinds and what asks a server for them; run as a program where the clients are installed.

python serving_load.py ADDRESS GRPC_ADDRESS COUNT CLIENTS OUTPUT.npz
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

MODEL, LEVELS = "chronos-2", [0.1, 0.25, 0.5, 0.9]
KINDS = ("http", "grpc", "invocations")


def tensors(number: int) -> tuple[dict[str, np.ndarray], int]:
    """Rows with few, colliding ids, or none, and perhaps covariates; and how far ahead."""
    rng = np.random.default_rng(number)
    rows, length, horizon = (int(rng.integers(1, most)) for most in (7, 70, 50))
    context = rng.normal(10, 3, (rows, length)).astype(np.float32)
    context[:, 1:][rng.random((rows, length - 1)) < 0.1] = np.nan
    found = {"context": context}
    if rng.random() < 0.7:
        found["group_ids"] = rng.integers(0, 3, rows)
    if rng.random() < 0.5:
        found["future_covariates"] = rng.normal(0, 1, (rows, horizon)).astype(np.float32)
        found["future_covariates"][0] = np.nan
    return found, horizon


def payload(number: int) -> dict[str, Any]:
    """Series with a covariate that is known, one that is not, and a category, or with none."""
    rng = np.random.default_rng(number)
    horizon, with_covariates, inputs = int(rng.integers(1, 50)), rng.random() < 0.6, []
    for _ in range(int(rng.integers(1, 5))):
        length = int(rng.integers(5, 70))
        item: dict[str, Any] = {"target": rng.normal(10, 3, length).tolist()}
        if with_covariates:
            item["past_covariates"] = {
                "known": rng.normal(0, 1, length).tolist(),
                "past": rng.normal(0, 1, length).tolist(),
                "kind": rng.choice(["a", "b"], length).tolist(),
            }
            item["future_covariates"] = {
                "known": rng.normal(0, 1, horizon).tolist(),
                "kind": rng.choice(["a", "b", "new"], horizon).tolist(),
            }
        inputs.append(item)
    parameters: dict[str, Any] = {"prediction_length": horizon, "quantile_levels": LEVELS}
    if rng.random() < 0.2:
        parameters["cross_learning"] = True
    return {"inputs": inputs, "parameters": parameters}


def as_call(asked: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A payload as `predict_quantiles` takes it."""

    def arrays(found: Any) -> Any:
        return (
            {key: arrays(value) for key, value in found.items()}
            if isinstance(found, dict)
            else np.array(found)
        )

    return [arrays(item) for item in asked["inputs"]], asked["parameters"]


def kind_of(number: int) -> str:
    return KINDS[number % len(KINDS)]


def stacked(predictions: list[dict[str, Any]]) -> np.ndarray:
    """float32 [series, levels, steps]."""
    rows = [[item[str(level)] for level in LEVELS] for item in predictions]
    return np.asarray(rows, dtype=np.float32)


def main(address: str, grpc_address: str, count: int, clients: int, output: str) -> None:
    import requests
    import tritonclient.grpc
    import tritonclient.http

    @cache
    def triton(kind: str, thread: int) -> Any:
        if kind == "http":
            return tritonclient.http.InferenceServerClient(address, network_timeout=60)
        return tritonclient.grpc.InferenceServerClient(grpc_address)

    def ask(number: int, thread: int) -> np.ndarray:
        kind = kind_of(number)
        if kind == "invocations":
            found = requests.post(f"http://{address}/invocations", json=payload(number), timeout=60)
            found.raise_for_status()
            return stacked(found.json()["predictions"])
        client = tritonclient.http if kind == "http" else tritonclient.grpc
        given, horizon = tensors(number)
        inputs = []
        for name, values in given.items():
            one = client.InferInput(name, list(values.shape), "INT64" if name == "group_ids" else "FP32")
            one.set_data_from_numpy(values)
            inputs.append(one)
        answer = triton(kind, thread).infer(MODEL, inputs, parameters={"prediction_length": horizon})
        return np.asarray(answer.as_numpy("quantile_preds"))

    def client(thread: int) -> dict[str, np.ndarray]:
        return {str(number): ask(number, thread) for number in range(thread, count, clients)}

    with ThreadPoolExecutor(clients) as pool:
        answers = [pair for found in pool.map(client, range(clients)) for pair in found.items()]
    assert len(answers) == count
    np.savez(output, **dict(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
