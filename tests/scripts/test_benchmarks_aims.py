"""An aim is met where its number is reached, at the size it is set at, and never by silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.benchmarks.aims import CPU_AIMS, GPU_AIMS, NOT_MEASURED, Aim, aims
from scripts.benchmarks.layer import KERNEL, LAYER
from scripts.benchmarks.peers import DENSE_ONNX, OURS, UPSTREAM
from scripts.benchmarks.records import Growth, HostTime, Results, Start, Timing
from scripts.benchmarks.workloads import GROUPED, SINGLE, of_rows


def timing(
    kind: str, peer: str, ratio: float, dtype: str = "float32", of_peak: float | None = None
) -> Timing:
    return Timing(of_rows(kind, 100), peer, 100, dtype, seconds=ratio, ratio=ratio, of_peak=of_peak)


def grown(ratio: float, memory: tuple[int, int]) -> Growth:
    """Ours at 100 and 2000 rows."""
    rows = (100, 2000)
    timings = [Timing("", OURS, n, "float32", memory=taken) for n, taken in zip(rows, memory, strict=True)]
    return Growth(timings, ratio)


def results(**changes: object) -> Results:
    """A run that meets every aim by a little."""
    found = [
        timing(kind, peer, ratio, dtype, of_peak)
        for kind, upstream in ((GROUPED, 3.05), (SINGLE, 3.55))
        for peer, ratio, dtype, of_peak in (
            (UPSTREAM, upstream, "float32", None),
            ("upstream, bfloat16 autocast", 0.95, "bfloat16", None),
            (DENSE_ONNX, 1.45, "float32", None),
            (OURS, 1.0, "float32", 0.86),
            ("ours, bfloat16", 0.45, "bfloat16", 1.9),
            ("ours, int8", 0.35, "int8", 2.0),
        )
    ]
    starts = [
        Start("demo", "upstream", {"import": 7.0, "first call": 1.0}),
        Start("demo", "ours", {"import": 6.0, "first call": 0.1}),
    ]
    made = Results("cpu", "full", 12, 100, None, found, [HostTime(OURS, "predict", 10.0, 9.6)])
    made = replace(made, growth=grown(1.04, memory=(0, 52_000_000)), starts=starts)
    return replace(made, **changes)  # type: ignore[arg-type]


def line(found: Results, start: str) -> Aim:
    (aim,) = (aim for aim in aims(found) if aim.name.startswith(start))
    return aim


def changed(kind: str, peer: str, **values: float) -> Results:
    found = results()
    timings = [
        replace(t, **values) if (t.workload, t.peer) == (of_rows(kind, 100), peer) else t
        for t in found.timings
    ]
    return replace(found, timings=timings)


def test_all_met() -> None:
    assert [aim.name for aim in aims(results()) if aim.met is not True] == []
    assert len(aims(results())) == len(CPU_AIMS) + 1


@pytest.mark.parametrize(
    ("start", "missed", "measured"),
    [
        ("3x upstream", changed(GROUPED, UPSTREAM, ratio=2.99), "2.99x"),
        ("3.5x upstream", changed(SINGLE, UPSTREAM, ratio=3.49), "3.49x"),
        ("1.4x the dense", changed(SINGLE, DENSE_ONNX, ratio=1.39), "1.45x groups of 20, 1.39x univariate"),
        (
            "ahead of every float32",
            changed(GROUPED, DENSE_ONNX, ratio=0.99),
            f"0.99x {DENSE_ONNX} (groups of 20, 100 rows)",
        ),
        (
            "ahead of every bfloat16",
            changed(SINGLE, "ours, bfloat16", ratio=1.0),
            "0.95x upstream, bfloat16 autocast (univariate, 100 rows)",
        ),
        ("85 %", changed(SINGLE, OURS, of_peak=0.84), "86% groups of 20, 84% univariate"),
        (
            "bfloat16 2x",
            changed(GROUPED, "ours, bfloat16", ratio=0.51),
            "1.96x groups of 20, 2.22x univariate",
        ),
        ("int8 2.5x", changed(GROUPED, "ours, int8", ratio=0.41), "2.44x groups of 20, 2.86x univariate"),
        ("seconds per row", results(growth=grown(1.06, memory=(1, 1))), "1.06x"),
        ("memory bounded", results(growth=grown(1.0, memory=(0, 53_000_000))), "+53 MB of 53 MB"),
        ("host side", results(host=[HostTime(OURS, "predict_df", 10.0, 9.4)]), "at most 6.0% (" + OURS),
        (
            "cold start",
            results(starts=[Start("m", "upstream", {"x": 7.0}), Start("m", "ours", {"x": 7.1})]),
            "7.1 s against 7.0 s",
        ),
    ],
)
def test_missed_by_a_little(start: str, missed: Results, measured: str) -> None:
    aim = line(missed, start)
    assert aim.met is False
    assert aim.measured.startswith(measured)
    assert line(results(), start).met is True


def test_at_another_size_speed_is_shown_and_not_judged() -> None:
    aim = line(results(layers=2), "3x upstream")
    assert (aim.measured, aim.met) == ("3.05x", None)


@pytest.mark.parametrize(("device", "count"), [("cpu", len(CPU_AIMS) + 1), ("cuda", len(GPU_AIMS))])
def test_nothing_measured_meets_nothing(device: str, count: int) -> None:
    found = aims(Results(device, "full", 12, 100))
    assert len(found) == count
    assert all(NOT_MEASURED in aim.measured and aim.met is None for aim in found)


def test_a_failed_start_is_not_a_quick_one() -> None:
    failed = [Start("m", "upstream", {"x": 7.0}), Start("m", "ours", {}, "no such file")]
    assert line(results(starts=failed), "cold start") == Aim(
        "cold start to the first forecast before upstream's, m", NOT_MEASURED, None
    )


TIMES_UPSTREAM = {"float32": 3.6, "tf32": 15.5, "bfloat16": 31.0, "float16": 31.0}
AT_ITS_BEST = {"float32": 1.5, "tf32": 2.1, "bfloat16": 2.1, "float16": 2.1}


def on_a_gpu() -> dict[tuple[str, str], Timing]:
    """(workload, peer) -> timing of a run that meets every aim by a little; upstream in one call takes 1."""
    found = []
    for dtype, times in TIMES_UPSTREAM.items():
        for rows, seconds in ((2000, 1.0), (400, 0.2)):
            work, ours = of_rows(GROUPED, rows), seconds / times
            at_best = AT_ITS_BEST[dtype] / times
            found += [
                Timing(
                    work, f"upstream, batch in one call, {dtype}", rows, dtype, seconds=seconds, ratio=1.0
                ),
                Timing(
                    work, f"upstream at its best batch_size, {dtype}", rows, dtype, ratio=at_best, seconds=0.1
                ),
                Timing(
                    work,
                    f"ours, rewritten model, {dtype}",
                    rows,
                    dtype,
                    seconds=ours,
                    seconds_per_sample=ours / rows,
                    ratio=1 / times,
                    memory=rows * 1000,
                    of_peak=0.76,
                ),
            ]
        few = of_rows(GROUPED, 20)
        found += [
            Timing(few, f"upstream, torch.compile (default), {dtype}", 20, dtype, seconds=1.1, ratio=1.1),
            Timing(
                few, f"ours, rewritten model in one CUDA graph, {dtype}", 20, dtype, seconds=1.0, ratio=1.0
            ),
        ]
        for length in (20, 500):
            alone = f"{LAYER}, {dtype}, segments of {length}"
            found += [
                Timing(alone, KERNEL, 2000, dtype, seconds=0.003, ratio=1.0, of_peak=0.71),
                Timing(alone, "flex_attention", 2000, dtype, seconds=0.0031, ratio=1.03),
            ]
    return {(t.workload, t.peer): t for t in found}


def gpu_results(*changes: tuple[str, str, dict[str, float | None]]) -> Results:
    """Workloads and peers whose timings are others."""
    timings = on_a_gpu()
    for workload, peer, values in changes:
        timings[workload, peer] = replace(timings[workload, peer], **values)  # type: ignore[arg-type]
    return Results("cuda", "full", 12, 2000, None, list(timings.values()))


LARGE, PART, FEW = (of_rows(GROUPED, rows) for rows in (2000, 400, 20))


def test_all_met_on_a_gpu() -> None:
    assert [(aim.name, aim.measured) for aim in aims(gpu_results()) if aim.met is not True] == []


@pytest.mark.parametrize(
    ("start", "workload", "peer", "values"),
    [
        ("float32 3.5x", PART, "ours, rewritten model, float32", {"ratio": 1 / 3.4}),
        ("tf32 15x", LARGE, "upstream at its best batch_size, tf32", {"ratio": 1.9 / 15.5}),
        ("bfloat16 and float16", LARGE, "ours, rewritten model, float16", {"ratio": 1 / 29}),
        ("75 %", LARGE, "ours, rewritten model, bfloat16", {"of_peak": 0.74}),
        ("group attention", f"{LAYER}, float16, segments of 20", KERNEL, {"seconds": 0.0033}),
        (
            "seconds per sample",
            LARGE,
            "ours, rewritten model, tf32",
            {"seconds_per_sample": 1.03 / 15.5 / 2000},
        ),
        ("memory linear", LARGE, "ours, rewritten model, tf32", {"memory": 2_050_000}),
        ("20 rows", FEW, "upstream, torch.compile (default), bfloat16", {"ratio": 0.99}),
        ("a layer's group attention at", f"{LAYER}, tf32, segments of 20", KERNEL, {"of_peak": 0.69}),
        (
            "a layer's group attention never",
            f"{LAYER}, tf32, segments of 500",
            "flex_attention",
            {"ratio": 0.9},
        ),
    ],
)
def test_missed_by_a_little_on_a_gpu(start: str, workload: str, peer: str, values: dict[str, float]) -> None:
    assert line(gpu_results((workload, peer, dict(values))), start).met is False


def test_an_engine_that_is_ahead_counts_but_where_its_memory_is_not_known() -> None:
    engine = {"seconds": 1 / 40, "ratio": 1 / 40, "memory": None}
    found = gpu_results()
    found.timings.append(Timing(LARGE, "ours, engine, tf32", 2000, "tf32", **engine))  # type: ignore[arg-type]
    assert "40.00x tf32, 2000 rows" in line(found, "tf32 15x").measured
    assert line(found, "memory linear").met is True
