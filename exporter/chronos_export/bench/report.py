"""A bench report as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path

from chronos_export.bench.run import Report


def as_markdown(report: Report) -> str:
    """The tables, one a workload, and the environment they came from."""
    lines = [f"- {name}: {value}" for name, value in report.environment.items()]
    lines += [f"- matrix product peak: {report.peak / 1e9:.0f} GFLOP/s in float32", ""]
    for workload in dict.fromkeys(timing.workload for timing in report.timings):
        share = report.of_peak.get(workload)
        lines += [f"## {workload}", ""]
        if share is not None:
            lines += [
                f"ours on onnxruntime: {share:.0%} of the peak, counting only the work that is left",
                "",
            ]
        lines += ["| peer | s | s/sample | rows/s | time over ours | min..max | error | note |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
        for t in (t for t in report.timings if t.workload == workload):
            if t.seconds is None or t.seconds_a_sample is None:
                lines.append(f"| {t.peer} | - | - | - | - | - | - | {t.note} |")
                continue
            ratio = (
                f"{t.ratio:.2f} | {t.spread[0]:.2f}..{t.spread[1]:.2f}" if t.ratio and t.spread else "- | -"
            )
            error = f"{t.error:.1e}" if t.error is not None else "-"
            lines.append(
                f"| {t.peer} | {t.seconds:.3f} | {t.seconds_a_sample:.4f} | {t.rows / t.seconds:.1f} "
                f"| {ratio} | {error} | {t.note} |"
            )
        lines.append("")
    lines += [
        "## Seconds a row against rows, ours, two layers, groups of 20",
        "",
        "| rows | s/row | over 100 rows |",
    ]
    lines += ["| ---: | ---: | ---: |"]
    base = report.scaling.get(100)
    for rows, seconds in report.scaling.items():
        lines.append(
            f"| {rows} | {seconds:.5f} | {seconds / base:.3f} |"
            if base
            else f"| {rows} | {seconds:.5f} | - |"
        )
    return "\n".join(lines) + "\n"


def plot(report: Report, file: Path) -> None:
    """Bars of every peer's time over ours, a group of bars a workload. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(timing.workload for timing in report.timings))
    figure, panels = plt.subplots(
        len(names), 1, figsize=(9, 1.9 * len(names)), layout="constrained", squeeze=False
    )
    for axes, name in zip(panels[:, 0], names, strict=True):
        found = [t for t in report.timings if t.workload == name and t.ratio]
        colours = ["tab:blue" if t.peer.startswith("ours") else "0.6" for t in found]
        axes.barh([t.peer for t in found], [t.ratio for t in found], color=colours)
        axes.axvline(1, color="0.2", linewidth=0.8)
        axes.invert_yaxis()
        axes.set_title(f"{name}: time over ours on onnxruntime", fontsize="medium", loc="left")
        axes.tick_params(labelsize="small")
    figure.savefig(file, dpi=110)
    plt.close(figure)
