"""The pictures of what was measured on a CPU.

    python -m scripts.benchmarks.pictures

draws docs/images/speed.png and benchmarks/cpu.png from benchmarks/cpu.json.
"""

from __future__ import annotations

from pathlib import Path

from chronos_export.bench.comparison import UPSTREAM as FLOAT32
from chronos_export.bench.comparison import UPSTREAM_NARROW, Speed
from chronos_export.bench.picture import draw_speeds

from .growth import LAYERS, PEERS
from .peers import OURS, UPSTREAM
from .records import Growth, Results, read
from .workloads import GROUPED, SINGLE, of_rows

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS, SPEED = ROOT / "benchmarks", ROOT / "docs" / "images" / "speed.png"
SHOWN = {  # as the picture calls it -> peer
    FLOAT32: UPSTREAM,
    UPSTREAM_NARROW: "upstream, bfloat16 autocast",
    "float32": OURS,
    "bfloat16": "ours, bfloat16",
    "int8": "ours, int8",
}


def speeds(results: Results) -> list[Speed]:
    """Every dtype beside upstream: the large groups of 20, and univariate rows."""
    found = []
    for workload in (of_rows(kind, results.rows) for kind in (GROUPED, SINGLE)):
        timings = results.of(workload)
        upstream = timings[UPSTREAM].ratio or 0.0
        for name, peer in SHOWN.items():
            timing = timings[peer]
            assert timing.seconds and timing.ratio, f"{peer} was not timed on {workload}"
            found.append(Speed(workload, name, timing.rows / timing.seconds, upstream / timing.ratio))
    return found


def draw_speed(results: Results, file: Path) -> None:
    """Draw one chart of the full size."""
    where = results.machine.environment if results.machine else {}
    title = f"Chronos-2 in full size ({results.layers} layers) on {where['cores']} cores of an {where['cpu']}"
    draw_speeds(speeds(results), title, file)


def draw_growth(growth: Growth, file: Path) -> None:
    """Draw seconds per sample against the batch, one curve per peer, as pull request 442 drew it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for peer in PEERS:
        found = {rows: t.seconds_per_sample for rows, t in growth.of(peer).items() if t.seconds_per_sample}
        axes.plot(list(found), list(found.values()), marker="o", label=peer)
    axes.set_xticks(sorted({timing.rows for timing in growth.timings}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows in the batch, in groups of 20")
    axes.set_title(
        f"seconds per sample (20 rows), full width, {LAYERS} layers", loc="left", fontsize="medium"
    )
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    measured = read(BENCHMARKS / "cpu.json")
    draw_speed(measured, SPEED)
    assert measured.growth is not None
    draw_growth(measured.growth, BENCHMARKS / "cpu.png")
