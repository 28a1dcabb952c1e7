"""Real series to forecast with no network: data sets that statsmodels carries inside its package.

Each comes as a long-format DataFrame (`item_id`, `timestamp`, one column a target), the form
`Chronos2Pipeline.predict_df` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronos_export.errors import UsageError
from chronos_export.machine.packages import require

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RealData:
    """One real data set.

    Attributes:
        name: Its name in statsmodels.
        frame: Columns `item_id`, `timestamp` and the targets; NaN = missing.
        targets: The columns to forecast, together.
        period: Steps in one season; 1 where the data has none.
        horizon: Steps a forecast covers.
    """

    name: str
    frame: pd.DataFrame
    targets: tuple[str, ...]
    period: int
    horizon: int

    def hold_out(self, windows: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Cut off the window `windows` horizons before the end.

        Args:
            windows: 1 holds out the last window, 2 the one before it, and so on.

        Returns:
            The frame before the window, and the window: `horizon` rows.
        """
        cut = len(self.frame) - windows * self.horizon
        return self.frame.iloc[:cut], self.frame.iloc[cut : cut + self.horizon]


def _macrodata(raw: pd.DataFrame) -> pd.DataFrame:
    """US macroeconomic series, quarterly 1959-2009, seasonally adjusted."""
    return _dated(raw.drop(columns=["year", "quarter"]), "1959-01-01", "QS")


def _co2(raw: pd.DataFrame) -> pd.DataFrame:
    """Atmospheric CO2 at Mauna Loa, weekly 1958-2001, with missing weeks."""
    return _dated(raw, "1958-03-29", "W-SAT")


def _nile(raw: pd.DataFrame) -> pd.DataFrame:
    """Flow of the Nile at Aswan, yearly 1871-1970."""
    return _dated(raw[["volume"]], "1871-01-01", "YS")


def _elnino(raw: pd.DataFrame) -> pd.DataFrame:
    """Sea surface temperature in the El Nino region, monthly 1950-2010."""
    import pandas as pd

    months = raw.drop(columns="YEAR").to_numpy().reshape(-1)
    return _dated(pd.DataFrame({"temperature": months}), "1950-01-01", "MS")


def _sunspots(raw: pd.DataFrame) -> pd.DataFrame:
    """Sunspot number, yearly 1700-2008."""
    return _dated(raw[["SUNACTIVITY"]], "1700-01-01", "YS")


def _dated(values: pd.DataFrame, start: str, step: str) -> pd.DataFrame:
    import pandas as pd

    frame = values.reset_index(drop=True).astype("float64")
    frame.insert(0, "timestamp", pd.date_range(start, periods=len(frame), freq=step))
    return frame


# name -> how its frame is made, season, horizon
_SETS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], int, int]] = {
    "macrodata": (_macrodata, 4, 8),
    "co2": (_co2, 52, 52),
    "nile": (_nile, 1, 10),
    "elnino": (_elnino, 12, 12),
    "sunspots": (_sunspots, 11, 11),
}
NAMES = tuple(_SETS)


def load(name: str) -> RealData:
    """Load one of `NAMES`.

    Raises:
        UsageError: No such data set.
        MachineError: statsmodels is not installed.
    """
    if name not in _SETS:
        raise UsageError(f"there is no data set {name!r}", allowed=", ".join(NAMES))
    arrange, period, horizon = _SETS[name]
    frame = arrange(_raw(name))
    targets = tuple(column for column in frame.columns if column != "timestamp")
    frame.insert(0, "item_id", name)
    return RealData(name, frame, targets, period, horizon)


def require_installed() -> None:
    """Refuse at once what could not be judged.

    Raises:
        MachineError: The data sets are not installed.
    """
    require("a forecast of real series", ["statsmodels"])


def _raw(name: str) -> Any:
    require_installed()
    from statsmodels import datasets

    return getattr(datasets, name).load_pandas().data
