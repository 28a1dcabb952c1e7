"""The project's aims, each with what this run measured of it and whether that meets it."""

from __future__ import annotations

from dataclasses import dataclass

from chronos_export.bench.measure import Timing
from chronos_export.bench.peers import DENSE_ONNX, OURS, UPSTREAM
from chronos_export.bench.results import Results
from chronos_export.bench.scaling import FEW, MANY
from chronos_export.bench.workloads import GROUPED, SINGLE, of_rows

ROWS, LAYERS = 100, 12  # the size that the aims of speed are set at
NOT_MEASURED = "not measured"
ON_A_GPU = "not yet measured: `python3 -m scripts.gpu_check`"
GPU_AIMS = (
    "GPU: float32 3.5x upstream at the same batch, 1.4x at its own best",
    "GPU: tf32 15x upstream at the same batch, 2x at its own best",
    "GPU: bfloat16 and float16 30x upstream at the same batch, 2x at its own best",
    "GPU: 75 % of the matrix-product peak; group attention at most 6 % of the time in 16 bit",
    "GPU: seconds a sample at 2000 rows at most 1.02x those at 400, memory linear in rows",
    "GPU: 20 rows in one CUDA graph, ahead of torch.compile",
)


@dataclass(frozen=True)
class Aim:
    """One line of the table; `met` is None where this run cannot say."""

    name: str
    measured: str
    met: bool | None


def aims(results: Results) -> list[Aim]:
    """Every aim, in the order of the table."""
    both = {kind: results.of(of_rows(kind, results.rows)) for kind in (GROUPED, SINGLE)}
    grouped, single = both.values()
    return [
        _speed(results, "3x upstream, batch in one call, groups of 20", 3.0, _over({"": grouped}, UPSTREAM)),
        _speed(results, "3.5x upstream, batch in one call, single rows", 3.5, _over({"": single}, UPSTREAM)),
        _speed(results, "1.4x the dense ONNX at its best batch", 1.4, _over(both, DENSE_ONNX)),
        _ahead(results, "float32", OURS),
        _ahead(results, "bfloat16", "ours, bfloat16"),
        _speed(results, "85 % of the float32 matrix-product peak", 0.85, _share(both), "{:.0%}"),
        _speed(results, "bfloat16 2x our float32", 2.0, _over_our_own(both, "ours, bfloat16")),
        _speed(results, "int8 2.5x our float32", 2.5, _over_our_own(both, "ours, int8")),
        _flat(results),
        _bounded(results),
        _host(results),
        *_cold(results),
        *(Aim(name, ON_A_GPU, None) for name in GPU_AIMS),
    ]


Values = dict[str, float]


def _over(found: dict[str, dict[str, Timing]], peer: str) -> Values:
    """Workload -> the peer's time over ours."""
    return {name: _ratio(t[peer]) for name, t in found.items() if peer in t and OURS in t}


def _over_our_own(found: dict[str, dict[str, Timing]], peer: str) -> Values:
    return {name: 1 / ratio for name, ratio in _over(found, peer).items()}


def _share(found: dict[str, dict[str, Timing]]) -> Values:
    return {name: t[OURS].of_peak or 0.0 for name, t in found.items() if OURS in t}


def _speed(results: Results, name: str, least: float, found: Values, form: str = "{:.2f}x") -> Aim:
    if not found:
        return Aim(name, NOT_MEASURED, None)
    measured = ", ".join(f"{form.format(value)} {where}".strip() for where, value in found.items())
    at_its_size = (results.rows, results.layers) == (ROWS, LAYERS)
    return Aim(name, measured, min(found.values()) >= least if at_its_size else None)


def _ahead(results: Results, dtype: str, ours: str) -> Aim:
    """Of every peer that is not ours and computes in the same type, in every workload."""
    name = f"ahead of every {dtype} peer in every workload"
    behind, count = [], 0
    for workload in dict.fromkeys(timing.workload for timing in results.timings):
        found = results.of(workload)
        rivals = [t for t in found.values() if t.dtype == dtype and not t.peer.startswith("ours")]
        if ours not in found or not rivals:
            continue
        count += 1
        best = min(rivals, key=_ratio)
        if _ratio(best) < _ratio(found[ours]):
            behind.append(f"{_ratio(best) / _ratio(found[ours]):.2f}x {best.peer} ({workload})")
    if not count:
        return Aim(name, NOT_MEASURED, None)
    return Aim(name, "; ".join(behind) or f"in all {count}", not behind)


def _flat(results: Results) -> Aim:
    name = f"seconds a row at {MANY} rows at most 1.05x those at {FEW} (2 layers)"
    if results.scaling is None:
        return Aim(name, NOT_MEASURED, None)
    return Aim(name, f"{results.scaling.growth:.2f}x", results.scaling.growth <= 1.05)


def _bounded(results: Results) -> Aim:
    name = f"memory bounded by the call: {MANY - FEW} rows more take at most twice their own size"
    scaling = results.scaling
    ours = scaling.of(OURS) if scaling else {}
    few, many = (ours[rows].memory if rows in ours else None for rows in (FEW, MANY))
    if scaling is None or few is None or many is None:
        return Aim(name, NOT_MEASURED, None)
    more, allowed = many - few, 2 * (scaling.batch_bytes[MANY] - scaling.batch_bytes[FEW])
    return Aim(name, f"{more / 1e6:+.0f} MB of {allowed / 1e6:.0f} MB", more <= allowed)


def _host(results: Results) -> Aim:
    name = "host side under 5 % of the time"
    if not results.host:
        return Aim(name, NOT_MEASURED, None)
    worst = max(results.host, key=lambda each: each.share)
    measured = f"at most {worst.share:.1%} ({worst.peer}, {worst.call})"
    return Aim(name, measured, worst.share < 0.05)


def _cold(results: Results) -> list[Aim]:
    """No number is set here: upstream's process is the measure."""
    found = []
    for model in dict.fromkeys(start.model for start in results.starts) or ["the model"]:
        name = f"cold start to the first forecast before upstream's, {model}"
        seconds = {s.what: s.seconds for s in results.starts if s.model == model and s.steps}
        if not {"ours", "upstream"} <= seconds.keys():
            found.append(Aim(name, NOT_MEASURED, None))
            continue
        measured = f"{seconds['ours']:.1f} s against {seconds['upstream']:.1f} s"
        found.append(Aim(name, measured, seconds["ours"] <= seconds["upstream"]))
    return found


def _ratio(timing: Timing) -> float:
    """Its time over ours on onnxruntime."""
    return timing.ratio or 0.0
