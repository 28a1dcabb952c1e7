"""An engine for univariate rows, and another runtime for rows in groups.

The engine of univariate rows needs no plugin, so it may be all that a machine can run, or all that was built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from chronos_export.runtime.batched import BatchedSession, Done
from chronos_export.runtime.session import Deferred, Floats, Ints, Pending


class GroupsElsewhere:
    """A session over both; see `session.Deferred`.

    Args:
        engine: Answers univariate rows.
        open_groups: Opens what answers rows in groups, when they first come.
        patch: Time steps a token.
    """

    def __init__(self, engine: Deferred, open_groups: Callable[[], BatchedSession], patch: int) -> None:
        self._engine, self._open_groups, self._patch = engine, open_groups, patch

    @cached_property
    def _groups(self) -> BatchedSession:
        return self._open_groups()

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `session.Session.run`."""
        patches = -(-future_covariates.shape[1] // self._patch)
        return self._groups.forecast(context, group_ids, patches, future_covariates)

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `session.Session.run_univariate`."""
        return self._engine.run_univariate(context, future_covariates)

    def start(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Pending:
        """See `session.Deferred.start`."""
        return Done(self.run(context, group_ids, future_covariates))

    def start_univariate(self, context: Floats, future_covariates: Floats) -> Pending:
        """See `session.Deferred.start_univariate`."""
        return self._engine.start_univariate(context, future_covariates)
