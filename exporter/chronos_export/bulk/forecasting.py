"""A file to its forecast, by `predict_df`'s own steps on as many series as make one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from chronos_export.bulk.files import open_output
from chronos_export.bulk.inputs import Inputs, open_inputs
from chronos_export.bulk.job import Job, check
from chronos_export.bulk.picture import Pictured, draw
from chronos_export.bulk.rows import Block, block_of, blocks_of
from chronos_export.bulk.survey import Survey, check_future
from chronos_export.bulk.writing import Answer, replacing
from chronos_export.forecaster.categories import categorize
from chronos_export.forecaster.covariates import Covariate, tasks_of
from chronos_export.forecaster.frequency import parse
from chronos_export.forecaster.model import Model, open_model
from chronos_export.forecaster.prediction import BATCH_SIZE, predict_quantiles, steps_ahead
from chronos_export.progress import Report, Stage, ignore, stage
from chronos_export.runtime.choice import AUTO
from chronos_export.runtime.session import Floats

Say = Callable[[str], object]
PICTURED = 6  # series that are drawn


@dataclass(frozen=True)
class Done:
    """What was forecast.

    Attributes:
        series: How many.
        rows: Of the file that was read.
        steps: Ahead.
        frequency: Of the time stamps.
        seconds: That forecasting took, without opening and the first reading.
    """

    series: int
    rows: int
    steps: int
    frequency: str
    seconds: float


def forecast_file(job: Job, report: Report = ignore, say: Say = lambda line: None) -> Done:
    """Forecast a file.

    Args:
        job: What is asked for.
        report: Told of every stage.
        say: Told what the columns were taken for.

    Raises:
        UsageError: The files or the options cannot be used; nothing is written.
        MachineError: A package is missing, or the output cannot be written.
        IntegrityError: The artifact is damaged.
    """
    check(job)
    with stage("read", report) as reading:
        inputs = open_inputs(job)
        say(str(inputs))
        survey = _surveyed(job, inputs, reading)
    with stage("open", report):
        model = open_model(job.artifact, AUTO, AUTO, 0).model
        job = replace(job, prediction_length=steps_ahead(model, job.prediction_length))
    plan = _Plan(job, model, inputs, survey, survey.orders(inputs.data.order))
    if inputs.future is not None:
        finite = sorted(inputs.known & inputs.numeric)
        check_future(inputs.future.path, inputs.ahead(), survey, plan.steps, finite)
    lowest, highest = min(model.quantiles), max(model.quantiles)
    if min(job.quantiles) < lowest or max(job.quantiles) > highest:
        say(f"quantiles beyond {lowest:g} and {highest:g} are those, the outermost that the model forecasts")
    begin = perf_counter()
    with replacing(job.output) as staging:
        with stage("forecast", report) as running:
            pictured = _write(plan, staging, running)
        seconds = perf_counter() - begin
        if job.plot:
            with stage("plot", report), replacing(job.plot) as picture:
                draw(pictured, picture)
    return Done(len(survey.names), survey.rows, plan.steps, str(survey.frequency), seconds)


@dataclass(frozen=True)
class _Plan:
    """Everything that is known before the first forecast."""

    job: Job
    model: Model
    inputs: Inputs
    survey: Survey
    orders: dict[str, list[Any]]  # the categories of a column, where others than those of a batch count

    @property
    def steps(self) -> int:
        assert self.job.prediction_length
        return self.job.prediction_length


def _surveyed(job: Job, inputs: Inputs, reading: Stage) -> Survey:
    survey = Survey(inputs.data.path, job.columns, parse(job.freq) if job.freq else None)
    if len(job.columns.targets) > 1:  # then the number of a category is its place among all there are
        survey.categories = {name: {} for name in inputs.categories}
    series = inputs.past(lambda share: reading.step(share, f"{survey.rows:,} rows"))
    survey.take(series, inputs.numbers, check_regular=not job.freq)
    return survey


def _write(plan: _Plan, staging: Path, running: Stage) -> list[Pictured]:
    """Forecast and write all series; return those that are drawn."""
    job, columns = plan.job, plan.job.columns
    pictured: list[Pictured] = []
    begin, done, total = perf_counter(), 0, len(plan.survey.names)
    output = open_output(job.output, staging, plan.inputs.data, columns.id)
    try:
        for block, answer in _answers(plan):
            output.write(answer)
            room = PICTURED - len(pictured) if job.plot else 0
            pictured += islice(_pictured(block, answer, columns.targets[0], plan.steps), room)
            done += len(block.names)
            rate = done / (perf_counter() - begin)
            left = f"{rate:,.0f} per second, {(total - done) / rate:,.0f} s left"
            running.step(done / total, f"{done:,} of {total:,} series, {left}")
    finally:
        output.close()
    return pictured


def _answers(plan: _Plan) -> Iterator[tuple[Block, Answer]]:
    """Each batch of series with its forecast."""
    inputs, columns = plan.inputs, plan.job.columns
    rows = len(columns.targets) + len(inputs.covariates)
    future = None if inputs.future is None else inputs.ahead()
    for block in blocks_of(inputs.past(), -(-BATCH_SIZE // rows), columns.group):
        ahead = None if future is None else block_of(list(islice(future, len(block.names))))
        yield block, _answer(plan, block, ahead, rows * len(block.names))


def _answer(plan: _Plan, block: Block, ahead: Block | None, rows: int) -> Answer:
    job, columns = plan.job, plan.job.columns
    outermost = min(plan.model.quantiles), max(plan.model.quantiles)
    quantiles, median = predict_quantiles(
        plan.model,
        tasks_of(
            np.stack([_numbers(block, name) for name in columns.targets]),
            [_covariate(plan, name, block, ahead) for name in plan.inputs.covariates],
            block.lengths.tolist(),
            plan.steps,
        ),
        plan.steps,
        np.clip(job.quantiles, *outermost).tolist(),
        batch_size=rows if columns.group else BATCH_SIZE,
        context_length=job.context_length,
        cross_learning=job.cross_learning or columns.group is not None,
    )
    levels = np.stack(quantiles).reshape(-1, len(job.quantiles))
    numbers = {"predictions": np.stack(median).ravel()}
    numbers |= {str(level): levels[:, place] for place, level in enumerate(job.quantiles)}
    assert plan.survey.frequency
    stamps = plan.survey.frequency.after(block.stamps[np.cumsum(block.lengths) - 1], plan.steps)
    each = len(columns.targets) * plan.steps
    return Answer(
        (columns.id, columns.timestamp, "target_name"),
        list(chain.from_iterable([name] * each for name in block.names)),
        np.repeat(stamps, len(columns.targets), axis=0).ravel().astype(plan.survey.stamp_type(plan.steps)),
        [target for target in columns.targets for _ in range(plan.steps)] * len(block.names),
        numbers,
    )


def _covariate(plan: _Plan, name: str, block: Block, ahead: Block | None) -> Covariate:
    known = ahead if name in plan.inputs.known else None
    if name in plan.inputs.numeric:
        return Covariate(_numbers(block, name), None if known is None else _numbers(known, name))
    values = categorize(list(block.values[name]), plan.orders.get(name))
    return Covariate(values, None if known is None else list(known.values[name]))


def _numbers(block: Block, name: str) -> Floats:
    numbers = block.values[name]
    assert isinstance(numbers, np.ndarray)
    return numbers


def _pictured(block: Block, answer: Answer, target: str, steps: int) -> Iterable[Pictured]:
    """The first target of each series."""
    each = len(answer.ids) // len(block.names)
    ends = np.cumsum(block.lengths).tolist()
    for place, (name, begin, end) in enumerate(zip(block.names, [0, *ends], ends, strict=False)):
        ahead = slice(place * each, place * each + steps)
        numbers = {column: values[ahead] for column, values in answer.numbers.items()}
        past = block.stamps[begin:end], _numbers(block, target)[begin:end]
        yield Pictured(f"{target} of {name}", *past, answer.stamps[ahead], numbers)
