"""`chronos-export forecast`: a file in, its forecast out."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from chronos_export.cli.console import Console
from chronos_export.cli.options import Command, Option, Place, talking
from chronos_export.errors import UsageError

of_columns = partial(click.option, cls=Option, section="Columns")
of_forecast = partial(click.option, cls=Option, section="Forecast")
of_output = partial(click.option, cls=Option, section="Output")


@click.command("forecast", cls=Command)
@click.argument("artifact", type=Place())
@click.argument("data", type=Place())
@of_columns("--id-column", default="item_id", show_default=True, help="Says which series a row is of.")
@of_columns("--timestamp-column", default="timestamp", show_default=True, help="Says when.")
@of_columns(
    "--target",
    "targets",
    multiple=True,
    default=("target",),
    show_default=True,
    help="What is forecast; may be given several times. All other columns are covariates.",
)
@of_columns("--group-column", help="Series with one value in this column are forecast together.")
@of_columns(
    "--future", type=Place(), metavar="DATA", help="Covariates known ahead: the same series, the steps after."
)
@of_forecast("--prediction-length", type=int, metavar="STEPS", help="By default the model's longest.")
@of_forecast(
    "--quantiles",
    default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
    show_default=True,
    metavar="LEVEL[,LEVEL]",
    help="A column for each.",
)
@of_forecast("--cross-learning", is_flag=True, help="Forecast the series of a batch together.")
@of_forecast(
    "--context-length",
    type=int,
    metavar="STEPS",
    help="The most that are used of a series; the model's longest.",
)
@of_forecast(
    "--freq", metavar="NAME", help="Distance of time stamps, as 15min, D or MS; found in DATA if not given."
)
@of_output("-o", "--output", type=Place(), metavar="OUT", required=True, help=".parquet, .csv or .csv.gz")
@of_output("--plot", type=Place(), metavar="FILE.png", help="Draw a few series with their forecasts.")
@of_output("--force", is_flag=True, help="Replace files that are there.")
@talking
def forecast(
    console: Console,
    artifact: Path,
    data: Path,
    id_column: str,
    timestamp_column: str,
    targets: tuple[str, ...],
    group_column: str | None,
    future: Path | None,
    prediction_length: int | None,
    quantiles: str,
    cross_learning: bool,
    context_length: int | None,
    freq: str | None,
    output: Path,
    plot: Path | None,
    force: bool,
) -> None:
    """Forecast a file: Parquet, CSV or compressed CSV, with a row for each series and time stamp.

    The rows of a series stand together, in the order of time; a file of any size is read a few series at a
    time. OUT holds what predict_df gives.

    \b
    chronos-export forecast chronos-2 sales.parquet -o forecast.parquet --prediction-length 24
    """
    from chronos_export.bulk.forecasting import forecast_file
    from chronos_export.bulk.job import Job
    from chronos_export.bulk.rows import Columns

    done = forecast_file(
        Job(
            artifact,
            data,
            output,
            future,
            Columns(id_column, timestamp_column, targets, group_column),
            prediction_length,
            _levels(quantiles),
            cross_learning,
            context_length,
            freq,
            plot,
            force,
        ),
        console.report,
        console.note,
    )
    console.result(
        {"output": str(output), "plot": None if plot is None else str(plot), **asdict(done)},
        f"{output}: {done.steps} steps of {done.series:,} series, {done.frequency} apart,"
        f" from {done.rows:,} rows in {done.seconds:.1f} s",
    )


def _levels(text: str) -> list[float]:
    """`0.1,0.9` -> [0.1, 0.9]."""
    try:
        return [float(level) for level in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--quantiles is {text}", allowed="levels from 0 to 1, as 0.1,0.5,0.9") from error
