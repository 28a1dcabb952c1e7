"""How calls are best made on this machine, measured once and kept in the artifact.

One large call reads more memory than a core's cache holds, many small ones read the weights too often. Where
the best lies depends on the machine and the model. Calls that will be answered side by side are timed on one
thread, as they will run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from chronos_export.runtime.batching import Limits
from chronos_export.runtime.schedule import OVERHEAD, OVERHEAD_SHARED
from chronos_export.runtime.session import Floats, Session, SideBySide
from chronos_export.runtime.side_by_side import side_by_side

TOKENS = (400, 800, 1600, 3200)
STEPS, HORIZON = 1440, 96  # of the rows that are timed
TRIES = 3
SHARED = (0.5, 1.2)  # beyond these, something else had the machine
TIE = 0.03  # a smaller call is kept unless the next larger is this much faster: it takes less memory


def tune(session: Session, patch: int, context_length: int) -> Limits:
    """Time single rows in calls of several sizes.

    Args:
        session: The backend that will run here.
        patch: Time steps a token.
        context_length: The model's longest context.

    Returns:
        The default limits with the best number of tokens a call and what sharing a call costs.
    """
    steps = min(STEPS, context_length)
    tokens = -(-steps // patch) + 1 + -(-HORIZON // patch)
    sharing = session if isinstance(session, SideBySide) and session.workers > 1 else None
    one_thread = sharing.single_threaded if sharing else session
    best, chosen = float("inf"), TOKENS[0]
    for size in TOKENS:
        rows = max(1, size // tokens)
        cost = _seconds(partial(one_thread.run_univariate, *_single_rows(rows, steps))) / rows
        if cost >= best * (1 - TIE):
            break
        best, chosen = cost, size
    limits = replace(Limits(), tokens=chosen)
    if sharing is None:
        return limits
    rows = max(1, chosen // tokens)
    return replace(limits, shared=_shared(sharing, _single_rows(rows, steps), rows * tokens))


def _shared(session: SideBySide, call: tuple[Floats, Floats], tokens: int) -> float:
    """`Limits.shared`, from as many calls as there are threads: side by side, and one after the other."""

    def beside() -> None:
        one_thread, workers = session.single_threaded, session.workers
        side_by_side(lambda _: one_thread.run_univariate(*call), range(workers), workers)

    def alone() -> None:
        for _ in range(session.workers):
            session.run_univariate(*call)

    ratio = _seconds(beside) / _seconds(alone)
    found = ratio * (tokens + OVERHEAD_SHARED) / (tokens + OVERHEAD)
    return min(max(found, SHARED[0]), SHARED[1])


def _single_rows(rows: int, steps: int) -> tuple[Floats, Floats]:
    """Their context and their future covariates."""
    context = np.random.default_rng(0).standard_normal((rows, steps), dtype=np.float32).cumsum(1)
    return context, np.full((rows, HORIZON), np.nan, dtype=np.float32)


def _seconds(run: Callable[[], object]) -> float:
    """The best of some runs, after one that is not counted."""
    run()
    seconds = []
    for _ in range(TRIES):
        begin = perf_counter()
        run()
        seconds.append(perf_counter() - begin)
    return min(seconds)
