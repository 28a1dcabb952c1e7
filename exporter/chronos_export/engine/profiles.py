"""Which profiles an engine gets, so that every call of them fits into the memory that is given.

The memory of a call grows with its tokens, rows x tokens a row. A row count that is asked for gets the
longest context that fits; where none of them reaches the longest context of all, one more profile does, with
as many rows as fit. So profiles lie along a curve of equal tokens: 2000 rows x 1440 steps, 100 x 8192.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import UsageError
from chronos_export.machine.gpu import device_memory

AHEAD_OF_TIME = 8 * 2**30  # bytes, where nobody says which GPU it will be
SHARE_OF_THE_CARD = 0.8  # the rest is CUDA's and the display's
SPARE = 1.05  # over the estimate, which is up to 2 % short in every size and dtype that was built
WORKSPACE = 16 * 2**20  # bytes that products get, however small


@dataclass(frozen=True)
class Sizes:
    """What of a model decides its memory.

    Attributes:
        d_model: Numbers a token.
        d_ff: Hidden numbers a token.
        heads: Attention heads.
        patch: Time steps a token.
        quantiles: Forecast of every step.
        number_bytes: Of the numbers in its products.
        weights: Bytes of its weights.
        dense: Whether group attention is computed over all rows of a call, under a mask.
    """

    d_model: int
    d_ff: int
    heads: int
    patch: int
    quantiles: int
    number_bytes: int
    weights: int
    dense: bool = False

    def tokens(self, context: int, horizon: int) -> int:
        """Return the tokens a row."""
        return -(-context // self.patch) + 1 + -(-horizon // self.patch)

    def scratch(self, rows: int, context: int, horizon: int) -> int:
        """Return about how many bytes of scratch a call takes.

        Most is held by the embedding: its hidden and its residual numbers with and without their bias, and
        two float32 copies of what comes out; or the same by the head, whose tokens are the forecast's. In
        float32, time attention holds its scores twice too, and so does dense group attention.
        """
        tokens, ahead = self.tokens(context, horizon), self.tokens(0, horizon) - 1
        embedding = self.number_bytes * 2 * (self.d_ff + self.d_model) + 8 * self.d_model
        head = self.number_bytes * (2 * self.d_ff + 3 * self.quantiles * self.patch + 2 * self.d_model)
        scores = 2 * 4 * self.heads * tokens if self.number_bytes == 4 else 0
        group_scores = 2 * 4 * self.heads * rows if self.dense else 0
        most = max(tokens * (embedding + scores + group_scores), ahead * head)
        return WORKSPACE + int(SPARE * rows * most)

    def memory(self, rows: int, context: int, horizon: int) -> int:
        """Return about how many bytes of the GPU a session takes for such calls.

        Its weights are there twice, once in the engine of rows without groups; scratch is shared.
        """
        series = 4 * rows * (context + (1 + self.quantiles) * horizon)
        return 2 * self.weights + series + self.scratch(rows, context, horizon)


def memory_for(is_for_this_machine: bool) -> int:
    """Return the memory that profiles are fitted to where nobody says: most of the card, or 8 GiB."""
    card = device_memory() if is_for_this_machine else None
    return int(SHARE_OF_THE_CARD * card) if card else AHEAD_OF_TIME


def plan_profiles(
    batch: Sequence[int], context: int, horizon: int, sizes: Sizes, memory: int
) -> tuple[Profile, ...]:
    """Return the profiles of an engine, with estimates of their scratch.

    Args:
        batch: Row counts.
        context: The longest context, time steps.
        horizon: The longest horizon, time steps.
        sizes: Of the model.
        memory: Bytes of the GPU that a call may take, weights included.

    Raises:
        UsageError: Not even one row of the longest context fits, or not one token of so many rows.
    """
    profiles = [Profile(rows, _longest_context(rows, context, horizon, sizes, memory)) for rows in batch]
    if all(profile.context < context for profile in profiles):
        profiles.append(Profile(_most_rows(context, horizon, sizes, memory), context))
    return tuple(
        Profile(profile.rows, profile.context, sizes.scratch(profile.rows, profile.context, horizon))
        for profile in profiles
    )


def _longest_context(rows: int, context: int, horizon: int, sizes: Sizes, memory: int) -> int:
    """The longest context of whole patches, up to `context`, of which so many rows fit."""
    if sizes.memory(rows, context, horizon) <= memory:
        return context
    fitting, beyond = 0, -(-context // sizes.patch)  # patches
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if sizes.memory(rows, middle * sizes.patch, horizon) <= memory:
            fitting = middle
        else:
            beyond = middle
    if not fitting:
        raise _too_little(rows, sizes.patch, horizon, sizes, memory)
    return fitting * sizes.patch


def _most_rows(context: int, horizon: int, sizes: Sizes, memory: int) -> int:
    one, two = (sizes.memory(rows, context, horizon) for rows in (1, 2))
    if one > memory:
        raise _too_little(1, context, horizon, sizes, memory)
    return 1 + (memory - one) // (two - one)


def _too_little(rows: int, context: int, horizon: int, sizes: Sizes, memory: int) -> UsageError:
    needed = sizes.memory(rows, context, horizon)
    return UsageError(
        f"{rows} rows of {context} steps and {horizon} ahead take about {in_gib(needed)} of the GPU's memory",
        allowed=f"what fits into {in_gib(memory)}, or a shorter --context or --horizon, or fewer rows",
        fix=f"chronos-export --memory {in_gib(needed)} ...",
    )


def in_gib(size: int) -> str:
    """Return a number of bytes as `--memory` takes it, rounded up to a tenth."""
    return f"{-(-size * 10 // 2**30) / 10:g}GiB"
