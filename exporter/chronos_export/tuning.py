"""The best size of a call on this machine, measured once and kept in the artifact.

One large call reads more memory than a core's cache holds, many small ones read the weights too often. Where
the best lies depends on the machine and the model. Calls that will be answered side by side are timed on one
thread, as they will run.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import torch

from chronos_export.plan import Limits
from chronos_export.session import Session, SideBySide

TOKENS = (400, 800, 1600, 3200)
STEPS, HORIZON = 1440, 96  # of the rows that are timed
TRIES = 3
TIE = 0.03  # a smaller call is kept unless a larger one is this much faster: it takes less memory


def tune(session: Session, patch: int, context_length: int) -> Limits:
    """Time single rows in calls of several sizes.

    Args:
        session: The backend that will run here.
        patch: Time steps a token.
        context_length: The model's longest context.

    Returns:
        The default limits with the best number of tokens a call.
    """
    steps = min(STEPS, context_length)
    tokens = -(-steps // patch) + 1 + -(-HORIZON // patch)
    if isinstance(session, SideBySide) and session.workers > 1:
        session = session.single_threaded
    best, chosen = float("inf"), TOKENS[0]
    for size in TOKENS:
        cost = _seconds_a_row(session, max(1, size // tokens), steps)
        if cost < best * (1 - TIE):
            best, chosen = cost, size
    return replace(Limits(), tokens=chosen)


def _seconds_a_row(session: Session, rows: int, steps: int) -> float:
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(rows, steps, generator=generator).cumsum(1)
    future = torch.full((rows, HORIZON), torch.nan)
    session.run_univariate(context, future)
    seconds = []
    for _ in range(TRIES):
        begin = perf_counter()
        session.run_univariate(context, future)
        seconds.append(perf_counter() - begin)
    return min(seconds) / rows
