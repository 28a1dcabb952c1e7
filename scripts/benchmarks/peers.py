"""The ways to answer a batch: upstream's, other people's, ours. All share one set of weights.

To add one of ours, name its dtype and the session that opens its graphs: one line in `cpu_peers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.bench.comparison import forecaster
from chronos_export.errors import MachineError
from chronos_export.forecaster.model import Model
from chronos_export.graph.dense_attention import dense_body
from chronos_export.graph_contract import GENERAL
from chronos_export.model.accelerating import accelerate
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Files, Folder, Session, SideBySide
from chronos_export.runtime.tuning import tune

from .subject import Subject
from .traced import trace
from .variants import contiguous_mask, padded, per_group, sharing_weights

UPSTREAM = "upstream, batch in one call"
UPSTREAM_BEST = "upstream at its best batch_size"
CONTIGUOUS = "upstream, contiguous group mask"
LOOP = "a loop over groups (our reading of #442)"
DENSE_ONNX = "dense ONNX (upstream, traced) at its best batch"
OURS = "ours, onnxruntime"
SIZES = (1, 5, 10, 20, 40, 100)

Answer = Callable[[Any], Tensor]
"""A workload to its forecasts, float32 [rows, quantiles, steps] on the CPU."""


@dataclass(frozen=True)
class Peer:
    """One contender.

    Attributes:
        name: As the table shows it.
        open: Loads what answers; not timed. Peers that share it are the same model in calls of other sizes.
        dtype: What its products are computed in.
        sizes: Row counts of a call to try, the best of which stands; () for the whole batch in one call.
        session: Opens the session behind it and says how large its calls are, if it is one of our sessions.
    """

    name: str
    open: Callable[[], Answer]
    dtype: str = "float32"
    sizes: tuple[int, ...] = ()
    session: Callable[[], tuple[Session, Limits]] | None = None


def cpu_peers(subject: Subject, compiled: bool = False) -> Iterator[Peer]:
    """Everything that might run on a CPU, upstream first; one that cannot says why when it is opened.

    Args:
        subject: The weights.
        compiled: Whether to try torch.compile, which costs a minute.
    """
    model = subject.model
    upstream, in_bfloat16 = in_torch(lambda: model), _autocast(model, torch.bfloat16)
    compiling = in_torch(lambda: torch.compile(sharing_weights(model), dynamic=True))
    yield Peer(UPSTREAM, upstream)
    yield Peer(UPSTREAM_BEST, upstream, sizes=SIZES)
    yield Peer(CONTIGUOUS, in_torch(lambda: contiguous_mask(model)))
    yield Peer("upstream, torch.compile", compiling if compiled else missing("not asked: --compile"))
    yield Peer("upstream, bfloat16 autocast", in_bfloat16, "bfloat16")
    yield Peer("upstream, bfloat16 autocast at its best batch_size", in_bfloat16, "bfloat16", SIZES)
    yield Peer("upstream, float16 autocast", _autocast(model, torch.float16), "float16")
    yield Peer(LOOP, in_torch(lambda: per_group(model)))
    yield Peer("padded [groups, longest]", in_torch(lambda: padded(model)))
    yield Peer(DENSE_ONNX, lambda: _traced(subject), sizes=SIZES)
    yield Peer("ours, PyTorch (accelerate)", in_torch(lambda: accelerated(model)))
    yield graphs_peer(OURS, subject, "float32", OrtSession)
    yield Peer("ours, but dense group attention", lambda: _dense(subject), sizes=(20,))
    yield graphs_peer("ours, openvino", subject, "float32", OpenVinoSession)
    yield graphs_peer("ours, bfloat16", subject, "bfloat16", OpenVinoSession)
    yield graphs_peer("ours, int8", subject, "int8", OrtSession)
    yield Peer("ours, TensorRT", missing("needs a GPU: python -m scripts.benchmarks --device cuda"))


def graphs_peer(name: str, subject: Subject, dtype: str, session: Callable[[Files], Session]) -> Peer:
    """The graphs of a dtype, in a session that opens their folder; tuned once, as by an export."""

    @cache
    def limits() -> Limits:
        opened = session(Folder(subject.graphs_in(dtype)))
        return tune(opened, subject.settings["input_patch_size"], subject.settings["context_length"])

    def opened() -> tuple[Session, Limits]:
        return session(Folder(subject.graphs_in(dtype))), limits()

    return Peer(name, lambda: session_answer(subject, *opened()), dtype, session=opened)


def session_answer(subject: Subject, session: Session, limits: Limits) -> Answer:
    """A session in calls of its size."""
    if isinstance(session, SideBySide) and session.workers > 1:
        _open_late(session)
        _open_late(session.single_threaded)
    return answer_of(SessionModel(Model.over(session, limits, subject.settings)))


def _open_late(session: Session) -> None:
    """Have graphs opened that wait for their first call."""
    context, future = np.zeros((1, 16), np.float32), np.full((1, 16), np.nan, np.float32)
    session.run(context, np.zeros(1, np.int64), future)
    session.run_univariate(context, future)


def answer_of(model: Any) -> Answer:
    """A model called as upstream's is."""
    return lambda work: forecaster(model, work.horizon)(work.context, work.group_ids)


def in_torch(make: Callable[[], Any]) -> Callable[[], Answer]:
    """A model in PyTorch, made once."""
    return cache(lambda: answer_of(make()))


def _autocast(model: Chronos2Model, dtype: torch.dtype) -> Callable[[], Answer]:
    plain = answer_of(model)

    def answer(work: Any) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return plain(work)

    return lambda: answer


def missing(reason: str) -> Callable[[], Answer]:
    """What cannot be opened here."""

    def refuse() -> Answer:
        raise MachineError(reason)

    return refuse


def accelerated(model: Chronos2Model) -> Any:
    """Upstream's pipeline with our group attention."""
    return accelerate(Chronos2Pipeline(sharing_weights(model))).model


def _traced(subject: Subject) -> Answer:
    """What public exports do, with a graph for each horizon."""

    @cache
    def session(horizon: int) -> ort.InferenceSession:
        path = trace(subject.model, horizon, subject.work / f"traced {horizon}")
        return ort.InferenceSession(path, _quiet_options(), providers=["CPUExecutionProvider"])

    def answer(work: Any) -> Tensor:
        feed = {"context": work.context.numpy(), "group_ids": work.group_ids.numpy()}
        (out,) = session(work.horizon).run(None, feed)
        return torch.from_numpy(out)[:, :, : work.horizon]

    return answer


def _dense(subject: Subject) -> Answer:
    """Our graph with group attention over the whole call under a mask, and no batching: 20 rows per call."""
    graphs = subject.graphs_in("float32")
    proto = onnx.load(graphs / GENERAL, load_external_data=False)
    proto.functions[0].CopyFrom(dense_body(subject.model.config.num_heads))
    options = _quiet_options()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graphs))
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def answer(work: Any) -> Tensor:
        future = torch.full((work.rows, work.horizon), torch.nan)
        feed = {"context": work.context, "group_ids": work.group_ids, "future_covariates": future}
        (out,) = session.run(None, {name: value.numpy() for name, value in feed.items()})
        return torch.from_numpy(out)[:, :, : work.horizon]

    return answer


def _quiet_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return options
