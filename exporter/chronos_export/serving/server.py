"""A server from start to end: open, listen, make a first forecast, answer, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvicorn
from kserve.model_repository import ModelRepository
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as protocol

from chronos_export.errors import MachineError
from chronos_export.forecaster.model import Model, open_model
from chronos_export.interruption import SIGNALS
from chronos_export.serving.admission import Admission
from chronos_export.serving.application import application
from chronos_export.serving.batcher import Batcher
from chronos_export.serving.guard import Guard
from chronos_export.serving.kserve_models import (
    FixedRepository,
    HuggingFaceTimeSeriesModel,
    ReadyDataPlane,
    Servicer,
)
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.observing import LOG, Observer, say

NAME = "chronos-2"


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: An address of this machine.
        port: Of HTTP; 0 is a free one.
        grpc_port: Of gRPC; 0 is a free one.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = 8081


@dataclass(frozen=True)
class Opening:
    """How an artifact is opened; see `Forecaster`."""

    path: Path
    runtime: str = "auto"
    device: str = "auto"
    threads: int = 0


def serve(opening: Opening, place: Place, limits: ServingLimits) -> None:
    """Serve an artifact until a signal comes, and answer what is under way then.

    Raises:
        UsageError: The artifact or its runtime cannot be used as asked.
        IntegrityError: The artifact is damaged.
        MachineError: A runtime is missing, or a port is taken.
    """
    _log_lines()
    opened = open_model(opening.path, opening.runtime, opening.device, opening.threads)
    say("opened", artifact=opened.name, digest=opened.digest)
    asyncio.run(_Server(opened.model, place, limits).run())


@dataclass
class _Server:
    model: Model
    place: Place
    limits: ServingLimits
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        admission = Admission(self.limits)
        observer = Observer(lambda: batcher.queued, lambda: admission.requests)
        batcher = Batcher(self.model.rows, self.model.patch, self.limits, observe=observer.batch)
        served = HuggingFaceTimeSeriesModel(NAME, self.model, batcher)
        models = ModelRepository()
        models.update(served)
        data_plane, repository = ReadyDataPlane(models), FixedRepository(models)
        app = application(served, models, data_plane, repository, self.limits)
        listening = _listening(self.place)
        http = _http(Guard(app, admission, self.limits, observer.request), self.limits)
        calls, grpc_port = self._grpc(Servicer(data_plane, repository, admission, observer))
        await calls.start()
        answering = asyncio.create_task(http.serve(sockets=[listening]))
        with self._signals():
            say("listening", host=self.place.host, port=listening.getsockname()[1], grpc_port=grpc_port)
            try:
                await self._first_forecast(batcher)
                served.ready = True
                say("ready")
                await asyncio.wait(
                    (answering, asyncio.create_task(self.stopping.wait())),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                say("draining", under_way=admission.requests)
                http.should_exit = True
                await asyncio.gather(answering, calls.stop(self.limits.seconds))
                await asyncio.to_thread(batcher.close)
                say("stopped")

    async def _first_forecast(self, batcher: Batcher) -> None:
        """One row alone and two in a group: what is opened by a first call is open then."""
        for ids in (None, np.zeros(2, np.int64)):
            context = np.ones((1 if ids is None else 2, 2 * self.model.patch), np.float32)
            await asyncio.to_thread(batcher.forecast, context, ids, 1, None)

    def _grpc(self, servicer: Servicer) -> tuple[Any, int]:
        """The server of gRPC and its port."""
        options = [
            ("grpc.max_receive_message_length", self.limits.body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * self.limits.requests)
        protocol.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        host, port = self.place.host, self.place.grpc_port
        try:
            return server, server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise _taken(host, port, "--grpc-port") from error

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal drains; a second one ends the process as it would have without this."""
        loop, before = asyncio.get_running_loop(), {number: signal.getsignal(number) for number in SIGNALS}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def stop(number: int, frame: object) -> None:
            restore()
            loop.call_soon_threadsafe(self.stopping.set)

        for number in SIGNALS:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()


class _Http(uvicorn.Server):  # type: ignore[misc]
    """Uvicorn without handlers of its own for signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _http(guard: Guard, limits: ServingLimits) -> _Http:
    config = uvicorn.Config(
        guard,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=int(limits.seconds) + 1,
        server_header=False,
    )
    return _Http(config)


def _listening(place: Place) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        return socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        raise _taken(place.host, place.port, "--port") from error


def _taken(host: str, port: int, option: str) -> MachineError:
    return MachineError(
        f"{host}:{port} cannot be listened on",
        allowed="a free port of this machine",
        fix=f"give another {option}",
    )


def _log_lines() -> None:
    """Our lines on stderr as they are, of libraries what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    for name in ("kserve", "kserve.trace", "uvicorn", "grpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
