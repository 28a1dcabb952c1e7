"""What a real server says to a request that is wrong, too much, half-sent or unreadable; it serves on."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from tests.helpers.serving import SERIES, Server, assert_serves, run_client

V2 = "/v2/models/chronos-2/infer"


def v2(**changes: Any) -> dict[str, Any]:
    """A request of two rows, with changes of its first tensor."""
    context = {
        "name": "context",
        "datatype": "FP32",
        "shape": [2, 2],
        "data": [1.0, 2.0, 3.0, 4.0],
        **changes,
    }
    return {"inputs": [context], "parameters": {"prediction_length": 3}}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/invocations", "{", 400, "no JSON"),
        ("/invocations", "[" * 100_000, 400, "no JSON"),
        ("/invocations", b"\xff", 400, "no JSON"),
        ("/invocations", [], 400, "an object with inputs, parameters"),
        ("/invocations", {"inputs": []}, 400, "at least one"),
        ("/invocations", {"inputs": [{"target": "abc"}]}, 400, "no array of numbers"),
        ("/invocations", {"inputs": [{"target": [1, "2"]}]}, 400, "no array of numbers"),
        ("/invocations", {"inputs": [{"target": [[1], [1, 2]]}]}, 400, "no array of numbers"),
        ("/invocations", '{"inputs": [{"target": [1, Infinity]}]}', 400, "1 values that are infinite"),
        ("/invocations", '{"inputs": [{"target": [1, 1e39]}]}', 400, "1 values that are infinite"),
        ("/invocations", {"inputs": [SERIES] * 101}, 413, "at most 100 rows"),
        ("/invocations", {"inputs": [{"target": [1.0] * 60_000}]}, 413, "at most 50000 time steps"),
        (
            "/invocations",
            {"inputs": [SERIES], "parameters": {"prediction_length": 10**9}},
            400,
            "whole number",
        ),
        (V2, "{", 400, "JSON"),
        (V2, {"inputs": []}, 400, "context is missing"),
        (V2, v2(shape=[2, 3]), 400, "is no tensor of type FP32"),
        (V2, v2(shape=[4]), 400, "of shape [4]"),
        (V2, v2(datatype="INT64", data=[1, 2, 3, 4]), 400, "allowed: FP32"),
        (V2, v2(datatype="INT64"), 400, "is no tensor of type INT64"),
        (V2, v2(datatype="FP1"), 400, "is no tensor of type FP1"),
        (V2, v2(data=[1.0, 2.0, 3.0, "4"]), 400, "is no tensor of type FP32"),
        (
            V2,
            v2(name="group_ids", shape=[1], datatype="INT64", data=[1.5]),
            400,
            "is no tensor of type INT64",
        ),
        (V2, v2(name="weights"), 400, "there is no input weights"),
        (V2, v2(data=[1.0, 2.0, 3.0, 1e300]), 400, "infinite"),
        (V2, v2(shape=[200, 1], data=[1.0] * 200), 413, "at most 100 rows"),
        (V2.replace("chronos-2", "other"), v2(), 404, "other does not exist"),
        ("/v2/repository/models/chronos-2/unload", None, 501, "fixed"),
        ("/v1/timeseries/forecast", {"model": "chronos-2", "inputs": [], "options": {}}, 400, "horizon"),
    ],
)
def test_a_wrong_request_is_told_why(server: Server, path: str, body: Any, status: int, said: str) -> None:
    found, answer = server.ask("POST", path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert said in answer["error"]
    assert len(answer["error"]) < 2000
    assert_serves(server)
    assert server.events("fault") == []


def test_what_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/invocations")
    connection.putheader("content-length", str(10**12))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"at most 16777216 bytes" in answer.read()
    connection.close()


@pytest.mark.parametrize("length", ["content-length: 100", "transfer-encoding: chunked"])
def test_a_request_that_is_half_sent_ends(server: Server, length: str) -> None:
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head)
        assert_serves(server)
        answer = connection.recv(10_000).decode()  # after the time limit of three seconds
    assert answer.startswith("HTTP/1.1 408 ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head)
        hang_up = struct.pack("ii", 1, 0)  # with a reset, not an end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hang_up)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head[:20])
        assert_serves(server)


def test_the_log_has_no_values(server: Server) -> None:
    server.ask("POST", "/invocations", {"inputs": [{"target": [421337.0, "421337"]}]})
    server.ask("POST", V2, v2(data=[421337.0, 1.0, 2.0, "421337"]))
    server.ask("POST", "/v1/timeseries/forecast", {"model": 421337, "inputs": 421337})
    server.wait_for(lambda: server.events("request")[-1]["api"] == "timeseries")
    assert "421337" not in server.log.read_text()
    *_, before, last = server.events("request")
    assert (before["status"], last["status"]) == ("400", "400")
    assert 0 < last["seconds"] < 3


GRPC_ERRORS = """
import sys
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
client = InferenceServerClient(sys.argv[1])
def ask(values, model="chronos-2"):
    given = InferInput("context", list(values.shape), np_to_triton_dtype(values.dtype))
    given.set_data_from_numpy(values)
    client.infer(model, [given], parameters={"prediction_length": 3})
row = np.ones((1, 3), np.float32)
for wrong in (
    lambda: ask(row[0]),
    lambda: ask(row * np.float32([1, np.inf, 1])),
    lambda: ask(row.astype(np.float64)),
    lambda: ask(np.ones((200, 3), np.float32)),
    lambda: ask(row, "other"),
    lambda: client.unload_model("chronos-2"),
    lambda: ask(np.ones((1, 5_000_000), np.float32)),
):
    try:
        wrong()
    except InferenceServerException as error:
        first = error.message().splitlines()[0]
        print(error.status(), *([] if "max" in first else [first]))
"""


def test_grpc_says_what_is_wrong(server: Server) -> None:
    """With gRPC's own statuses."""
    done = run_client(GRPC_ERRORS, f"127.0.0.1:{server.grpc_port}")
    assert done.splitlines() == [
        "StatusCode.INVALID_ARGUMENT context is of shape [3]",
        "StatusCode.INVALID_ARGUMENT context holds 1 values that are infinite in float32",
        "StatusCode.INVALID_ARGUMENT context is of type float64",
        "StatusCode.INVALID_ARGUMENT the request has 200 rows",
        "StatusCode.NOT_FOUND Model with name other does not exist.",
        "StatusCode.UNIMPLEMENTED the model of this server is fixed",
        "StatusCode.RESOURCE_EXHAUSTED",
    ]
    assert_serves(server)
