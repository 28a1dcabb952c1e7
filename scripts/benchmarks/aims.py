"""The project's aims, each with what was measured of it and whether that meets it: ratios and shares only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chronos_export.bench.comparison import GROUP

from .growth import FEW, MANY, batch_bytes
from .layer import CALLS, KERNEL, LAYER
from .machine import NARROW
from .peers import DENSE_ONNX, OURS, UPSTREAM
from .records import Results, Timing
from .workloads import GROUPED, SINGLE, of_rows

LAYERS = 12
ROWS = {"cpu": 100, "cuda": 2000}  # the sizes that the aims of speed are set at, with `LAYERS`
NOT_MEASURED = "not measured"
EVERY = ("float32", "tf32", *NARROW)
COMPILED, CAPTURED = "torch.compile", "in one CUDA graph"  # in the names of peers

Values = dict[str, float]  # where -> how much
Judged = tuple[
    str, bool | None
]  # what was measured, and whether it is enough; None where this run cannot say
Judge = Callable[[Results], Judged]


@dataclass(frozen=True)
class Aim:
    """One line of the table; `met` is None where this run cannot say."""

    name: str
    measured: str
    met: bool | None


def aims(results: Results) -> list[Aim]:
    """Every aim of the device, in the order of the table."""
    table = GPU_AIMS if results.device == "cuda" else {**CPU_AIMS, **_cold(results)}
    return [Aim(name, *judge(results)) for name, judge in table.items()]


def at_least(limit: float, values: Callable[[Results], Values], form: str = "{:.2f}x") -> Judge:
    """All values reach a limit, at the size that aims of speed are set at."""
    return _within(values, form, lambda found: min(found) >= limit)


def at_most(limit: float, values: Callable[[Results], Values], form: str = "{:.2f}x") -> Judge:
    """No value exceeds a limit, at that size."""
    return _within(values, form, lambda found: max(found) <= limit)


def _within(values: Callable[[Results], Values], form: str, is_met: Callable[..., bool]) -> Judge:
    def judge(results: Results) -> Judged:
        found = values(results)
        if not found:
            return NOT_MEASURED, None
        measured = ", ".join(f"{form.format(value)} {where}".strip() for where, value in found.items())
        at_its_size = (results.rows, results.layers) == (ROWS[results.device], LAYERS)
        return measured, is_met(found.values()) if at_its_size else None

    return judge


def _ratio(timing: Timing) -> float:
    """Its time over the baseline's."""
    return timing.ratio or 0.0


def times(slow: str, fast: str, *kinds: str) -> Callable[[Results], Values]:
    """Kind of workload -> the time of one peer over another's; a kind by itself is not named."""

    def values(results: Results) -> Values:
        found = {kind: results.of(of_rows(kind, results.rows)) for kind in kinds or (GROUPED, SINGLE)}
        both = {kind: t for kind, t in found.items() if slow in t and fast in t}
        return {kind if len(found) > 1 else "": _ratio(t[slow]) / _ratio(t[fast]) for kind, t in both.items()}

    return values


def of_peak(results: Results) -> Values:
    """Kind of workload -> the share of the machine's peak."""
    found = {kind: results.of(of_rows(kind, results.rows)).get(OURS) for kind in (GROUPED, SINGLE)}
    return {kind: timing.of_peak or 0.0 for kind, timing in found.items() if timing}


def ahead(ours: str, dtype: str) -> Judge:
    """Of every peer that is not ours and computes in the same dtype, in every workload."""

    def judge(results: Results) -> Judged:
        behind, count = [], 0
        for workload in dict.fromkeys(timing.workload for timing in results.timings):
            found = results.of(workload)
            rivals = [t for t in found.values() if t.dtype == dtype and not t.is_ours]
            if ours not in found or not rivals:
                continue
            count += 1
            best = min(rivals, key=_ratio)
            if _ratio(best) < _ratio(found[ours]):
                behind.append(f"{_ratio(best) / _ratio(found[ours]):.2f}x {best.peer} ({workload})")
        return ("; ".join(behind) or f"in all {count}", not behind) if count else (NOT_MEASURED, None)

    return judge


def _flat(results: Results) -> Judged:
    grown = results.growth
    return (f"{grown.ratio:.2f}x", grown.ratio <= 1.05) if grown else (NOT_MEASURED, None)


def _bounded(results: Results) -> Judged:
    ours = results.growth.of(OURS) if results.growth else {}
    few, many = (ours[rows].memory if rows in ours else None for rows in (FEW, MANY))
    if few is None or many is None:
        return NOT_MEASURED, None
    more, allowed = many - few, 2 * (batch_bytes(MANY) - batch_bytes(FEW))
    return f"{more / 1e6:+.0f} MB of {allowed / 1e6:.0f} MB", more <= allowed


def _host(results: Results) -> Judged:
    worst = max(results.host, key=lambda each: each.share, default=None)
    if worst is None:
        return NOT_MEASURED, None
    return f"at most {worst.share:.1%} ({worst.peer}, {worst.call})", worst.share < 0.05


def _cold(results: Results) -> dict[str, Judge]:
    """One per model. No number is set here: upstream's process is the measure."""

    def judge_of(model: str) -> Judge:
        seconds = {s.what: s.seconds for s in results.starts if s.model == model and s.steps}
        if not {"ours", "upstream"} <= seconds.keys():
            return lambda _: (NOT_MEASURED, None)
        ours, theirs = seconds["ours"], seconds["upstream"]
        return lambda _: (f"{ours:.1f} s against {theirs:.1f} s", ours <= theirs)

    models = dict.fromkeys(start.model for start in results.starts) or ["the model"]
    return {f"cold start to the first forecast before upstream's, {name}": judge_of(name) for name in models}


def quickest(results: Results, workload: str, dtype: str, *words: str) -> list[Timing]:
    """Peers of a dtype whose names hold all words, the quickest first."""
    found = [t for t in results.of(workload).values() if t.dtype == dtype and all(w in t.peer for w in words)]
    return sorted(found, key=lambda timing: timing.seconds or 0.0)


def gpu_times(
    theirs: str, ours: str, dtypes: tuple[str, ...], rows_of: Callable[[int], tuple[int, ...]]
) -> Callable[[Results], Values]:
    """The time of the quickest such peer of theirs over that of ours, in groups of 20 of so many rows."""

    def values(results: Results) -> Values:
        found = Values()
        for rows in rows_of(results.rows):
            for dtype in dtypes:
                slow = quickest(results, of_rows(GROUPED, rows), dtype, "upstream", theirs)
                fast = quickest(results, of_rows(GROUPED, rows), dtype, "ours", ours)
                if slow and fast:
                    found[f"{dtype}, {rows} rows"] = _ratio(slow[0]) / _ratio(fast[0])
        return found

    return values


def _speedup(dtypes: tuple[str, ...], least: float, at_best: float) -> Judge:
    same = at_least(least, gpu_times("batch in one call", "", dtypes, lambda rows: (rows, rows // 5)))
    best = at_least(at_best, gpu_times("at its best", "", dtypes, lambda rows: (rows,)))

    def judge(results: Results) -> Judged:
        (said, met), (more, too) = same(results), best(results)
        return f"{said}; at its best {more}", None if None in (met, too) else bool(met and too)

    return judge


def _of_ours(
    value: Callable[[Results, Timing], float | None], dtypes: tuple[str, ...] = EVERY
) -> Callable[[Results], Values]:
    """dtype -> a value of our quickest that has it, on the large batch in groups of 20."""

    def values(results: Results) -> Values:
        found = Values()
        for dtype in dtypes:
            ours = quickest(results, of_rows(GROUPED, results.rows), dtype, "ours")
            if has := [x for x in (value(results, timing) for timing in ours) if x is not None]:
                found[dtype] = has[0]
        return found

    return values


def _alone(results: Results, dtype: str) -> Timing | None:
    """The kernel on segments of 20."""
    return results.of(f"{LAYER}, {dtype}, segments of {GROUP}").get(KERNEL)


def _attention(results: Results, whole: Timing) -> float | None:
    alone = _alone(results, whole.dtype)
    if not (alone and alone.seconds and whole.seconds):
        return None
    return alone.seconds / CALLS * results.layers / whole.seconds


def _over_few(value: Callable[[Timing], float | None]) -> Callable[[Results, Timing], float | None]:
    """Over the same peer's among a fifth of the rows."""

    def over(results: Results, many: Timing) -> float | None:
        few = results.of(of_rows(GROUPED, results.rows // 5)).get(many.peer)
        ours, before = value(many), value(few) if few else None
        return ours / before if ours and before else None

    return over


def _bandwidth(results: Results) -> Values:
    found = {dtype: _alone(results, dtype) for dtype in EVERY}
    return {dtype: timing.of_peak or 0.0 for dtype, timing in found.items() if timing}


def _closest(results: Results) -> Values:
    """The three problems of a layer in which a peer comes closest, and its time over ours."""
    found = Values()
    for workload in dict.fromkeys(t.workload for t in results.timings if t.workload.startswith(LAYER)):
        rivals = [_ratio(t) for t in results.of(workload).values() if not t.is_ours]
        if KERNEL in results.of(workload) and rivals:
            found[workload.removeprefix(f"{LAYER}, ")] = min(rivals)
    return dict(sorted(found.items(), key=lambda item: item[1])[:3])


CPU_AIMS: Mapping[str, Judge] = {
    "3x upstream, batch in one call, groups of 20": at_least(3, times(UPSTREAM, OURS, GROUPED)),
    "3.5x upstream, batch in one call, univariate": at_least(3.5, times(UPSTREAM, OURS, SINGLE)),
    "1.4x the dense ONNX at its best batch": at_least(1.4, times(DENSE_ONNX, OURS)),
    "ahead of every float32 peer in every workload": ahead(OURS, "float32"),
    "ahead of every bfloat16 peer in every workload": ahead("ours, bfloat16", "bfloat16"),
    "85 % of the float32 matrix-product peak": at_least(0.85, of_peak, "{:.0%}"),
    "bfloat16 2x our float32": at_least(2, times(OURS, "ours, bfloat16")),
    "int8 2.5x our float32": at_least(2.5, times(OURS, "ours, int8")),
    f"seconds per row at {MANY} rows at most 1.05x those at {FEW} (2 layers)": _flat,
    f"memory bounded by the call: {MANY - FEW} rows more take at most twice their own size": _bounded,
    "host side under 5 % of the time": _host,
}
GPU_AIMS: Mapping[str, Judge] = {
    "float32 3.5x upstream at the same batch, 1.4x at its own best": _speedup(("float32",), 3.5, 1.4),
    "tf32 15x upstream at the same batch, 2x at its own best": _speedup(("tf32",), 15, 2),
    "bfloat16 and float16 30x upstream at the same batch, 2x at its own best": _speedup(NARROW, 30, 2),
    "75 % of the matrix-product peak": at_least(0.75, _of_ours(lambda _, ours: ours.of_peak), "{:.0%}"),
    "group attention at most 6 % of the time in 16 bit": at_most(
        0.06, _of_ours(_attention, NARROW), "{:.1%}"
    ),
    "seconds per sample at 2000 rows at most 1.02x those at 400": at_most(
        1.02, _of_ours(_over_few(lambda t: t.seconds_per_sample))
    ),
    "memory linear in rows: at 2000 rows at most 5.1x that at 400": at_most(
        5.1, _of_ours(_over_few(lambda t: t.memory))
    ),
    "20 rows in one CUDA graph, ahead of torch.compile": at_least(
        1, gpu_times(COMPILED, CAPTURED, ("float32", "bfloat16"), lambda _: (GROUP,))
    ),
    "a layer's group attention at 70 % of the copy bandwidth": at_least(0.7, _bandwidth, "{:.0%}"),
    "a layer's group attention never behind a peer, at any segment length": at_least(1, _closest),
}
