"""Rows per second as bars, one panel per workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chronos_export.errors import MachineError

if TYPE_CHECKING:
    from chronos_export.bench.comparison import Speed


def draw_speeds(speeds: Sequence[Speed], title: str, file: Path) -> None:
    """Draw every peer in every workload.

    Args:
        speeds: What was measured; upstream's are grey.
        title: Above all panels.
        file: A PNG; its folder is made.

    Raises:
        MachineError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MachineError("the picture needs matplotlib", fix="pip install matplotlib") from error

    workloads = list(dict.fromkeys(speed.workload for speed in speeds))
    peers = list(dict.fromkeys(speed.peer for speed in speeds))
    figure = Figure(figsize=(10, 1.2 + 0.36 * len(peers)), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(workloads), sharey=True, squeeze=False)[0]
    for axes, workload in zip(panels, workloads, strict=True):
        shown = [speed for speed in speeds if speed.workload == workload]
        colours = ["0.7" if speed.peer.startswith("upstream") else "tab:blue" for speed in shown]
        bars = axes.barh([_label(s.peer) for s in shown], [s.rows_per_second for s in shown], color=colours)
        labels = [f"{s.rows_per_second:.1f}  ({s.times_faster:.1f}x)" for s in shown]
        axes.bar_label(bars, labels, padding=4, fontsize="small")
        axes.set_title(f"{workload}: rows per second (times faster)", fontsize="small", loc="left")
        axes.set_xlim(0, 1.25 * max(speed.rows_per_second for speed in shown))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def _label(peer: str) -> str:
    return peer if peer.startswith("upstream") else f"chronos-export, {peer}"
