"""`predict_df`: a long data frame of any library to its forecast, as a frame of that library.

Derived from `Chronos2Pipeline.predict_df`, `from_data_frame` and `df_utils.py` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.covariates import Covariate, tasks_of
from chronos_export.forecaster.frequency import Stamps, parse
from chronos_export.forecaster.inference import shared_frequency
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.panel import (
    Frame,
    Panel,
    as_frame,
    as_panel,
    categories_of,
    numbers_of,
)
from chronos_export.forecaster.prediction import LEVELS, predict_quantiles, steps_ahead
from chronos_export.forecaster.task import Task

Index = tuple[str, str]  # the columns that say which series, and when


def predict_df(
    model: Model,
    df: Any,
    future_df: Any = None,
    id_column: str = "item_id",
    timestamp_column: str = "timestamp",
    target: str | Sequence[str] = "target",
    prediction_length: int | None = None,
    quantile_levels: Sequence[float] = LEVELS,
    *,
    validate_inputs: bool = True,
    freq: str | None = None,
    **options: Any,
) -> Any:
    """Forecast; arguments, answer and errors are those of `Forecaster.predict_df`."""
    index = id_column, timestamp_column
    targets = [target] if isinstance(target, str) else list(target)
    horizon = steps_ahead(model, prediction_length)
    past = as_frame(df, "df")
    ahead = None if future_df is None else as_frame(future_df, "future_df")
    _check_columns(past, ahead, index, targets)
    panel = as_panel(past, *index, names=None, in_order=not validate_inputs)
    frequency = (
        parse(getattr(freq, "freqstr", freq))
        if freq
        else shared_frequency(panel.stamps, panel.lengths, panel.names.__getitem__)
    )
    stamps = frequency.after(panel.stamps[np.cumsum(panel.lengths) - 1], horizon)
    if ahead is not None:
        ahead = _in_order(ahead, panel, index, stamps, validate_inputs)
    tasks = _tasks(panel, ahead, index, targets, horizon)
    quantiles, median = predict_quantiles(model, tasks, horizon, quantile_levels, **options)
    columns = {"predictions": np.stack(median).ravel()}
    by_level = np.stack(quantiles).reshape(-1, len(quantile_levels))
    columns |= {str(level): by_level[:, place] for place, level in enumerate(quantile_levels)}
    return _answer(panel, index, targets, stamps, columns)


def _check_columns(past: Frame, ahead: Frame | None, index: Index, targets: list[str]) -> None:
    if missing := sorted({*index, *targets} - set(past.columns)):
        raise UsageError(
            f"df does not contain all expected columns. Missing columns: {missing}",
            allowed=f"id_column, timestamp_column and target, of its columns {past.columns}",
        )
    for name in targets:
        if not (past[name].dtype.is_numeric() or past[name].dtype == nw.Boolean):
            raise UsageError(f"Target column {name!r} must be numeric, got dtype {past[name].dtype}")
    if ahead is None:
        return
    if missing := sorted(set(index) - set(ahead.columns)):
        raise UsageError(f"future_df does not contain all expected columns. Missing columns: {missing}")
    if forecast := [name for name in ahead.columns if name in targets]:
        raise UsageError(f"future_df cannot contain target columns. Target columns found: {forecast}")
    if extra := [name for name in ahead.columns if name not in past.columns]:
        raise UsageError(f"future_df cannot contain columns not present in df. Extra columns: {extra}")


def _in_order(ahead: Frame, panel: Panel, index: Index, stamps: Stamps, validate: bool) -> Frame:
    """The rows of `future_df` for each series in turn; each has all steps."""
    series, horizon = stamps.shape
    if not validate:
        if len(ahead) != series * horizon:
            raise UsageError(f"future_df has {len(ahead)} rows", allowed=f"{series} series of {horizon} rows")
        return ahead
    if different := set(ahead[index[0]].to_list()) ^ set(panel.names):
        raise UsageError(
            "future_df must have the same time series IDs as df; only one has"
            f" {', '.join(sorted(map(str, different))[:5])}"
        )
    found = as_panel(ahead, *index, names=panel.names, in_order=False)
    if wrong := np.flatnonzero(found.lengths != horizon).tolist():
        raise UsageError(
            f"future_df must contain prediction_length={horizon} rows per item. {len(wrong)} have more or"
            f" less: {panel.names[wrong[0]]} has {found.lengths[wrong[0]]}"
        )
    if (differing := found.stamps != stamps.ravel()).any():
        row = int(differing.argmax())
        raise UsageError(
            "future_df timestamps do not match the expected prediction timestamps: item"
            f" {panel.names[row // horizon]} has {found.stamps[row]} instead of {stamps.ravel()[row]}",
            fix="You can disable this check by setting `validate_inputs=False`",
        )
    return found.frame


def _tasks(panel: Panel, ahead: Frame | None, index: Index, targets: list[str], horizon: int) -> list[Task]:
    names = [name for name in panel.frame.columns if name not in {*index, *targets}]
    known = [] if ahead is None else [name for name in names if name in ahead.columns]
    covariates = []
    for name in sorted(names, key=known.__contains__):
        column, future = panel.frame[name], ahead[name] if ahead is not None and name in known else None
        if column.dtype.is_numeric():
            covariates.append(Covariate(numbers_of(column), None if future is None else numbers_of(future)))
        else:
            values = None if future is None else future.to_list()
            covariates.append(Covariate(categories_of(column), values))
    numbers = np.stack([numbers_of(panel.frame[name]) for name in targets])
    return tasks_of(numbers, covariates, panel.lengths.tolist(), horizon)


def _answer(
    panel: Panel, index: Index, targets: list[str], stamps: Stamps, columns: dict[str, NDArray[Any]]
) -> Any:
    """A row for each series, target and step, in that order."""
    (series, horizon), backend = stamps.shape, panel.frame.implementation
    id_column, timestamp_column = index
    first = np.repeat(np.cumsum(panel.lengths) - panel.lengths, len(targets) * horizon)
    when = nw.new_series(timestamp_column, np.repeat(stamps, len(targets), axis=0).ravel(), backend=backend)
    if panel.frame[timestamp_column].dtype == nw.Date and (stamps == stamps.astype("M8[D]")).all():
        when = when.cast(nw.Date)
    which = np.tile(np.repeat(targets, horizon), series)
    answer = nw.maybe_reset_index(panel.frame[id_column][first].to_frame()).with_columns(
        when,
        nw.new_series("target_name", which, nw.String(), backend=backend),
        *(nw.new_series(name, values, nw.Float32(), backend=backend) for name, values in columns.items()),
    )
    return answer.to_native()
