"""What is asked for: files, columns, options; and every refusal that needs no look into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chronos_export.artifact.naming import located
from chronos_export.bulk.files import check_name
from chronos_export.bulk.rows import Columns
from chronos_export.errors import UsageError
from chronos_export.forecaster.prediction import LEVELS
from chronos_export.machine.packages import extra, require


@dataclass(frozen=True)
class Job:
    """What is forecast, and how; see `Forecaster.predict_df`.

    Attributes:
        artifact: Forecasts.
        data: A row for each series and time stamp; those of a series together, in the order of time.
        output: Where the forecast goes.
        future: Covariates that are known ahead, of the same series in the same order; None if there are none.
        columns: What the columns of both files are.
        prediction_length: Steps ahead; the model's longest if None.
        quantiles: Levels.
        cross_learning: Whether series of a batch are forecast together.
        context_length: The most steps of a series that are used; the model's longest if None.
        freq: How far apart time stamps are; found in `data` if None.
        plot: A picture of a few series, or None.
        overwrite: Whether files that are there are replaced.
    """

    artifact: Path
    data: Path
    output: Path
    future: Path | None = None
    columns: Columns = field(default_factory=Columns)
    prediction_length: int | None = None
    quantiles: Sequence[float] = LEVELS
    cross_learning: bool = False
    context_length: int | None = None
    freq: str | None = None
    plot: Path | None = None
    overwrite: bool = False


def check(job: Job) -> None:
    """Refuse what can be refused at once.

    Raises:
        UsageError: An option or the name of a file cannot be used.
        MissingPackageError: What reads or draws a file is not installed.
    """
    check_name(job.output)
    if job.plot is not None:
        if job.plot.suffix != ".png":
            raise UsageError(
                f"{job.plot} is no picture that can be drawn", allowed="a name that ends in .png"
            )
        require("a picture", extra("plot"))
    read = [located(path) for path in (job.data, job.future) if path is not None]
    for path in (job.output, job.plot):
        if path is not None:
            _check_destination(path, read, job.overwrite)
    roles = [*job.columns.index, *job.columns.targets]
    if doubled := [name for name in roles if roles.count(name) > 1]:
        raise UsageError(f"column {doubled[0]!r} was given twice", allowed="one meaning for each column")
    if job.cross_learning and job.columns.group is not None:
        raise UsageError(
            "series are forecast together by batches, or by a column",
            allowed="one of --cross-learning and --group-column",
        )
    levels = list(job.quantiles)
    if not levels or len(set(levels)) < len(levels) or not all(0 <= level <= 1 for level in levels):
        raise UsageError(
            f"the quantiles are {levels}", allowed="levels from 0 to 1, each once, as 0.1,0.5,0.9"
        )


def _check_destination(path: Path, read: Sequence[Path], overwrite: bool) -> None:
    place = located(path)
    if not place.parent.is_dir():
        raise UsageError(
            f"{path.parent} is no folder, so nothing can be written there", fix=f"mkdir -p {path.parent}"
        )
    if place in read:
        raise UsageError(f"{path} is what is forecast", allowed="another file for the forecast")
    if place.exists() and not (overwrite and place.is_file()):
        raise UsageError(f"{path} is there already", allowed="a new file", fix="--force, to replace it")
