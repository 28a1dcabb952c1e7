"""How much of a forecast is spent outside of the model: padding, stacking, planning, DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from chronos_export.bench.peers import Peer
from chronos_export.bench.subject import Subject
from chronos_export.bench.workloads import HORIZON, Workload, groups_of_20, single_rows
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import ChronosExportError
from chronos_export.pipeline.model import as_pipeline
from chronos_export.runtime.session import Floats, Ints, Session


@dataclass(frozen=True)
class HostTime:
    """One call of a pipeline.

    Attributes:
        peer: Whose.
        call: Which.
        seconds: Of the call.
        inside: Seconds of these that its session ran.
    """

    peer: str
    call: str
    seconds: float
    inside: float

    @property
    def share(self) -> float:
        """The part of the time that the session did not run."""
        return 1 - self.inside / self.seconds


class TimedSession:
    """A session that adds up how long it ran."""

    def __init__(self, session: Session) -> None:
        self._session, self.seconds = session, 0.0

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `Session.run`."""
        begin = perf_counter()
        out = self._session.run(context, group_ids, future_covariates)
        self.seconds += perf_counter() - begin
        return out

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `Session.run_univariate`."""
        begin = perf_counter()
        out = self._session.run_univariate(context, future_covariates)
        self.seconds += perf_counter() - begin
        return out


def host_times(
    peers: Iterable[Peer], subject: Subject, rows: int, say: Callable[[str], None] = lambda _: None
) -> list[HostTime]:
    """`predict` of groups of 20 and `predict_df` of single series, for every session that opens here.

    Args:
        peers: Those with a session are timed.
        subject: Whose configuration they share.
        rows: Rows of a call.
        say: Told what is being timed.
    """
    grouped, single = _arrays(groups_of_20(rows)), _frame(single_rows(rows))
    found = []
    for peer in peers:
        if peer.session is None:
            continue
        try:
            session = TimedSession(peer.session())
        except (RuntimeError, MemoryError, ChronosExportError):
            continue  # the tables of the workloads say why
        pipeline = as_pipeline(session, subject.model.config.chronos_config, subject.limits)
        calls = {
            "predict, groups of 20": partial(pipeline.predict, grouped, HORIZON),
            "predict_df, single series": partial(pipeline.predict_df, single, prediction_length=HORIZON),
        }
        pipeline.predict(grouped[:1], HORIZON)
        for name, call in calls.items():
            say(f"host side: {peer.name}, {name}")
            session.seconds, begin = 0.0, perf_counter()
            with quiet():
                call()
            found.append(HostTime(peer.name, name, perf_counter() - begin, session.seconds))
    return found


def _arrays(work: Workload) -> list[Any]:
    """A list of arrays [series, steps], one a group."""
    _, counts = work.group_ids.unique_consecutive(return_counts=True)
    return [piece.numpy() for piece in work.context.split(counts.tolist())]


def _frame(work: Workload) -> Any:
    """The rows as a long DataFrame, one series each."""
    import pandas as pd

    steps = work.context.shape[1]
    return pd.DataFrame(
        {
            "item_id": np.repeat(np.arange(work.rows), steps),
            "timestamp": np.tile(pd.date_range("2020-01-01", periods=steps, freq="h"), work.rows),
            "target": work.context.numpy().ravel(),
        }
    )
