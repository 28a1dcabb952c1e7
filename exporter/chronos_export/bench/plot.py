"""A run of the bench as a picture. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chronos_export.bench.report import CURVE, curve_of, workloads_of
from chronos_export.bench.results import Results


def plot(results: Results, file: Path) -> None:
    """Seconds a sample against rows, as pull request 442 drew it, and bars of every peer's time over ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = workloads_of(results)
    heights = [3.2, *(0.5 + 0.2 * len(results.of(name)) for name in names)]
    figure, panels = plt.subplots(
        len(heights), 1, figsize=(9, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    _curves(panels[0, 0], results)
    for axes, name in zip(panels[1:, 0], names, strict=True):
        _bars(axes, results, name)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _curves(axes: Any, results: Results) -> None:
    for peer in CURVE:
        curve = curve_of(results, peer)
        axes.plot(list(curve), list(curve.values()), marker="o", label=peer)
    axes.set_xticks(sorted({rows for peer in CURVE for rows in curve_of(results, peer)}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows, in groups of 20", fontsize="small")
    axes.set_title(f"seconds a sample, layers: {results.layers}", fontsize="medium", loc="left")
    axes.tick_params(labelsize="small")
    axes.legend(fontsize="small")


def _bars(axes: Any, results: Results, name: str) -> None:
    found = [timing for timing in results.of(name).values() if timing.ratio]
    colours = ["tab:blue" if timing.peer.startswith("ours") else "0.6" for timing in found]
    axes.barh([timing.peer for timing in found], [timing.ratio for timing in found], color=colours)
    axes.axvline(1, color="0.2", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_title(f"{name}: time over ours on onnxruntime", fontsize="medium", loc="left")
    axes.tick_params(labelsize="small")
