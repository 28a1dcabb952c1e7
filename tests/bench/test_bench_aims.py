"""An aim is met where its number is reached, at the size it is set at, and never by silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chronos_export.bench.aims import GPU_AIMS, NOT_MEASURED, ON_A_GPU, Aim, aims
from chronos_export.bench.cold_start import Start
from chronos_export.bench.host import HostTime
from chronos_export.bench.measure import Timing
from chronos_export.bench.peers import DENSE_ONNX, OURS, UPSTREAM
from chronos_export.bench.results import Results
from chronos_export.bench.scaling import Scaling
from chronos_export.bench.workloads import GROUPED, SINGLE, of_rows


def timing(
    kind: str, peer: str, ratio: float, dtype: str = "float32", of_peak: float | None = None
) -> Timing:
    return Timing(of_rows(kind, 100), peer, 100, dtype, seconds=ratio, ratio=ratio, of_peak=of_peak)


def grown(growth: float, memory: tuple[int, int], batch: tuple[int, int]) -> Scaling:
    """Ours at 100 and 2000 rows."""
    rows = (100, 2000)
    timings = [Timing("", OURS, n, "float32", memory=taken) for n, taken in zip(rows, memory, strict=True)]
    return Scaling(timings, growth, dict(zip(rows, batch, strict=True)))


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
    scaling = grown(1.04, memory=(50, 150), batch=(10, 61))
    starts = [
        Start("demo", "upstream", {"import": 7.0, "first call": 1.0}),
        Start("demo", "ours", {"import": 6.0, "first call": 0.1}),
    ]
    made = Results({}, "full", 12, 100, {"torch": 1e11}, 1e10, found)
    made = replace(made, host=[HostTime(OURS, "predict", 10.0, 9.6)], scaling=scaling, starts=starts)
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
    found = aims(results())
    assert [aim.name for aim in found if aim.met is None] == list(GPU_AIMS)
    assert {aim.measured for aim in found if aim.met is None} == {ON_A_GPU}
    assert not [aim.name for aim in found if aim.met is False]


@pytest.mark.parametrize(
    ("start", "missed", "measured"),
    [
        ("3x upstream", changed(GROUPED, UPSTREAM, ratio=2.99), "2.99x"),
        ("3.5x upstream", changed(SINGLE, UPSTREAM, ratio=3.49), "3.49x"),
        ("1.4x the dense", changed(SINGLE, DENSE_ONNX, ratio=1.39), "1.45x groups of 20, 1.39x single rows"),
        (
            "ahead of every float32",
            changed(GROUPED, DENSE_ONNX, ratio=0.99),
            f"0.99x {DENSE_ONNX} (groups of 20, 100 rows)",
        ),
        (
            "ahead of every bfloat16",
            changed(SINGLE, "ours, bfloat16", ratio=1.0),
            "0.95x upstream, bfloat16 autocast (single rows, 100 rows)",
        ),
        ("85 %", changed(SINGLE, OURS, of_peak=0.84), "86% groups of 20, 84% single rows"),
        (
            "bfloat16 2x",
            changed(GROUPED, "ours, bfloat16", ratio=0.51),
            "1.96x groups of 20, 2.22x single rows",
        ),
        ("int8 2.5x", changed(GROUPED, "ours, int8", ratio=0.41), "2.44x groups of 20, 2.86x single rows"),
        (
            "seconds a row",
            results(scaling=grown(1.06, memory=(1, 1), batch=(1, 1))),
            "1.06x",
        ),
        (
            "memory bounded",
            results(scaling=grown(1.0, memory=(0, 103_000_000), batch=(0, 51_000_000))),
            "+103 MB of 102 MB",
        ),
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


def test_nothing_measured_meets_nothing() -> None:
    nothing = Results({}, "full", 12, 100, {"torch": 1e11}, 1e10)
    found = aims(nothing)
    assert [aim.name for aim in found[:-7]] == [aim.name for aim in aims(results())[:-7]]
    assert {(aim.measured, aim.met) for aim in found} == {(NOT_MEASURED, None), (ON_A_GPU, None)}


def test_a_failed_start_is_not_a_quick_one() -> None:
    failed = [Start("m", "upstream", {"x": 7.0}), Start("m", "ours", {}, "no such file")]
    assert line(results(starts=failed), "cold start") == Aim(
        "cold start to the first forecast before upstream's, m", NOT_MEASURED, None
    )
