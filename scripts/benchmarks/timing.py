"""Alternating rounds: every peer once per round, ratios taken within a round, so that drift cancels."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from chronos_export.errors import ChronosExportError

from .memory import PeakMemory
from .peers import OURS, UPSTREAM, UPSTREAM_BEST, Answer, Peer
from .records import Timing

FAR = 4  # what would take that many times longer than what is slow is not run
SAMPLE = 10  # rows that a size of a call is tried on, at least


def silent(_: str) -> None:
    """Whoever does not ask is not told."""


@dataclass(frozen=True)
class Rules:
    """How long peers are timed.

    Attributes:
        rounds: Rounds, at least.
        most: Rounds of quick batches, at most.
        quick: Seconds that all peers together run before quick batches have had enough rounds.
        longest: Seconds of a batch above which all but our sessions and upstream itself are timed once.
        baseline: Peer whose time ratios are taken to.
        device: "cpu" or "cuda".
    """

    rounds: int = 3
    most: int = 10
    quick: float = 20.0
    longest: float = 8.0
    baseline: str = OURS
    device: str = "cpu"


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
    work: Any,
    rules: Rules,
    ideal: float | None = None,
    right: Tensor | None = None,
    say: Callable[[str], None] = silent,
) -> Iterator[Timing]:
    """Time every peer on one workload.

    Each is opened, warmed up and then timed on the whole batch: the first round. Our sessions and upstream
    itself are warmed up on the whole batch, the others on a few rows; of those, what is slow is timed once
    and what would be far slower is not run.

    Args:
        peers: The contenders.
        work: The batch: a `workloads.Workload` or `layer.Layer`.
        rules: How long to time.
        ideal: Seconds that the work that is left would take at the machine's peak, or None.
        right: Upstream's forecast of the first rows in float32; that of `UPSTREAM` among the peers if None.
        say: Told what is being timed.

    Yields:
        What is known of a peer after its first run, and of all of them once more after the last round.
    """
    runs: list[_Run] = []
    gc.collect()  # garbage of the last workload would be reused, and hide what this one needs
    for peer in peers:
        say(f"{work.name}: {peer.name}")
        try:
            runs.append(_first_run(peer, work, runs, rules))
        except (RuntimeError, MemoryError, ChronosExportError) as error:
            runs.append(_Run(peer, note=str(error).strip().splitlines()[0][:120]))
        if not _goes_on(runs, 1, rules):
            for run in runs:
                run.answer = None  # what it holds of memory is the next peer's
        yield _timing(runs[-1], work, runs, rules, ideal, right)
    done = 1
    while _goes_on(runs, done, rules):
        done += 1
        say(f"{work.name}: round {done}")
        for run in runs:
            if run.answer is not None:
                run.seconds.append(_timed(run.answer, work, run.calls, rules.device)[0])
    for run in runs:
        yield _timing(run, work, runs, rules, ideal, right)


def _goes_on(runs: list[_Run], done: int, rules: Rules) -> bool:
    """Whether another round follows those that are done."""
    return done < rules.rounds or (done < rules.most and sum(sum(run.seconds) for run in runs) < rules.quick)


def _first_run(peer: Peer, work: Any, runs: list[_Run], rules: Rules) -> _Run:
    calls, note = _best_cut(peer, work, runs, rules.device)
    for run in runs:
        if (run.peer.open, run.calls) == (peer.open, calls) and run.seconds:
            return replace(run, peer=peer, answer=None, note=f"{note}; as {run.peer.name}".lstrip("; "))
    answer = peer.open()
    peak = PeakMemory(rules.device)
    on_gpu = (
        rules.device == "cuda"
    )  # where nothing is slow, and code would be made ready for few rows in vain
    is_patient = on_gpu or peer.session is not None or peer.name in (UPSTREAM, UPSTREAM_BEST)
    expected = 0.0 if on_gpu else _expected(answer, work, rules.device)
    if not is_patient and expected > FAR * rules.longest:
        expected = _expected(answer, work, rules.device)  # the first call of all may have taken longer
        if expected > FAR * rules.longest:
            return _Run(peer, calls, note=f"not waited for: about {expected:.0f} s per batch")
    seconds, forecast = _timed(answer, work, calls, rules.device)
    memory = None if peer.session and on_gpu else peak.bytes()  # an engine has its own
    if is_patient or seconds > FAR * expected:  # code for these shapes may have been made ready only now
        seconds, forecast = _timed(answer, work, calls, rules.device)
    goes_on = is_patient or seconds <= rules.longest
    if not goes_on:
        note = f"{note}; timed once".lstrip("; ")
    return _Run(peer, calls, answer if goes_on else None, [seconds], forecast, memory, note)


def _expected(answer: Answer, work: Any, device: str) -> float:
    """Seconds of the batch at the pace of a few rows, which warms up too."""
    few = work.ends()
    seconds, _ = _timed(answer, few, (few.rows,), device)
    return float(seconds * work.rows / few.rows)


def _best_cut(peer: Peer, work: Any, runs: list[_Run], device: str) -> tuple[tuple[int, ...], str]:
    """The cut of a batch into calls with the fewest seconds per row, and which were tried.

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
    _expected(answer, work, device)

    def seconds_per_row(calls: tuple[int, ...]) -> float:
        count = next((n for n in range(len(calls)) if sum(calls[:n]) >= SAMPLE), len(calls))
        return _timed(answer, work, calls[:count], device)[0] / sum(calls[:count])

    cost = {calls: known.get(calls) or seconds_per_row(calls) for calls in cuts}
    best = min(cost, key=lambda calls: cost[calls])
    return best, f"rows per call: {cuts[best]}, the best of {', '.join(map(str, sorted(cuts.values())))}"


def _timed(answer: Answer, work: Any, calls: tuple[int, ...], device: str) -> tuple[float, Tensor]:
    pieces = work.pieces(calls)
    wait(device)
    begin = perf_counter()
    forecasts = [answer(piece) for piece in pieces]
    forecast = forecasts[0] if len(forecasts) == 1 else torch.cat(forecasts)
    wait(device)
    return perf_counter() - begin, forecast


def _timing(
    run: _Run, work: Any, runs: list[_Run], rules: Rules, ideal: float | None, right: Tensor | None
) -> Timing:
    base = Timing(work.name, run.peer.name, work.rows, run.peer.dtype, note=run.note)
    if not run.seconds or run.forecast is None:
        return base
    seconds = statistics.median(run.seconds)
    baseline = next((r.seconds for r in runs if r.peer.name == rules.baseline), [])
    ratios = [mine / theirs for mine, theirs in zip(run.seconds, baseline, strict=False)]
    if right is None:
        right = next((r.forecast for r in runs if r.peer.name == UPSTREAM), None)
    return replace(
        base,
        seconds=seconds,
        seconds_per_sample=seconds / work.samples,
        ratio=statistics.median(ratios) if ratios else None,
        spread=(min(ratios), max(ratios)) if ratios else None,
        memory=run.memory,
        error=None if right is None else _error(run.forecast[: len(right)], right),
        of_peak=ideal / seconds if ideal and base.is_ours else None,
    )


def _error(forecast: Tensor, right: Tensor) -> float:
    spread = right.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    return float(((forecast - right).abs() / spread).max())


def best_seconds(run: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """The shortest call of those made for so many seconds."""
    best, end = inf, perf_counter() + seconds
    while perf_counter() < end:
        wait(device)
        begin = perf_counter()
        run()
        wait(device)
        best = min(best, perf_counter() - begin)
    return best


def wait(device: str) -> None:
    """Let the GPU finish what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products on a GPU may use tf32."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
