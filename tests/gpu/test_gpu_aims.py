"""The GPU aims: each is judged by the right numbers, and says why where there are none."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.gpu_check.aims import Aim, aims

Records = list[dict[str, Any]]


def whole(contender: str, rows: int, ms: float, mode: str = "tf32", mb: float = 1.0) -> dict[str, Any]:
    """One record; every batch of ours takes 1000 ms at the machine's rate."""
    per_group = ms * 20 / rows
    return {
        "table": "whole model", "type": mode, "contender": contender, "rows": rows, "ms": ms,
        "ms a group of 20": per_group, "of the rate": 1000 / ms, "peak, MB": mb,
    }  # fmt: skip


def layer(contender: str, segment: int, ms: float | None, share: float = 1.0) -> dict[str, Any]:
    return {
        "table": "one layer", "type": "bfloat16", "contender": contender, "segment": segment, "ms": ms,
        "of copy bandwidth": share,
    }  # fmt: skip


def small(contender: str, ms: float | None, **more: Any) -> dict[str, Any]:
    return {"table": "one group of 20", "type": "float32", "contender": contender, "ms": ms, **more}


def judged(beginning: str, *records: dict[str, Any], **sections: dict[str, Any]) -> Aim:
    """The aim whose line begins so."""
    found = {"whole model": {"records": list(records)}, "one layer": {"records": []}, **sections}
    (aim,) = (aim for aim in aims(found) if aim.aim.startswith(beginning))
    return aim


@pytest.mark.parametrize(("upstream", "met"), [(15_000.0, True), (14_900.0, False)])
def test_upstream_at_the_same_rows(upstream: float, met: bool) -> None:
    records = [
        whole("upstream", 2000, upstream),
        whole("ours, slow", 2000, 1500.0),
        whole("ours", 2000, 1000.0),
    ]
    others = [whole("upstream, contiguous mask", 2000, 1.0), whole("upstream", 400, 1.0)]
    aim = judged("tf32: 15.0x upstream at the same 2000 rows", *records, *others)
    assert aim.met is met
    assert aim.measured == f"{upstream / 1000:.2f}x: upstream {upstream:.3g} ms, ours 1e+03 ms"


@pytest.mark.parametrize(("best", "met"), [(20.0, True), (19.0, False)])
def test_upstream_at_its_own_best(best: float, met: bool) -> None:
    """Ours takes 10 ms a group."""
    upstream = [
        whole("upstream", 2000, 50_000.0),
        whole("upstream", 40, 2 * best),
        whole("upstream", 20, 30.0),
    ]
    aim = judged("tf32: 2.0x upstream at its own best", *upstream, whole("ours", 2000, 1000.0))
    assert aim.met is met
    assert "in calls of 40 rows" in aim.measured


@pytest.mark.parametrize(("ms", "met"), [(1300.0, True), (1400.0, False)])
def test_of_the_matrix_product_rate(ms: float, met: bool) -> None:
    assert judged("tf32: 75 %", whole("ours", 2000, ms), whole("upstream", 2000, 1.0)).met is met


@pytest.mark.parametrize(("few", "met"), [(200.0, True), (195.0, False)])
def test_the_same_cost_at_400_and_2000_rows(few: float, met: bool) -> None:
    assert (
        judged("tf32: a group of 20 among", whole("ours", 400, few), whole("ours", 2000, 1000.0)).met is met
    )


@pytest.mark.parametrize(("many", "met"), [(505.0, True), (520.0, False)])
def test_memory_grows_with_the_rows(many: float, met: bool) -> None:
    records = [whole("ours", 400, 200.0, mb=100.0), whole("ours", 2000, 1000.0, mb=many)]
    slower = [whole("ours, slower", 400, 300.0, mb=1.0), whole("ours, slower", 2000, 1100.0, mb=900.0)]
    engine = [whole("ours, tensorrt", rows, 1.0, mb=0.0) for rows in (400, 2000)]  # its memory is not known
    assert judged("tf32: peak memory", *records, *slower, *engine).met is met


@pytest.mark.parametrize(("kernel", "met"), [(5.0, True), (5.1, False)])
def test_the_share_of_group_attention(kernel: float, met: bool) -> None:
    records = [layer("ours", 20, kernel), layer("ours", 1, 99.0)]
    whole_model = whole("ours", 2000, 1000.0, "bfloat16")
    aim = judged("bfloat16: group attention at most", whole_model, **{"one layer": {"records": records}})
    assert aim.met is met


@pytest.mark.parametrize(("compiled", "met"), [(1.1, True), (0.9, False)])
def test_one_cuda_graph_against_torch_compile(compiled: float, met: bool) -> None:
    records = [
        small("ours, one CUDA graph", 1.0),
        small("ours, tensorrt", 0.1),
        small("upstream", 0.1),
        small("upstream, torch.compile (default)", 5.0),
        small("upstream, torch.compile (reduce-overhead)", compiled),
    ]
    aim = judged("float32: 20 rows in one CUDA graph", **{"one group of 20": {"records": records}})
    assert aim.met is met


@pytest.mark.parametrize(("ms", "share", "met"), [(0.4, 0.7, True), (0.41, 0.8, False), (0.3, 0.69, False)])
def test_the_time_of_a_layer(ms: float, share: float, met: bool) -> None:
    records = [layer("ours", 20, ms, share)]
    assert judged("bfloat16: a layer's group", **{"one layer": {"records": records}}).met is met


@pytest.mark.parametrize(("slowest", "met"), [(1.0, True), (1.2, False)])
def test_a_layer_is_never_behind_a_peer(slowest: float, met: bool) -> None:
    records = [layer("ours", 20, 1.0), layer("a", 20, 2.0), layer("b", 20, None)]
    records += [layer("ours", 500, slowest), layer("a", 500, 1.0)]
    assert judged("bfloat16: a layer never slower", **{"one layer": {"records": records}}).met is met


def test_what_was_not_measured_says_why() -> None:
    oom = {**whole("upstream", 2000, 1.0), "ms": None, "why": "out of memory"}
    aim = judged("tf32: 15.0x upstream at the same 2000 rows", oom, whole("ours", 2000, 1.0))
    assert aim.met is None
    assert aim.measured == "not measured (upstream: out of memory)"
    stopped: dict[str, Any] = {"records": [], "why": "stopped after 150 s"}
    aim = judged("float32: 20 rows", **{"one group of 20": stopped})
    assert aim == Aim(aim.aim, "not measured (stopped after 150 s)", None)
    assert {aim.measured for aim in aims({})} == {"not measured (not run)"}
    assert {aim.met for aim in aims({})} == {None}
