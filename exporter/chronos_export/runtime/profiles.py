"""Which profile of an engine answers a call."""

from __future__ import annotations

from collections.abc import Sequence

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import UsageError


def profile_for(rows: int, context: int, profiles: Sequence[Profile]) -> int:
    """Return the position of the smallest profile that admits a call.

    Args:
        rows: Of the call.
        context: Of the call, time steps.
        profiles: In the order of the plan.

    Raises:
        UsageError: None does; says with which options one would.
    """
    admitting = [number for number, profile in enumerate(profiles) if profile.admits(rows, context)]
    if not admitting:
        raise too_large(f"{rows} rows of {context} steps in one call", rows, context, profiles)
    return min(admitting, key=lambda number: profiles[number].rows * profiles[number].context)


def too_large(what: str, rows: int, context: int, profiles: Sequence[Profile]) -> UsageError:
    """Return the error for something that no profile admits."""
    beyond = [
        option
        for option, given, most in (
            (f"--batch {rows}", rows, max(profile.rows for profile in profiles)),
            (f"--context {context}", context, max(profile.context for profile in profiles)),
        )
        if given > most
    ]
    return UsageError(
        f"{what} are more than any engine profile admits",
        allowed="; ".join(f"up to {profile.rows} rows x {profile.context} steps" for profile in profiles),
        fix=f"chronos-export {' '.join(beyond) or '--memory MORE'} --force ...",
    )
