"""How many times faster than upstream this machine forecasts, in about two minutes.

Everybody answers once per round, and ratios are taken within a round, so that a machine that slows down does
so for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.artifact.reading import open_artifact
from chronos_export.bench.weights import full_config, random_model
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import MachineError
from chronos_export.exporting.export import load_source
from chronos_export.forecaster.model import Model
from chronos_export.graph.precision import PRECISIONS
from chronos_export.graph.writing import export_onnx
from chronos_export.machine.cpu import available_cores, cpu_name
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.pipeline.model import SessionModel
from chronos_export.progress import Report, stage
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.cpu_runtimes import require_cpu_runtime
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.opening import open_session
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Files, Folder, Session

CONTEXT, HORIZON, GROUP = 1440, 96, 20  # the setting of chronos-forecasting's pull request 442
UPSTREAM, UPSTREAM_NARROW = "upstream", "upstream, bfloat16 autocast"
SESSIONS: dict[str, Callable[[Files], Session]] = {
    "float32": OrtSession,
    "bfloat16": OpenVinoSession,
    "int8": OrtSession,
}
BATCH_SECONDS, MOST_ROWS = 5.0, 200  # rows that upstream forecasts in that time, from one group up to so many
SECONDS, ROUNDS = 30.0, 5  # per workload, at most; one round in any case

Forecast = Callable[[Tensor, Tensor], Tensor]
"""Context float32 [rows, steps] and group ids int64 [rows] to quantiles [rows, quantiles, HORIZON]."""


@dataclass(frozen=True)
class Speed:
    """One way to forecast one workload.

    Attributes:
        workload: "groups of 20" or "univariate".
        peer: `UPSTREAM`, `UPSTREAM_NARROW`, or the dtype of the export.
        rows_per_second: Median over the rounds.
        times_faster: Than upstream in float32: median of the ratios within a round.
    """

    workload: str
    peer: str
    rows_per_second: float
    times_faster: float


@dataclass
class Comparison:
    """What was compared, where, and what came of it; `missing` says what could not be run, and why."""

    subject: str
    device: str
    rows: int = 0
    speeds: list[Speed] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the numbers are of, in one line."""
        where = f"{available_cores()} cores of {cpu_name()}" if self.device == "cpu" else self.device
        return f"{self.subject} on {where}: {self.rows} rows, context {CONTEXT}, horizon {HORIZON}"

    @property
    def sentence(self) -> str:
        """The answer."""
        dtypes = dict.fromkeys(s.peer for s in self.speeds if not s.peer.startswith(UPSTREAM))
        first, *others = [f"{self._range(dtype)} {{}}in {dtype}" for dtype in dtypes]
        said = ", ".join([first.format("faster than upstream "), *(other.format("") for other in others)])
        return f"On this machine {said}; {UPSTREAM_NARROW}, {self._range(UPSTREAM_NARROW)}."

    @property
    def text(self) -> str:
        """All of it for a reader."""
        lines = [
            f"{s.workload:14}{s.peer:30}{s.rows_per_second:8.1f} rows/s{s.times_faster:8.2f} times upstream's"
            for s in self.speeds
        ]
        return "\n".join([self.title, *lines, self.sentence])

    def _range(self, peer: str) -> str:
        times = sorted(s.times_faster for s in self.speeds if s.peer == peer)
        first, last = f"{times[0]:.1f}", f"{times[-1]:.1f}"
        return f"{first if first == last else f'{first} to {last}'} times"


def compare_speed(artifact: Path | None, work: Path, report: Report, source: str | None = None) -> Comparison:
    """Time upstream and an export of the same weights on the same rows.

    Args:
        artifact: What to time; if None, random weights of full size in every dtype, on the CPU.
        work: A folder for graphs.
        report: Told of the stages "prepare" and "compare".
        source: Where the artifact's checkpoint is, if it is not found.

    Raises:
        ChronosExportError: The artifact or its checkpoint cannot be read or opened.
    """
    with stage("prepare", report) as running:
        found, peers = _published(artifact, source) if artifact else _random(work, running.step)
        found.rows = rows = _rows(peers[UPSTREAM])
    context = torch.randn(rows, CONTEXT, generator=torch.Generator().manual_seed(0)).cumsum(1)
    workloads = {f"groups of {GROUP}": torch.arange(rows) // GROUP, "univariate": torch.arange(rows)}
    with stage("compare", report) as running:
        for number, (name, ids) in enumerate(workloads.items()):
            rounds = list(_rounds(peers, context, ids, partial(running.step, number / len(workloads))))
            for peer in peers:
                per_second = rows / median(seconds[peer] for seconds in rounds)
                times = median(seconds[UPSTREAM] / seconds[peer] for seconds in rounds)
                found.speeds.append(Speed(name, peer, per_second, times))
    return found


def _rows(upstream: Forecast) -> int:
    """How many rows this machine is given."""
    context, ids = torch.zeros(GROUP, CONTEXT), torch.arange(GROUP)
    upstream(context[:1], ids[:1])
    begin = perf_counter()
    upstream(context, ids)
    return GROUP * int(min(max(BATCH_SECONDS / (perf_counter() - begin), 1), MOST_ROWS / GROUP))


def _rounds(
    peers: Mapping[str, Forecast], context: Tensor, ids: Tensor, say: Callable[[str], None]
) -> Iterator[dict[str, float]]:
    """Peer -> its seconds, round by round; a group of each is forecast before."""
    for peer, forecast in peers.items():
        say(f"{peer}, first call")
        forecast(context[:GROUP], ids[:GROUP])
    begin, longest = perf_counter(), 0.0
    for number in range(ROUNDS):
        if number and perf_counter() - begin + longest > SECONDS:
            return
        seconds = {}
        for peer, forecast in peers.items():
            say(f"{peer}, round {number + 1}")
            started = perf_counter()
            forecast(context, ids)
            seconds[peer] = perf_counter() - started
        longest = max(longest, sum(seconds.values()))
        yield seconds


def _random(work: Path, step: Callable[[float, str], None]) -> tuple[Comparison, dict[str, Forecast]]:
    model = random_model(full_config())
    found, peers = Comparison("random weights in amazon/chronos-2's sizes", "cpu"), _upstream(model)
    for number, (dtype, session) in enumerate(SESSIONS.items()):
        step(number / len(SESSIONS), dtype)
        try:
            require_cpu_runtime(dtype, has_engine=False)
        except MachineError as error:
            found.missing[dtype] = str(error)
            continue
        graphs = Folder(write_graphs(model, work / dtype, dtype))
        answers = Model.over(session(graphs), Limits(), model.config.chronos_config)
        peers[dtype] = forecaster(SessionModel(answers))
    return found, peers


def _published(path: Path, source: str | None) -> tuple[Comparison, dict[str, Forecast]]:
    artifact = open_artifact(path)
    model, opened = load_source(artifact, source).pipeline.model, open_session(artifact)
    answers = Model.over(opened.session, opened.limits, model.config.chronos_config)
    ours = forecaster(SessionModel(answers))
    peers = {**_upstream(model.to(opened.choice.device)), artifact.manifest.dtype: ours}
    return Comparison(f"{path.name} ({opened.choice})", opened.choice.device), peers


def _upstream(model: Chronos2Model) -> dict[str, Forecast]:
    plain = forecaster(model)

    def narrow(context: Tensor, ids: Tensor) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16):
            return plain(context, ids)

    return {UPSTREAM: plain, UPSTREAM_NARROW: narrow}


def forecaster(model: Any, horizon: int = HORIZON) -> Forecast:
    """Return a model, upstream's or ours, as a function from the host's rows to the host's forecasts."""
    patches = -(-horizon // model.chronos_config.output_patch_size)

    @torch.no_grad()
    def forecast(context: Tensor, ids: Tensor) -> Tensor:
        context, ids = context.to(model.device), ids.to(model.device)
        out = model(context=context, group_ids=ids, num_output_patches=patches).quantile_preds
        forecast: Tensor = out[:, :, :horizon].float().cpu()
        return forecast

    return forecast


def write_graphs(model: Chronos2Model, folder: Path, dtype: str) -> Path:
    """Write the graphs of a model in one of `PRECISIONS` to `folder`, unless they are there; returns it."""
    if not folder.exists():
        folder.mkdir(parents=True)
        segmented = rewrite(model)
        with quiet():
            export_onnx(segmented, univariate(segmented), folder, {}, PRECISIONS[dtype])
    return folder
