"""The bench as one call: every peer on every workload, then what surrounds a forecast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chronos_export.bench.cold_start import cold_starts
from chronos_export.bench.host import host_times
from chronos_export.bench.machine import copy_bandwidth, environment, matmul_peak
from chronos_export.bench.measure import LONGEST, compare
from chronos_export.bench.peers import Peer, peers_of
from chronos_export.bench.plot import plot
from chronos_export.bench.report import as_markdown
from chronos_export.bench.results import Results
from chronos_export.bench.scaling import scaling
from chronos_export.bench.subject import Subject
from chronos_export.bench.work_left import flops_left
from chronos_export.bench.workloads import Workload, all_workloads
from chronos_export.errors import UsageError


def run_bench(
    subject: Subject,
    output: Path,
    rows: int = 100,
    rounds: int = 3,
    compiled: bool = False,
    longest: float = LONGEST,
    only: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Results:
    """Time a model in every way, and keep what is found in `output` as it is found.

    Args:
        subject: What to bench.
        output: Folder of `cpu.md`, `cpu.json` and, at the end, `cpu.png`.
        rows: Rows of the large batches, at least 20; rounded down to whole groups of 20.
        rounds: Rounds of every peer on every workload.
        compiled: Whether torch.compile of upstream is among the peers.
        longest: Seconds of a batch above which a peer is timed once; see `measure.compare`.
        only: How the names of the workloads begin that shall be timed, () for everything. What an earlier run
            of the same model on the same machine has written to `output` is kept of all else.
        say: Told what is being timed.

    Raises:
        UsageError: No workload is called so.
    """
    rows = rows // 20 * 20
    every = all_workloads(rows)
    works = _chosen(every, only)
    order = {work.name: place for place, work in enumerate(every)}
    say("the machine's own peak")
    results = Results(environment(), subject.name, subject.layers, rows, matmul_peak(), copy_bandwidth())
    if only:
        results = _with_others(results, output, works)
    peers = list(peers_of(subject, compiled))
    for work in works:
        ideal = flops_left(subject.model.config, work) / results.peak
        results.timings += compare(peers, work, rounds, ideal, longest, say)
        results.timings.sort(key=lambda timing: order.get(timing.workload, len(order)))
        results.write(output, as_markdown(results))
    if not only:
        _surroundings(subject, peers, results, output, say)
    return results


def _surroundings(
    subject: Subject, peers: list[Peer], results: Results, output: Path, say: Callable[[str], None]
) -> None:
    """What is measured beside the workloads, written as it is found."""
    results.host = host_times(peers, subject, min(results.rows, 40), say)
    results.write(output, as_markdown(results))
    results.scaling = scaling(subject, say)
    results.write(output, as_markdown(results))
    plot(results.scaling, output / "cpu.png")
    for start in cold_starts(subject, say):
        results.starts.append(start)
        results.write(output, as_markdown(results))


def _with_others(results: Results, output: Path, works: list[Workload]) -> Results:
    """What an earlier run found of other workloads, if it was of the same model on the same machine."""
    earlier, timed = Results.read(output), {work.name for work in works}
    if earlier is None or not earlier.is_of(results):
        return results
    earlier.timings = [timing for timing in earlier.timings if timing.workload not in timed]
    return earlier


def _chosen(works: list[Workload], only: tuple[str, ...]) -> list[Workload]:
    names = [work.name for work in works]
    for beginning in only:
        if not any(name.startswith(beginning) for name in names):
            raise UsageError(f"no workload is called {beginning!r}", allowed=", ".join(names))
    return [work for work in works if not only or work.name.startswith(only)]
