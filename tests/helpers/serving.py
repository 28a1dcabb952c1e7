"""A real server in an environment of its own, on loopback, ended by who started it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.helpers.cached import virtual_environment

ROOT = Path(__file__).parents[2]
CLIENTS = ("tritonclient[http,grpc]>=2.60", "requests>=2.32")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "exporter")}  # this checkout, as it is now
SERIES = {"target": [1.0, 2.0, 3.0]}
LINE = re.compile(r"^\{.*\}$", re.MULTILINE)


@dataclass
class Server:
    """A server that is ready, or about to be.

    Attributes:
        process: Its process.
        log: Where its lines are.
        port: Of HTTP.
        grpc_port: Of gRPC.
    """

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    grpc_port: int = 0

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return its log's lines of one kind."""
        found = (json.loads(line) for line in LINE.findall(self.log.read_text()))
        return [event for event in found if event["event"] == kind]

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the body of an answer, parsed if it is JSON."""
        connection = self.connect()
        try:
            sent = json.dumps(body) if isinstance(body, dict | list) else body
            kind = {"content-type": "application/json"} if sent is not None else {}
            connection.request(method, path, sent, {**kind, **headers})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("content-type") or "")
        return answer.status, json.loads(text) if is_json else text.decode()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once something is so: what is counted and logged is so just after its answer."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.01)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = self.ask("GET", "/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))


def environment() -> Path:
    """The Python of an environment with this checkout, the server and its clients."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    runtime = f"onnxruntime=={version('onnxruntime')}"
    return virtual_environment(f"serve-{digest}", f"{ROOT}[serve]", runtime, *CLIENTS)


@contextmanager
def serving(artifact: Path, folder: Path, *options: str) -> Iterator[Server]:
    """A server on free ports, ready; it is killed if it has not ended before.

    Args:
        artifact: What it serves.
        folder: Where its log goes.
        options: Of the command line.
    """
    command = [environment(), "-m", "chronos_export", "serve", artifact, "--threads", "1", *options]
    ports = ["--port", "0", "--grpc-port", "0"] if "--port" not in options else []
    log = folder / "server.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [*command, *ports], stdout=lines, stderr=lines, env=ENVIRONMENT, cwd=folder
        )
    server = Server(process, log)
    try:
        end = time.monotonic() + 120
        while not server.events("ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        (listening,) = server.events("listening")
        server.port, server.grpc_port = listening["port"], listening["grpc_port"]
        yield server
    finally:
        process.kill()
        process.wait()


def assert_serves(server: Server) -> None:
    status, answer = server.ask("POST", "/invocations", {"inputs": [{"target": [1.0, 2.0, 3.0]}]})
    assert (status, len(answer["predictions"])) == (200, 1)


def run_client(code: str, *arguments: object) -> str:
    """Run Python where the clients are installed, and return what it prints."""
    command = [environment(), "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def load(server: Server, count: int, clients: int, output: Path) -> None:
    """Ask a server what `serving_load` asks, and save the answers."""
    places = (f"127.0.0.1:{server.port}", f"127.0.0.1:{server.grpc_port}")
    program = Path(__file__).with_name("serving_load.py").read_text()
    run_client(program, *places, count, clients, output)
