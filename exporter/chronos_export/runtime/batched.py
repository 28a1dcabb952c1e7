"""Any batch of rows through a session: checked, cut into calls, answered, put back together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.runtime.batching import Call, Limits, observed_length
from chronos_export.runtime.schedule import Schedule, schedule
from chronos_export.runtime.session import Deferred, Floats, Ints, Pending, Session, SideBySide
from chronos_export.runtime.side_by_side import side_by_side


@dataclass(frozen=True)
class Done:
    """The `Pending` of a session that answers at once."""

    forecast: Floats

    def wait(self) -> Floats:
        """Return the forecast."""
        return self.forecast


class BatchedSession:
    """A session that takes any number of rows.

    Args:
        session: Answers the calls.
        limits: How large one call may be.
        patch: Time steps per token.
        context_length: The model's longest context, time steps; of a longer one the end is used.
        quantiles: How many quantiles the model forecasts.
    """

    def __init__(
        self, session: Session, limits: Limits, *, patch: int, context_length: int, quantiles: int
    ) -> None:
        self.session, self.limits = session, limits
        self.patch, self.context_length, self.quantiles = patch, context_length, quantiles

    def forecast(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future_covariates: NDArray[Any] | None,
    ) -> Floats:
        """Forecast as upstream's `Chronos2Model.forward` does, for any number of rows.

        Args:
            context: floating point [rows, context_length], NaN = missing.
            group_ids: integer [rows]; every row is a group of its own if None.
            output_patches: Patches to forecast.
            future_covariates: floating point [rows, at most that many steps], NaN = unknown.

        Returns:
            float32 [rows, quantiles, output_patches * patch].

        Raises:
            UsageError: The shapes or types do not fit together.
        """
        rows = _check_context(context)
        ids = _check_group_ids(group_ids, rows)
        future = self._future(future_covariates, rows, output_patches)
        context = np.asarray(context[:, -self.context_length :], dtype=np.float32)
        lengths = observed_length(np.isnan(context))
        calls = schedule(ids, lengths, future.shape[1], self.patch, self.limits, self._workers)
        out = np.empty((rows, self.quantiles, future.shape[1]), dtype=np.float32)
        begin = partial(_begin, context=context, ids=ids, future=future)

        def put(call: Call, pending: Pending) -> None:
            out[call.rows] = pending.wait()

        self._answer(calls, begin, put)
        return out

    @property
    def _workers(self) -> int:
        return self.session.workers if isinstance(self.session, SideBySide) else 1

    def _answer(
        self,
        calls: Schedule,
        begin: Callable[[Session, Call], Pending],
        put: Callable[[Call, Pending], None],
    ) -> None:
        """Every call into its place; a device answers a call while the one before is taken."""
        if calls.beside:
            assert isinstance(self.session, SideBySide)
            one_thread = self.session.single_threaded
            side_by_side(lambda call: put(call, begin(one_thread, call)), calls.beside, self._workers)
        before: tuple[Call, Pending] | None = None
        for call in calls.alone:
            begun = call, begin(self.session, call)
            if before:
                put(*before)
            before = begun
        if before:
            put(*before)

    def _future(self, covariates: NDArray[Any] | None, rows: int, output_patches: int) -> Floats:
        if output_patches < 1:
            raise UsageError(f"num_output_patches is {output_patches}", allowed="1 or more")
        steps = output_patches * self.patch
        future = np.full((rows, steps), np.nan, dtype=np.float32)
        if covariates is None:
            return future
        if covariates.ndim != 2 or len(covariates) != rows or covariates.shape[1] > steps:
            raise UsageError(
                f"future_covariates has shape {list(covariates.shape)}",
                allowed=f"[{rows}, at most {steps}] for {output_patches} output patches",
            )
        future[:, : covariates.shape[1]] = covariates
        return future


def _begin(session: Session, call: Call, *, context: Floats, ids: Ints, future: Floats) -> Pending:
    piece, ahead = context[call.rows, -call.context_length :], future[call.rows]
    if isinstance(session, Deferred):
        if call.univariate:
            return session.start_univariate(piece, ahead)
        return session.start(piece, ids[call.rows], ahead)
    if call.univariate:
        return Done(session.run_univariate(piece, ahead))
    return Done(session.run(piece, ids[call.rows], ahead))


def _check_context(context: NDArray[Any]) -> int:
    if context.ndim != 2 or 0 in context.shape or not np.issubdtype(context.dtype, np.floating):
        raise UsageError(
            f"context has shape {list(context.shape)} and type {context.dtype}",
            allowed="floating point [rows, context_length], at least one row of at least one step",
        )
    return len(context)


def _check_group_ids(group_ids: NDArray[Any] | None, rows: int) -> Ints:
    if group_ids is None:
        return np.arange(rows)
    if group_ids.shape != (rows,) or not np.issubdtype(group_ids.dtype, np.integer):
        raise UsageError(
            f"group_ids has shape {list(group_ids.shape)} and type {group_ids.dtype}",
            allowed=f"integers of shape [{rows}], one for each row of context",
        )
    return group_ids.astype(np.int64)
