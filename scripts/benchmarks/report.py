"""A run of the benchmarks as Markdown: the aims first, then what they were read from."""

from __future__ import annotations

from collections.abc import Sequence

from .aims import LAYERS, ROWS, aims
from .growth import PEERS, batch_bytes
from .layer import LAYER
from .records import Results, Timing

BASELINES = {"cpu": "ours on onnxruntime", "cuda": "upstream's in the same dtype, batch in one call"}
GROWTH, MEMORY = (
    f"{what} as the batch grows, two layers, groups of 20" for what in ("Seconds per sample", "Peak MB")
)
HOST, STARTS = "Host side: time outside of the session", "Cold start"
STARTS_TEXT = "Exports, engines, fresh processes to their first forecast of 20 rows; files are in the cache."
MET = {True: "yes", False: "no", None: "-"}


def as_markdown(results: Results) -> str:
    """The tables, and the environment they came from."""
    names = list(dict.fromkeys(timing.workload for timing in results.timings))
    whole, alone = ([n for n in names if n.startswith(LAYER) is of_layer] for of_layer in (False, True))
    cut_off = [(cut.section, cut.why) for cut in results.cut_off if cut.why]
    host = [(h.peer, h.call, f"{h.seconds:.3f}", f"{h.share:.1%}") for h in results.host]
    parts = [
        _environment(results),
        _aims(results),
        _section("Not all of it was run", "section | why", cut_off),
        _overview(results, ratios(results), whole),
        _overview(results, "Group attention alone: time over our kernel's", alone),
        *(_workload(results, name) for name in names),
        *_growth(results),
        _section(HOST, "peer | call | s | outside", host),
        _starts(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def ratios(results: Results) -> str:
    """The title of the table of all peers."""
    return f"Time over {BASELINES[results.device]}"


def table(head: str, rows: Sequence[tuple[str, ...]]) -> str:
    """A table; columns of numbers are aligned to the right."""
    right = [all(cell == "-" or cell[:1].isdigit() for cell in column) for column in zip(*rows, strict=True)]
    rule = " | ".join("---:" if is_number else "---" for is_number in right)
    return "\n".join([f"| {head} |", f"| {rule} |", *(f"| {' | '.join(row)} |" for row in rows)])


def _section(title: str, head: str, rows: Sequence[tuple[str, ...]], text: str = "") -> str:
    """A table under its title, or "" without rows."""
    return "\n\n".join([f"## {title}", *([text] if text else []), table(head, rows)]) if rows else ""


def _environment(results: Results) -> str:
    if results.machine is None:
        return ""
    found, bandwidth = results.machine, results.machine.bandwidth
    lines = [f"- {name}: {value}" for name, value in found.environment.items() if value is not None]
    peaks = ", ".join(f"{name} {flops / 1e9:.0f}" for name, flops in found.peaks.items())
    lines += [f"- model: {results.subject}", f"- matrix product: {peaks} GFLOP/s"]
    return "\n".join(lines + ([f"- copy: {bandwidth / 1e9:.0f} GB/s, read and written"] if bandwidth else []))


def _aims(results: Results) -> str:
    set_at = f"Aims of speed are for {ROWS[results.device]} rows and {LAYERS} layers"
    rows = [(aim.name, aim.measured, MET[aim.met]) for aim in aims(results)]
    return _section(
        "Aims", "aim | measured | met", rows, f"{set_at}; this is {results.rows} and {results.layers}."
    )


def _overview(results: Results, title: str, names: list[str]) -> str:
    peers = dict.fromkeys(timing.peer for timing in results.timings)
    cells = {(t.peer, t.workload): f"{t.ratio:.2f}" for t in results.timings if t.ratio}
    rows = [(peer, *(cells.get((peer, name), "-") for name in names)) for peer in peers]
    return _section(title, " | ".join(["peer", *names]), [row for row in rows if set(row[1:]) - {"-"}])


def _workload(results: Results, name: str) -> str:
    head = "peer | s | s/sample | rows/s | ratio | min..max | peak MB | of peak | error | note"
    return _section(name, head, [_row(timing) for timing in results.timings if timing.workload == name])


def _row(t: Timing) -> tuple[str, ...]:
    return (
        t.peer,
        _number(t.seconds, "{:.3f}"),
        _number(t.seconds_per_sample, "{:.4f}"),
        _number(t.seconds and t.rows / t.seconds, "{:.1f}"),
        _number(t.ratio, "{:.2f}"),
        "..".join(f"{ratio:.2f}" for ratio in t.spread) if t.spread else "-",
        _megabytes(t.memory),
        _number(t.of_peak, "{:.0%}"),
        _number(t.error, "{:.1e}"),
        t.note,
    )


def _growth(results: Results) -> list[str]:
    grown = results.growth
    if grown is None:
        return []
    peers = [peer for peer in PEERS if grown.of(peer)]
    times, memory = [], []
    for rows in grown.of(peers[-1]):
        found = [grown.of(peer)[rows] for peer in peers]
        times.append((str(rows), *(_number(t.seconds_per_sample, "{:.3f}") for t in found)))
        memory.append((str(rows), *(_megabytes(t.memory) for t in found), _megabytes(batch_bytes(rows))))
    head = " | ".join(["rows", *peers])
    return [_section(GROWTH, head, times), _section(MEMORY, f"{head} | the rows and their forecasts", memory)]


def _starts(results: Results) -> str:
    rows = []
    for start in results.starts:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in start.steps.items())
        note = "; ".join(filter(None, [steps, start.note]))
        rows.append((start.model, start.what, f"{start.seconds:.1f}", note))
    return _section(STARTS, "model | what | s | of which", rows, STARTS_TEXT)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"
