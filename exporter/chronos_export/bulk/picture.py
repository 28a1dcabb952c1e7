"""A few series with their forecasts, as a picture. Drawing needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chronos_export.forecaster.frequency import Stamps
from chronos_export.runtime.session import Floats

SHOWN = 5  # times as many steps of the past as of the forecast
MEDIAN = "predictions"


@dataclass(frozen=True)
class Pictured:
    """A series with its forecast.

    Attributes:
        title: Which.
        before: [history], time stamps.
        past: float32 [history].
        after: [steps], time stamps.
        numbers: `predictions` and levels -> float32 [steps].
    """

    title: str
    before: Stamps
    past: Floats
    after: Stamps
    numbers: dict[str, Floats]


def draw(series: Sequence[Pictured], file: Path) -> None:
    """Draw series, one above the other: the past, the median, and the widest interval that was asked for."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        len(series), figsize=(10, 2.4 * len(series)), squeeze=False, layout="constrained"
    )
    for axes, one in zip(panels[:, 0], series, strict=True):
        shown = slice(-SHOWN * len(one.after), None)
        axes.plot(one.before[shown].astype("M8[us]"), one.past[shown], color="0.3", label="past")
        after = one.after.astype("M8[us]")
        axes.plot(after, one.numbers[MEDIAN], color="tab:blue", label="median")
        levels = sorted((name for name in one.numbers if name != MEDIAN), key=float)
        if len(levels) > 1:
            low, high = (one.numbers[levels[end]] for end in (0, -1))
            axes.fill_between(after, low, high, alpha=0.25, label=f"{levels[0]} to {levels[-1]}")
        axes.set_title(one.title, loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(fontsize="small")
    figure.savefig(file, dpi=110, format="png")
    plt.close(figure)
