"""The HTTP routes, on FastAPI: KServe's own, SageMaker's, metrics."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotReady
from kserve.model_repository import ModelRepository
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.timeseries.dataplane import TimeSeriesDataPlane
from kserve.protocol.rest.timeseries.endpoints import register_time_series_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

from chronos_export.errors import ChronosExportError, UsageError
from chronos_export.serving.invocations import invoke
from chronos_export.serving.kserve_models import FixedRepository, HuggingFaceTimeSeriesModel, ReadyDataPlane
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.observing import say_fault
from chronos_export.serving.refusals import INTERNAL, message_of, refusal_of

KSERVE_STATUS = {
    InvalidInput: 400,
    ModelNotFound: 404,
    ModelNotReady: 503,
    ServerNotReady: 503,
    NotImplementedError: 501,
}
Handler = Callable[[Request, Exception], Awaitable[Response]]


def application(
    model: HuggingFaceTimeSeriesModel,
    models: ModelRepository,
    data_plane: ReadyDataPlane,
    repository: FixedRepository,
    limits: ServingLimits,
) -> FastAPI:
    """Return the application.

    Args:
        model: The one that is served.
        models: Holds it.
        data_plane: Answers the Open Inference Protocol.
        repository: Refuses to load and unload.
        limits: What one request may ask.
    """
    app = FastAPI(title="chronos-export", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/metrics", metrics_handler, methods=["GET"])
    app.add_api_route("/ping", _ping(model), methods=["GET"])
    app.add_api_route("/invocations", _invocations(model, limits), methods=["POST"])
    register_v2_endpoints(app, data_plane, repository)
    register_time_series_endpoints(app, TimeSeriesDataPlane(models))
    for kind, status in KSERVE_STATUS.items():
        app.add_exception_handler(kind, _with_status(status))
    for ours in (ChronosExportError, Exception):
        app.add_exception_handler(ours, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    return app


def _ping(model: HuggingFaceTimeSeriesModel) -> Callable[[], Awaitable[Response]]:
    async def ping() -> Response:
        return Response(status_code=200 if model.ready else 503)

    return ping


def _invocations(
    model: HuggingFaceTimeSeriesModel, limits: ServingLimits
) -> Callable[[Request], Awaitable[Response]]:
    async def invocations(request: Request) -> Response:
        if not model.ready:
            raise ModelNotReady(model.name)
        body = await request.body()

        def answer(ours: Any) -> bytes:
            found = invoke(ours, limits, _parsed(body))
            return bytes(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY, default=_contiguous))

        return Response(await model.ask(answer), media_type="application/json")

    return invocations


def _parsed(body: bytes) -> Any:
    """JSON with NaN, which Python's clients write."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is no JSON", allowed="an object with inputs and parameters") from error


def _contiguous(values: Any) -> Any:
    return values.tolist()  # orjson takes no strided array


def _with_status(status: int) -> Handler:
    async def handler(request: Request, error: Exception) -> Response:
        return _error(status, str(error))

    return handler


async def _refused(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    if refusal is INTERNAL:
        say_fault(error)
    headers = {"retry-after": "1"} if refusal.http == 429 else {}
    return _error(refusal.http, message_of(error), headers)


async def _not_valid(request: Request, error: Exception) -> Response:
    """What is missing or of the wrong type, without the values that FastAPI would send back."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
    return _error(400, "; ".join(found)[:1000])


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": message})
    return Response(body, status_code=status, headers=headers, media_type="application/json")
