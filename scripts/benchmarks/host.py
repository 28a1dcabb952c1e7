"""How much of a forecast is spent outside of the model: padding, stacking, batching, DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from chronos_export.bench.comparison import HORIZON
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import ChronosExportError
from chronos_export.pipeline.model import as_pipeline
from chronos_export.runtime.session import Floats, Session

from .peers import Peer
from .records import HostTime
from .subject import Subject
from .workloads import Workload, groups_of_20, univariate

CALLS = ("predict, groups of 20", "predict_df, univariate")


class TimedSession:
    """A session that adds up how long it ran."""

    def __init__(self, session: Session) -> None:
        self._session, self.seconds = session, 0.0

    def run(self, *inputs: Any) -> Floats:
        """See `Session.run`."""
        return self._timed(self._session.run, inputs)

    def run_univariate(self, *inputs: Any) -> Floats:
        """See `Session.run_univariate`."""
        return self._timed(self._session.run_univariate, inputs)

    def _timed(self, call: Callable[..., Floats], inputs: tuple[Any, ...]) -> Floats:
        begin = perf_counter()
        out = call(*inputs)
        self.seconds += perf_counter() - begin
        return out


def host_times(
    peers: Iterable[Peer], subject: Subject, rows: int, say: Callable[[str], None]
) -> Iterator[HostTime]:
    """`predict` of groups of 20 and `predict_df` of univariate series, for every session that opens here.

    Args:
        peers: Those with a session are timed.
        subject: Whose configuration they share.
        rows: Rows of a call.
        say: Told what is being timed.
    """
    grouped, single = _arrays(groups_of_20(rows)), _frame(univariate(rows))
    for peer in peers:
        if peer.session is None:
            continue
        try:
            opened, limits = peer.session()
        except (RuntimeError, MemoryError, ChronosExportError):
            continue  # the tables of the workloads say why
        session = TimedSession(opened)
        pipeline = as_pipeline(session, subject.settings, limits)
        predict = partial(pipeline.predict, grouped, HORIZON)
        predict_df = partial(pipeline.predict_df, single, prediction_length=HORIZON)
        pipeline.predict(grouped[:1], HORIZON)
        for name, call in zip(CALLS, (predict, predict_df), strict=True):
            say(f"host side: {peer.name}, {name}")
            session.seconds, begin = 0.0, perf_counter()
            with quiet():
                call()
            yield HostTime(peer.name, name, perf_counter() - begin, session.seconds)


def _arrays(work: Workload) -> list[Any]:
    """A list of arrays [series, steps], one per group."""
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
