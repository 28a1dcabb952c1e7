"""One call for every backend: rows in, forecasts out.

    OrtSession      the ONNX graphs on onnxruntime
    TorchSession    the rewritten model in PyTorch
    SingleThreaded  the graphs of another session, opened once more for calls side by side

A session answers exactly the rows it is given; cutting a batch into calls is `plan.py`'s work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from torch import Tensor, nn

from chronos_export.artifact import GENERAL, UNIVARIATE, WEIGHTS
from chronos_export.errors import IntegrityError, MachineError, UsageError

Array = NDArray[np.generic]
Graph = Callable[..., Tensor]  # an opened graph: its inputs by name to its forecasts

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}


class Session(Protocol):
    """What the pipeline needs of a backend."""

    device: torch.device

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """Forecast rows of any groups.

        Args:
            context: float32 [rows, context_length], NaN = missing.
            group_ids: int64 [rows].
            future_covariates: float32 [rows, horizon], NaN = unknown.

        Returns:
            float32 [rows, quantiles, horizon rounded up to whole patches].
        """
        ...

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """As `run`, for rows that are groups of their own."""
        ...


@runtime_checkable
class SideBySide(Session, Protocol):
    """A session that can answer several calls at a time.

    Attributes:
        workers: How many calls are best answered at a time, each on one thread, by `single_threaded`.
        single_threaded: The same graphs for those.
    """

    workers: int
    single_threaded: Session


class OrtSession:
    """Both graphs on onnxruntime. Safe to call from several threads; see `SideBySide`.

    Args:
        folder: Where `model.onnx`, `univariate.onnx` and their weights are.
        provider: "cpu" or "cuda".
        threads: Threads inside an operator; 0 leaves it to onnxruntime.

    Raises:
        UsageError: If the provider is not one of these.
        MachineError: If onnxruntime does not have the provider or starts another one instead.
    """

    def __init__(self, folder: Path, provider: str = "cpu", threads: int = 0) -> None:
        self.device = torch.device("cpu")
        self.provider = _provider_name(provider)
        self.workers = (threads or torch.get_num_threads()) if provider == "cpu" else 1
        self.single_threaded = SingleThreaded(folder, lambda path: _OrtGraph(path, PROVIDERS["cpu"], 1))
        paths = folder / GENERAL, folder / UNIVARIATE
        with ThreadPoolExecutor(len(paths)) as pool:  # onnxruntime opens a graph on one core
            graphs = pool.map(lambda path: _OrtGraph(path, self.provider, threads), paths)
            self._general, self._univariate = graphs

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        return self._general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        return self._univariate(context=context, future_covariates=future_covariates)


class SingleThreaded:
    """Both graphs with one thread a call. Each takes memory from its first call on.

    Args:
        folder: Where `model.onnx`, `univariate.onnx` and their weights are.
        open_graph: Opens one of them.

    Raises:
        IntegrityError: By the first call of a graph: the files are no longer those that were there before.
    """

    def __init__(self, folder: Path, open_graph: Callable[[Path], Graph]) -> None:
        self.device = torch.device("cpu")
        self._folder, self._stamps = folder, _stamps(folder)
        self._open_graph = open_graph
        self._lock, self._opened = threading.Lock(), dict[str, Graph]()

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        general = self._graph(GENERAL)
        return general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        return self._graph(UNIVARIATE)(context=context, future_covariates=future_covariates)

    def _graph(self, name: str) -> Graph:
        with self._lock:
            if name not in self._opened:
                if _stamps(self._folder) != self._stamps:
                    raise IntegrityError(
                        f"{self._folder} was replaced after it was loaded",
                        fix=f"load({str(self._folder)!r}) again",
                    )
                self._opened[name] = self._open_graph(self._folder / name)
            return self._opened[name]


class TorchSession:
    """The rewritten model in PyTorch.

    Args:
        general: `model.SegmentedChronos2`, or any module called the same way.
        univariate: `model.UnivariateChronos2`.
    """

    def __init__(self, general: nn.Module, univariate: nn.Module) -> None:
        self.device = next(general.parameters()).device
        self._general, self._univariate = general, univariate

    @torch.no_grad()
    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        out: Tensor = self._general(context, group_ids, future_covariates)
        return out

    @torch.no_grad()
    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        out: Tensor = self._univariate(context, future_covariates)
        return out


def _provider_name(provider: str) -> str:
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}", allowed=", ".join(PROVIDERS))
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise MachineError(
            f"this onnxruntime has no {name}",
            allowed=", ".join(ort.get_available_providers()),
            fix=f"pip install 'chronos-export[{provider}]'",
        )
    return name


class _OrtGraph:
    """One graph on onnxruntime."""

    def __init__(self, path: Path, provider: str, threads: int) -> None:
        self._session = _open(path, provider, threads)

    def __call__(self, **feed: Tensor) -> Tensor:
        arrays = {name: tensor.contiguous().numpy() for name, tensor in feed.items()}
        (out,) = self._session.run(["quantile_preds"], arrays)
        return torch.from_numpy(out)


def _open(path: Path, provider: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Otherwise its threads keep a core busy for 30 ms after a call, at the cost of those that follow.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(path, options, providers=[provider])
    except NoKernel as error:
        raise MachineError(
            f"onnxruntime's {provider} cannot run {path.name}: {error}",
            allowed="the types that it has kernels for: float32 everywhere, bfloat16 on a GPU only",
            fix="chronos-export --dtype float32 ...",
        ) from error
    if session.get_providers()[0] != provider:
        raise MachineError(
            f"onnxruntime runs {path.name} on {session.get_providers()[0]}, not on {provider}",
            fix="chronos-export doctor",
        )
    return session


def _stamps(folder: Path) -> list[tuple[int, int, int]]:
    """What changes when a file is replaced."""
    found = [(folder / name).stat() for name in (GENERAL, UNIVARIATE, WEIGHTS) if (folder / name).exists()]
    return [(file.st_ino, file.st_mtime_ns, file.st_size) for file in found]
