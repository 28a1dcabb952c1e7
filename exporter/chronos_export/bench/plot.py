"""Seconds a sample against the batch, as pull request 442 drew it. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from chronos_export.bench.scaling import LAYERS, PEERS, Scaling


def plot(scaling: Scaling, file: Path) -> None:
    """Draw one curve a peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for peer in PEERS:
        found = {rows: t.seconds_a_sample for rows, t in scaling.of(peer).items() if t.seconds_a_sample}
        axes.plot(list(found), list(found.values()), marker="o", label=peer)
    axes.set_xticks(list(scaling.batch_bytes))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows in the batch, in groups of 20")
    axes.set_title(f"seconds a sample (20 rows), full width, {LAYERS} layers", loc="left", fontsize="medium")
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)
