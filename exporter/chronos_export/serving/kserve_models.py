"""KServe's classes over ours: a model that answers, a repository nobody can unload, gRPC's statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.model import InferenceModel
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.timeseries.types import ForecastRequest, ForecastResponse

from chronos_export.errors import ChronosExportError, UsageError
from chronos_export.forecaster.model import Model
from chronos_export.serving.admission import Admission
from chronos_export.serving.batcher import Batcher, OneRequest
from chronos_export.serving.observing import Observer, say_fault
from chronos_export.serving.refusals import INTERNAL, message_of, refusal_of
from chronos_export.serving.tensors import DTYPES, INPUTS, OUTPUT, forecast_tensors
from chronos_export.serving.timeseries import answer_forecast
from chronos_export.serving.values import checked

T = TypeVar("T")
FIXED = "the model of this server is fixed"


class HuggingFaceTimeSeriesModel(InferenceModel):  # type: ignore[misc]
    """Our model as KServe knows models. Its time-series routes look for this name.

    Args:
        name: In the addresses of the Open Inference Protocol.
        model: Forecasts rows; its own `rows` are not asked, the batcher is.
        batcher: Answers rows.
    """

    def __init__(self, name: str, model: Model, batcher: Batcher) -> None:
        super().__init__(name)
        self._model, self._batcher = model, batcher
        self._threads = ThreadPoolExecutor(batcher.limits.requests, "request")

    async def ask(self, work: Callable[[Model], T]) -> T:
        """Do a request's work on a thread of its own; it is given up when the client leaves."""
        request = OneRequest(self._batcher)
        model = replace(self._model, rows=request)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, model)
        finally:
            request.give_up()

    async def __call__(
        self, body: InferRequest, headers: dict[str, str] | None = None, verb: Any = None
    ) -> tuple[InferResponse, dict[str, str]]:
        """Answer a request of the Open Inference Protocol."""

        def work(model: Model) -> InferResponse:
            tensors = {tensor.name: _array(tensor) for tensor in body.inputs}
            length = _parameter(body.parameters, "prediction_length")
            forecast = forecast_tensors(model, self._batcher.limits, tensors, length)
            output = InferOutput(OUTPUT, list(forecast.shape), "FP32", data=forecast)
            if body.from_grpc:
                output.set_data_from_numpy(forecast)  # its encoder takes no array
            return InferResponse(
                body.id or str(uuid4()),
                self.name,
                [output],
                use_binary_outputs=bool(body.from_grpc or body.use_binary_outputs),
                requested_outputs=None if body.from_grpc else body.request_outputs,
            )

        if not isinstance(body, InferRequest):
            raise UsageError("the request has no tensors", allowed="the Open Inference Protocol, version 2")
        return await self.ask(work), {}

    async def forecast(self, request: ForecastRequest, context: Any = None) -> ForecastResponse:
        """Answer KServe's time-series request."""
        return await self.ask(lambda model: answer_forecast(model, self._batcher.limits, request))

    def get_input_types(self) -> list[dict[str, Any]]:
        """See `InferenceModel.get_input_types`."""
        return [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in INPUTS.items()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """See `InferenceModel.get_output_types`."""
        return [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(self._model.quantiles), -1]}]


class ReadyDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane, ready when its models are, and deaf to what it cannot read."""

    async def ready(self) -> bool:
        """Return whether every model has made its first forecast."""
        return all(model.ready for model in self.model_registry.get_models().values())

    def decode_inference_request(self, body: Any, headers: dict[str, str], model_name: str) -> InferRequest:
        """See `DataPlane`; whatever is wrong with the bytes is the client's fault."""
        try:
            return super().decode_inference_request(body, headers, model_name)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput("the request is not of the Open Inference Protocol") from error


class FixedRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """One model that no client can load or unload."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise NotImplementedError(FIXED)

    async def unload(self, model_name: str) -> None:
        """Refuse."""
        raise NotImplementedError(FIXED)


class Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's gRPC service, bounded, counted, with a status for each error.

    Args:
        data_plane: Answers.
        repository: Refuses to load and unload.
        admission: Lets requests in.
        observer: Told of each.
    """

    def __init__(
        self, data_plane: DataPlane, repository: FixedRepository, admission: Admission, observer: Observer
    ) -> None:
        super().__init__(data_plane, repository)
        self._admission, self._observer = admission, observer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a request."""
        begin, status, message = monotonic(), "CANCELLED", ""
        try:
            with self._admission.request(request.ByteSize()):
                answer = await self._infer(request)
            status = "OK"
            return answer
        except Exception as error:
            status, message = _grpc_status(error)
        finally:
            self._observer.request("grpc", status, monotonic() - begin)
        return await context.abort(getattr(grpc.StatusCode, status), message)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refuse."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, FIXED)

    RepositoryModelUnload = RepositoryModelLoad

    async def _infer(self, request: Any) -> Any:
        try:
            self.validate_grpc_request(request)
            asked = InferRequest.from_grpc(request)
        except Exception as error:
            raise InvalidInput("the request is not of the Open Inference Protocol") from error
        model = await self._data_plane.get_model(request.model_name)
        answer, _ = await model(asked)
        return answer.to_grpc()


def _grpc_status(error: Exception) -> tuple[str, str]:
    for kind, status in (
        (InvalidInput, "INVALID_ARGUMENT"),
        (ModelNotFound, "NOT_FOUND"),
        (ModelNotReady, "UNAVAILABLE"),
    ):
        if isinstance(error, kind):
            return status, str(error)
    refusal = refusal_of(error)
    if refusal is INTERNAL and not isinstance(error, ChronosExportError):
        say_fault(error)
    return refusal.grpc, message_of(error)


def _array(tensor: InferInput) -> Any:
    """A tensor's values. KServe would take "1" for 1 and 1.5 for an integer, and its errors pass for ours."""
    try:
        if tensor.data and isinstance(tensor.data, list):
            kinds = "iu" if tensor.datatype == "INT64" else "iuf"
            found: Any = checked(tensor.data, kinds).astype(DTYPES[tensor.datatype])
            return found.reshape(tensor.shape)
        return tensor.as_numpy()
    except Exception as error:
        raise UsageError(
            f"{str(tensor.name)[:40]} is no tensor of type {str(tensor.datatype)[:10]} and the shape given",
            allowed="as many values as the shape says, of that type",
        ) from error


def _parameter(parameters: Any, name: str) -> Any:
    """A parameter, of HTTP or of gRPC."""
    value: Any = parameters[name] if parameters and name in parameters else None
    return getattr(value, value.WhichOneof("parameter_choice")) if hasattr(value, "WhichOneof") else value
