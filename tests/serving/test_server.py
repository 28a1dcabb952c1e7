"""Real servers, as their clients meet them."""

from __future__ import annotations

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from chronos_export import Forecaster
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.forecaster.model import Model, open_model
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.runners import upstream_forecast
from tests.helpers.serving import SERIES, Server, assert_serves, load, run_client, serving
from tests.helpers.serving_load import as_call, kind_of, payload, tensors
from tests.helpers.upstream import assert_as_upstream, exact_pipeline

REQUESTS, CLIENTS = 500, 16
WARM_UP = 3  # rows of the first forecast


def lone_tensors(model: Model, given: dict[str, np.ndarray], horizon: int) -> np.ndarray:
    patches = -(-horizon // model.patch)
    future = given.get("future_covariates")
    answer = model.rows.forecast(given["context"], given.get("group_ids"), patches, future)
    return answer[:, :, :horizon]


def test_each_answer_among_many_is_the_lone_one(artifact: Path, toy: Path, tmp_path: Path) -> None:
    """Within ten times the rounding of the lone one itself, which its distance from float64 tells."""
    with serving(artifact, tmp_path) as server:
        load(server, REQUESTS, CLIENTS, tmp_path / "answers.npz")
        server.wait_for(lambda: len(server.events("request")) == REQUESTS)
        counted = {name: server.metric(f"chronos_export_{name}") for name in ("requests_total", "rows_total")}
        calls = server.metric("chronos_export_call_seconds_count")
    answers = np.load(tmp_path / "answers.npz")
    model = open_model(artifact, "onnxruntime", "cpu", 1).model
    forecaster = Forecaster(artifact, "onnxruntime", "cpu", 1)
    upstream = load_checkpoint(str(toy)).pipeline
    exact, exact_model = exact_pipeline(upstream), in_float64(upstream.model)
    rows, found, lone, true = WARM_UP, [], [], []
    for number in range(REQUESTS):
        found += list(answers[str(number)])
        if kind_of(number) == "invocations":
            inputs, options = as_call(payload(number))
            lone += list(by_level(forecaster.predict_quantiles(inputs, **options)[0]))
            true += list(by_level(exact.predict_quantiles(inputs, **options)[0]))
            rows += sum(1 + len(item.get("past_covariates", ())) for item in inputs)
            continue
        given, horizon = tensors(number)
        lone += list(lone_tensors(model, given, horizon))
        ids = given.get("group_ids", np.arange(len(given["context"])))
        future = np.full((len(ids), -(-horizon // model.patch) * model.patch), np.nan, np.float32)
        future[:, :horizon] = given.get("future_covariates", np.nan)
        case = Case("", given["context"], ids, future)
        true += list(upstream_forecast(exact_model, case, torch.float64)[:, :, :horizon])
        rows += len(ids)
    assert_as_upstream(found, lone, true)
    assert counted == {"requests_total": REQUESTS, "rows_total": rows}
    assert calls < REQUESTS  # some were merged


def by_level(quantiles: list[Any]) -> np.ndarray:
    """[series, levels, steps] of what has one target each, [1, steps, levels]."""
    return np.stack([np.asarray(found)[0].T for found in quantiles])


def test_more_requests_than_it_takes_are_refused_with_numbers(artifact: Path, tmp_path: Path) -> None:
    with serving(artifact, tmp_path, "--max-requests", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
            server.wait_for(lambda: server.metric("chronos_export_requests_under_way") == 1)
            status, answer = server.ask("POST", "/invocations", {"inputs": [SERIES]})
        assert (status, answer["error"].splitlines()[0]) == (429, "1 requests with 9 bytes are under way")
        server.wait_for(lambda: server.metric("chronos_export_requests_under_way") == 0)
        assert_serves(server)


def test_a_signal_drains(artifact: Path, tmp_path: Path) -> None:
    """What is under way is answered, nothing new is taken, and the process ends with 0."""
    asked = {"inputs": [{"target": list(range(2000))}] * 200, "parameters": {"prediction_length": 64}}
    with serving(artifact, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.ask, "POST", "/invocations", asked)
        server.wait_for(lambda: server.metric("chronos_export_requests_under_way") == 1)
        server.process.send_signal(signal.SIGTERM)
        status, found = answer.result(60)
        assert (status, len(found["predictions"])) == (200, 200)
        assert server.process.wait(30) == 0
        assert [event["under_way"] for event in server.events("draining")] == [1]
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/ping")


def test_nothing_but_loopback_is_listened_on(server: Server) -> None:
    found = psutil.Process(server.process.pid).net_connections("inet")
    listening = {
        (one.laddr.ip.removeprefix("::ffff:"), one.laddr.port)
        for one in found
        if one.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", server.port), ("127.0.0.1", server.grpc_port)}


def test_a_taken_port_is_an_error_with_its_fix(server: Server, artifact: Path, tmp_path: Path) -> None:
    for option, port in (("--port", server.port), ("--grpc-port", server.grpc_port)):
        other = {"--port": "--grpc-port", "--grpc-port": "--port"}[option]
        with (
            pytest.raises(AssertionError, match=f"(?s)cannot be listened on.*fix: give another {option}"),
            serving(artifact, tmp_path, option, str(port), other, "0"),
        ):
            pass


def test_a_client_that_leaves_is_dropped(artifact: Path, tmp_path: Path) -> None:
    """Behind the second of two long calls, a queued request whose client leaves is not computed."""
    long = {"inputs": [{"target": [1, 2] * 500}] * 2000, "parameters": {"batch_size": 1000}}
    other = {"inputs": [SERIES], "parameters": {"prediction_length": 20}}  # not to be merged with it
    limits = ("--max-rows", "2000", "--max-steps", "10000000")
    with serving(artifact, tmp_path, *limits) as server, ThreadPoolExecutor(1) as pool:
        before, calls = server.metric("chronos_export_rows_total"), "chronos_export_call_seconds_count"
        calls_before = server.metric(calls)
        first = pool.submit(server.ask, "POST", "/invocations", long)
        server.wait_for(lambda: server.metric(calls) > calls_before)
        connection = server.connect()
        connection.request("POST", "/invocations", json.dumps(other))
        server.wait_for(lambda: server.metric("chronos_export_queued_requests") == 1)
        connection.close()
        assert first.result(60)[0] == 200
        server.wait_for(lambda: len(server.events("request")) == 2)
        assert [event["status"] for event in server.events("request")] == ["499", "200"]
        assert server.metric("chronos_export_rows_total") - before == 2000


def test_a_killed_server_comes_back_on_its_ports(artifact: Path, tmp_path: Path) -> None:
    with serving(artifact, tmp_path) as server:
        server.process.kill()
        server.process.wait()
    ports = ("--port", str(server.port), "--grpc-port", str(server.grpc_port))
    with serving(artifact, tmp_path, *ports) as again:
        assert_serves(again)


def test_a_fault_of_ours_is_told_of_without_values() -> None:
    assert run_client(FAULT).splitlines() == ["500 {'error': 'internal error'}", "ZeroDivisionError", "False"]


FAULT = """
import io, json, logging
from fastapi.testclient import TestClient
from kserve.model_repository import ModelRepository
from chronos_export.serving.application import application
from chronos_export.serving.kserve_models import FixedRepository, ReadyDataPlane
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.observing import LOG
class Faulty:
    name, ready = "faulty", True
    async def ask(self, work):
        raise ZeroDivisionError("421337")
lines = io.StringIO()
LOG.addHandler(logging.StreamHandler(lines))
LOG.setLevel(logging.INFO)
models = ModelRepository()
app = application(Faulty(), models, ReadyDataPlane(models), FixedRepository(models), ServingLimits())
answer = TestClient(app, raise_server_exceptions=False).post("/invocations", json={})
print(answer.status_code, answer.json())
print(json.loads(lines.getvalue().splitlines()[0])["error"])
print("421337" in lines.getvalue())
"""


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_half_an_hour_of_load_leaves_memory_flat(artifact: Path, tmp_path: Path) -> None:
    """Once every kind of request was answered, nothing grows: 5 % is what allocators vary by."""
    with serving(artifact, tmp_path) as server:
        process = psutil.Process(server.process.pid)
        used, end = [], time.monotonic() + 1800
        while time.monotonic() < end:
            load(server, REQUESTS, CLIENTS, tmp_path / "answers.npz")
            used.append(process.memory_info().rss)
        quarter = len(used) // 4
        assert quarter > 0
        assert np.median(used[-quarter:]) < 1.05 * np.median(used[quarter : 2 * quarter])
