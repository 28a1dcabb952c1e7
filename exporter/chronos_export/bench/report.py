"""A run of the bench as Markdown: the aims first, then what they were read from."""

from __future__ import annotations

from collections.abc import Sequence

from chronos_export.bench.aims import LAYERS, ROWS, aims
from chronos_export.bench.cold_start import Start
from chronos_export.bench.measure import Timing
from chronos_export.bench.results import Results
from chronos_export.bench.scaling import PEERS


def as_markdown(results: Results) -> str:
    """The tables, and the environment they came from."""
    parts = [
        _environment(results),
        _aims(results),
        _overview(results),
        *(_workload(results, name) for name in workloads_of(results)),
        _scaling(results),
        _host(results),
        _starts(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def workloads_of(results: Results) -> list[str]:
    """The names of the workloads timed so far, in order."""
    return list(dict.fromkeys(timing.workload for timing in results.timings))


def _table(title: str, head: str, rows: Sequence[tuple[str, ...]], text: str = "") -> str:
    """A section, or "" without rows; columns of numbers are aligned to the right."""
    if not rows:
        return ""
    rule = " | ".join("---:" if all(map(_is_number, column)) else "---" for column in zip(*rows, strict=True))
    lines = [f"## {title}", "", *([text, ""] if text else []), f"| {head} |", f"| {rule} |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()


def _environment(results: Results) -> str:
    lines = [f"- {name}: {value}" for name, value in results.environment.items()]
    peaks = ", ".join(f"{name} {flops / 1e9:.0f}" for name, flops in results.peaks.items())
    lines += [
        f"- model: {results.subject}",
        f"- matrix product in float32: {results.peak / 1e9:.0f} GFLOP/s ({peaks})",
        f"- copy: {results.bandwidth / 1e9:.0f} GB/s, read and written",
    ]
    return "\n".join(lines)


def _aims(results: Results) -> str:
    rows = [(aim.name, aim.measured, _met(aim.met)) for aim in aims(results)]
    text = (
        f"Aims of speed are for {ROWS} rows and {LAYERS} layers; this is {results.rows} and {results.layers}."
    )
    return _table("Aims", "aim | measured | met", rows, text)


def _overview(results: Results) -> str:
    names = workloads_of(results)
    peers = dict.fromkeys(timing.peer for timing in results.timings)
    cells = {(t.peer, t.workload): f"{t.ratio:.2f}" for t in results.timings if t.ratio}
    rows = [(peer, *(cells.get((peer, name), "-") for name in names)) for peer in peers]
    head = " | ".join(["peer", *names])
    return _table("Time over ours on onnxruntime", head, [row for row in rows if set(row[1:]) != {"-"}])


def _workload(results: Results, name: str) -> str:
    head = "peer | s | s/sample | rows/s | time over ours | min..max | peak MB | of peak | error | note"
    rows = [_row(timing) for timing in results.timings if timing.workload == name]
    return _table(name, head, rows)


def _row(t: Timing) -> tuple[str, ...]:
    if t.seconds is None or t.seconds_a_sample is None:
        return (t.peer, *["-"] * 8, t.note)
    return (
        t.peer,
        f"{t.seconds:.3f}",
        f"{t.seconds_a_sample:.4f}",
        f"{t.rows / t.seconds:.1f}",
        f"{t.ratio:.2f}" if t.ratio else "-",
        f"{t.spread[0]:.2f}..{t.spread[1]:.2f}" if t.spread else "-",
        f"{t.memory / 1e6:.0f}" if t.memory is not None else "-",
        f"{t.of_peak:.0%}" if t.of_peak else "-",
        f"{t.error:.1e}" if t.error is not None else "-",
        t.note,
    )


def _scaling(results: Results) -> str:
    if results.scaling is None:
        return ""
    times, memory = [], []
    for count, size in results.scaling.batch_bytes.items():
        found = [results.scaling.of(peer)[count] for peer in PEERS]
        times.append((str(count), *(_seconds(timing.seconds_a_sample) for timing in found)))
        memory.append((str(count), *(_megabytes(timing.memory) for timing in found), _megabytes(size)))
    head = " | ".join(["rows", *PEERS])
    in_full = f"{head} | the rows and their forecasts"
    return "\n\n".join(
        [
            _table("Seconds a sample as the batch grows, two layers, groups of 20", head, times),
            _table("Peak MB as the batch grows, two layers, groups of 20", in_full, memory),
        ]
    )


def _host(results: Results) -> str:
    rows = [(h.peer, h.call, f"{h.seconds:.3f}", f"{h.share:.1%}") for h in results.host]
    return _table("Host side: time outside of the session", "peer | call | s | outside", rows)


def _starts(results: Results) -> str:
    rows = [
        (s.model, s.what, f"{s.seconds:.1f}", "; ".join(filter(None, [_steps(s), s.note])))
        for s in results.starts
    ]
    text = "A fresh process to its first forecast of 20 rows; files in the system's cache."
    return _table("Cold start", "model | what | s | of which", rows, text)


def _steps(start: Start) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in start.steps.items())


def _met(met: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[met]


def _seconds(count: float | None) -> str:
    return "-" if count is None else f"{count:.3f}"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"
