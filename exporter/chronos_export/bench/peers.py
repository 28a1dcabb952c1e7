"""The ways to answer a batch: upstream's, other people's, ours.

A peer is a function from a workload to quantile forecasts. All share one set of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.accelerating import accelerate
from chronos_export.bench.workloads import Workload
from chronos_export.dense_attention import dense_body
from chronos_export.onnx_export import GENERAL
from chronos_export.openvino_session import OpenVinoSession, has_openvino
from chronos_export.pipeline import SessionModel
from chronos_export.plan import Limits
from chronos_export.session import OrtSession, Session

Answer = Callable[[Workload], Tensor]


@dataclass(frozen=True)
class Peer:
    """One contender.

    Attributes:
        name: As the table shows it.
        answer: Forecast a workload, float32 [rows, quantiles, steps].
        is_ours: Whether it is this project's.
        sizes: Row counts of a call to try, the best of which stands; () for the whole batch in one call.
    """

    name: str
    answer: Answer
    is_ours: bool = False
    sizes: tuple[int, ...] = ()


def peers_of(model: Chronos2Model, graphs: Path, compiled: bool) -> Iterator[Peer]:
    """Everything that runs on a CPU, upstream first.

    Args:
        model: Upstream's model, float32, in eval mode.
        graphs: A folder with the exported graphs of the same weights.
        compiled: Whether to try torch.compile, which costs a minute.
    """
    swept = (20, 40, 60, 100)
    yield Peer("upstream, batch in one call", _forward(model))
    yield Peer("upstream at its best batch_size", _forward(model), sizes=swept)
    yield Peer("upstream, bf16 autocast", _autocast(model))
    if compiled:
        yield Peer("upstream, torch.compile", _forward(torch.compile(model, dynamic=True)))
    yield Peer("a loop over groups (our reading of #442)", _forward(model), sizes=(1,))
    yield Peer("dense ONNX on onnxruntime at its best batch", _dense_onnx(graphs), sizes=swept)
    accelerated = accelerate(Chronos2Pipeline(copy.deepcopy(model))).model
    yield Peer("ours, PyTorch (accelerate)", _forward(accelerated), is_ours=True)
    yield Peer("ours, onnxruntime", _planned(model, OrtSession(graphs)), is_ours=True)
    if has_openvino():
        yield Peer("ours, openvino", _planned(model, OpenVinoSession(graphs)), is_ours=True)


def in_pieces(answer: Answer, work: Workload, size: int) -> Tensor:
    """Answer `work` in calls of about `size` rows, whole groups each; rows must be sorted by group."""
    _, counts = work.group_ids.unique_consecutive(return_counts=True)
    pieces: list[int] = []
    for count in counts.tolist():
        if pieces and pieces[-1] + count <= size:
            pieces[-1] += count
        else:
            pieces.append(count)
    parts = zip(work.context.split(pieces), work.group_ids.split(pieces), strict=True)
    return torch.cat([answer(Workload(work.name, x, ids, work.horizon)) for x, ids in parts])


def _forward(model: Any) -> Answer:
    @torch.no_grad()
    def answer(work: Workload) -> Tensor:
        patches = -(-work.horizon // 16)
        future = torch.full((work.rows, 16 * patches), torch.nan)
        out: Tensor = model(
            context=work.context,
            group_ids=work.group_ids,
            future_covariates=future,
            num_output_patches=patches,
        ).quantile_preds
        return out

    return answer


def _autocast(model: Chronos2Model) -> Answer:
    plain = _forward(model)

    def answer(work: Workload) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return plain(work).float()

    return answer


def _planned(model: Chronos2Model, session: Session) -> Answer:
    return _forward(SessionModel(session, model.config.chronos_config, Limits()))


def _dense_onnx(graphs: Path) -> Answer:
    """What public exports do: the same graph with group attention over the whole batch under a mask."""
    proto = onnx.load(graphs / GENERAL, load_external_data=False)
    heads = next(a.i for node in proto.graph.node for a in node.attribute if a.name == "num_heads")
    proto.functions[0].CopyFrom(dense_body(heads))
    path = graphs / "dense.onnx"
    onnx.save(proto, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(work: Workload) -> Tensor:
        future = torch.full((work.rows, work.horizon), torch.nan)
        feed = {"context": work.context, "group_ids": work.group_ids, "future_covariates": future}
        (out,) = session.run(None, {name: value.numpy() for name, value in feed.items()})
        return torch.from_numpy(out)

    return answer
