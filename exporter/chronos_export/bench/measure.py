"""Alternating rounds: every peer once a round, ratios taken within a round, so that drift cancels."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch
from torch import Tensor

from chronos_export.bench.memory import PeakMemory
from chronos_export.bench.peers import OURS, UPSTREAM, UPSTREAM_BEST, Answer, Peer
from chronos_export.bench.workloads import Workload
from chronos_export.errors import ChronosExportError

LONGEST = 8.0  # seconds of a batch above which all but our sessions and upstream itself are timed once
FAR = 4  # what would take that many times longer still is not run
SAMPLE = 10  # rows that a size of a call is tried on, at least
QUICK, MOST = 20.0, 10  # quick batches get more rounds, until all have run for 20 s together, at most 10


@dataclass(frozen=True)
class Timing:
    """One peer on one workload.

    Attributes:
        workload: Name of the workload.
        peer: Name of the peer.
        rows: Rows in the batch.
        dtype: What the peer's products are computed in.
        seconds: Median of a batch; None where it did not run.
        seconds_a_sample: The same for one group.
        ratio: Median over rounds of its time over ours; above 1 means that we are faster.
        spread: Smallest and largest of these ratios.
        memory: Bytes that its first run needed on top of what was loaded; see `memory.PeakMemory`.
        error: Largest difference from upstream, over the spread of the row.
        of_peak: For ours, the share of the machine's peak, counting only the work that is left.
        note: The call size chosen, or why it did not run.
    """

    workload: str
    peer: str
    rows: int
    dtype: str
    seconds: float | None = None
    seconds_a_sample: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    memory: int | None = None
    error: float | None = None
    of_peak: float | None = None
    note: str = ""


@dataclass
class _Run:
    """A peer on the workload at hand; it goes on as long as it has an answer."""

    peer: Peer
    calls: tuple[int, ...] = ()
    answer: Answer | None = None
    seconds: list[float] = field(default_factory=list)
    forecast: Tensor | None = None
    memory: int | None = None
    note: str = ""


def compare(
    peers: Iterable[Peer],
    work: Workload,
    rounds: int,
    ideal: float | None = None,
    longest: float = LONGEST,
    say: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time every peer on one workload.

    Each is opened, warmed up and then timed on the whole batch: the first round. Our sessions and upstream
    itself are warmed up on the whole batch, the others on a few rows; of those, what is slow is timed once
    and what would be far slower is not run.

    Args:
        peers: The contenders.
        work: The batch.
        rounds: Rounds, at least; quick batches get more.
        ideal: Seconds that the work that is left would take at the machine's peak, or None.
        longest: Seconds of a batch above which a peer is slow.
        say: Told what is being timed.
    """
    runs: list[_Run] = []
    gc.collect()  # garbage of the last workload would be reused, and hide what this one needs
    for peer in peers:
        say(f"{work.name}: {peer.name}")
        try:
            runs.append(_first_run(peer, work, runs, longest))
        except (RuntimeError, MemoryError, ChronosExportError) as error:
            runs.append(_Run(peer, note=str(error).splitlines()[0][:120]))
        if not _goes_on(runs, 1, rounds):
            for run in runs:
                run.answer = None  # what it holds of memory is the next peer's
    done = 1
    while _goes_on(runs, done, rounds):
        done += 1
        say(f"{work.name}: round {done}")
        for run in runs:
            if run.answer is not None:
                run.seconds.append(_timed(run.answer, work, run.calls)[0])
    return [_timing(run, work, runs, ideal) for run in runs]


def _goes_on(runs: list[_Run], done: int, rounds: int) -> bool:
    """Whether another round follows those that are done."""
    return done < rounds or (done < MOST and sum(sum(run.seconds) for run in runs) < QUICK)


def _first_run(peer: Peer, work: Workload, runs: list[_Run], longest: float) -> _Run:
    calls, note = _best_cut(peer, work, runs)
    for run in runs:
        if (run.peer.open, run.calls) == (peer.open, calls) and run.seconds:
            return replace(run, peer=peer, answer=None, note=f"{note}; as {run.peer.name}".lstrip("; "))
    answer = peer.open()
    peak = PeakMemory()
    expected = _expected(answer, work)
    is_patient = peer.session is not None or peer.name in (UPSTREAM, UPSTREAM_BEST)
    if not is_patient and expected > FAR * longest:
        expected = _expected(answer, work)  # the first call of all may have taken longer
        if expected > FAR * longest:
            return _Run(peer, calls, note=f"not waited for: about {expected:.0f} s a batch")
    seconds, forecast = _timed(answer, work, calls)
    memory = peak.bytes()
    if is_patient or seconds > FAR * expected:  # code for these shapes may have been made ready only now
        seconds, forecast = _timed(answer, work, calls)
    goes_on = is_patient or seconds <= longest
    if not goes_on:
        note = f"{note}; timed once".lstrip("; ")
    return _Run(peer, calls, answer if goes_on else None, [seconds], forecast, memory, note)


def _expected(answer: Answer, work: Workload) -> float:
    """Seconds of the batch at the pace of a few rows, which warms up too."""
    few = work.ends()
    return _timed(answer, few, (few.rows,))[0] * work.rows / few.rows


def _best_cut(peer: Peer, work: Workload, runs: list[_Run]) -> tuple[tuple[int, ...], str]:
    """The cut of a batch into calls with the fewest seconds a row, and which were tried.

    A cut is timed on its first calls, at least `SAMPLE` rows, unless the same calls were timed above.
    """
    if not peer.sizes:
        return (work.rows,), ""
    cuts = {work.cut(size): min(size, work.rows) for size in sorted(peer.sizes)}
    if len(cuts) == 1:
        return next(iter(cuts)), ""
    known = {
        run.calls: run.seconds[0] / work.rows for run in runs if run.peer.open is peer.open and run.seconds
    }
    answer = peer.open()
    _expected(answer, work)
    cost = {calls: known.get(calls) or _seconds_a_row(answer, work, calls) for calls in cuts}
    best = min(cost, key=lambda calls: cost[calls])
    return best, f"rows a call: {cuts[best]}, the best of {', '.join(map(str, sorted(cuts.values())))}"


def _seconds_a_row(answer: Answer, work: Workload, calls: tuple[int, ...]) -> float:
    count = next((n for n in range(len(calls)) if sum(calls[:n]) >= SAMPLE), len(calls))
    return _timed(answer, work, calls[:count])[0] / sum(calls[:count])


def _timed(answer: Answer, work: Workload, calls: tuple[int, ...]) -> tuple[float, Tensor]:
    pieces = work.pieces(calls)
    begin = perf_counter()
    forecasts = [answer(piece) for piece in pieces]
    forecast = forecasts[0] if len(forecasts) == 1 else torch.cat(forecasts)
    return perf_counter() - begin, forecast


def _timing(run: _Run, work: Workload, runs: list[_Run], ideal: float | None) -> Timing:
    base = Timing(work.name, run.peer.name, work.rows, run.peer.dtype, note=run.note)
    if not run.seconds or run.forecast is None:
        return base
    seconds = statistics.median(run.seconds)
    ours = next((r.seconds for r in runs if r.peer.name == OURS), [])
    ratios = [mine / our for mine, our in zip(run.seconds, ours, strict=False)]
    upstream = next((r.forecast for r in runs if r.peer.name == UPSTREAM), None)
    return replace(
        base,
        seconds=seconds,
        seconds_a_sample=seconds / work.samples,
        ratio=statistics.median(ratios) if ratios else None,
        spread=(min(ratios), max(ratios)) if ratios else None,
        memory=run.memory,
        error=None if upstream is None else _error(run.forecast, upstream),
        of_peak=ideal / seconds if ideal and run.peer.is_ours else None,
    )


def _error(forecast: Tensor, upstream: Tensor) -> float:
    spread = upstream.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    return float(((forecast - upstream).abs() / spread).max())
