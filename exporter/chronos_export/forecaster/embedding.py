"""`embed` on numpy arrays.

Derived from `Chronos2Pipeline.embed` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from chronos_export.errors import UsageError
from chronos_export.forecaster.batches import Batch, batches
from chronos_export.forecaster.inputs import as_tasks
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.prediction import BATCH_SIZE, used_context
from chronos_export.runtime.embedding import Embedded
from chronos_export.runtime.session import Floats

Statistics = tuple[Floats, Floats]


class NoEmbeddingsError(UsageError, AttributeError):
    """The artifact has no graph that embeds."""


def embed(
    model: Model, inputs: Any, batch_size: int = BATCH_SIZE, context_length: int | None = None
) -> tuple[list[Floats], list[Statistics]]:
    """Embed; arguments, answer and errors are those of `Forecaster.embed`."""
    if model.embedder is None:
        raise NoEmbeddingsError("this artifact forecasts and does not embed", fix=model.with_embeddings)
    context = used_context(model, context_length)
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}", allowed="1 row or more")
    embeddings: list[Floats] = []
    statistics: list[Statistics] = []
    for batch in batches(as_tasks(inputs, 0), batch_size, context, cross_learning=False):
        for rows, found in _calls(model, batch):
            targets = [part for part in batch.targets if rows.start <= part.start < rows.stop]
            for part in targets:
                own = slice(part.start - rows.start, part.stop - rows.start)
                embeddings.append(found.tokens[own])
                statistics.append((found.loc[own], found.scale[own]))
    return embeddings, statistics


def _calls(model: Model, batch: Batch) -> Iterator[tuple[slice, Embedded]]:
    """The rows of a batch a call at a time, whole groups each; all of one length, which embeddings show."""
    assert model.embedder
    tokens = batch.context.shape[1] // model.patch + 2
    most = max(model.embedder.tokens // tokens, 1)
    ends = [*(np.flatnonzero(np.diff(batch.group_ids)) + 1).tolist(), len(batch.group_ids)]
    begin = end = 0
    for following in ends:
        if following - begin > most and end > begin:
            yield slice(begin, end), model.embedder(batch.context[begin:end], batch.group_ids[begin:end])
            begin = end
        end = following
    yield slice(begin, end), model.embedder(batch.context[begin:end], batch.group_ids[begin:end])
