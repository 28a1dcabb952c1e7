"""The proof of the graph that embeds, and what it costs.

An embedding may be ten times as far from float64's as upstream's own float32 is, on the case, over the tokens
that are alive; see `tolerance.py` for why ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from chronos.chronos2 import Chronos2Model
from numpy.typing import NDArray

from chronos_export.errors import AccuracyError
from chronos_export.graph_contract import EMBEDDINGS
from chronos_export.progress import Report, stage
from chronos_export.runtime.embedding import Embedded, Embedder
from chronos_export.runtime.session import Files, Floats, Session
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.tolerance import NOISE_FACTOR

ROWS, STEPS = 8, 1440  # of the calls that are timed
TRIES = 3


@dataclass(frozen=True)
class EmbeddingProof:
    """What was found of the graph that embeds.

    Attributes:
        graph: Its file.
        bytes: Its size; the weights are those of the other graphs.
        cases: How many cases it embeds as upstream does.
        error: The largest difference from upstream's, of the root mean square of an alive token.
        worst_of_limit: The largest error in units of what its case allows.
        seconds: Of a call of 8 rows of 1440 steps, or of as many as the model sees.
        of_a_forecast: That, as a share of the time in which the rows are forecast one patch ahead.
    """

    graph: str
    bytes: int
    cases: int
    error: float
    worst_of_limit: float
    seconds: float
    of_a_forecast: float

    def summary(self) -> dict[str, Any]:
        """What the manifest records."""
        return asdict(self)


def prove_embeddings(
    reference: Chronos2Model, files: Files, session: Session, cases: Sequence[Case], report: Report
) -> EmbeddingProof:
    """Hold embeddings against upstream's.

    Args:
        reference: The unmodified upstream model, float32, in eval mode.
        files: Where the graph and the weights are.
        session: Forecasts, to be compared with in time.
        cases: The inputs; their covariates are not used.
        report: Told of progress.

    Raises:
        AccuracyError: An embedding is not upstream's.
    """
    embedder, exact = Embedder(files), in_float64(reference)
    worst = error = 0.0
    with stage("embeddings", report) as progress:
        for case in progress.counted(cases, "case", 0.0, 0.9):
            found = embedder(case.context, case.group_ids)
            theirs, truth = (_upstream(model, case) for model in (reference, exact))
            alive = _alive(case, reference.chronos_config)
            difference, noise = (_distance(one, truth, alive) for one in (found, theirs))
            allowed = NOISE_FACTOR * max(noise, float(np.finfo(np.float32).eps))
            worst, error = max(worst, difference / allowed), max(error, _distance(found, theirs, alive))
            if not difference <= allowed:
                raise AccuracyError(
                    f"embeddings of {case.name} are {difference:.1e} off, and upstream's {noise:.1e}",
                    allowed=f"{allowed:.1e} of the size of a token",
                    fix="report it; without --embeddings the export only forecasts",
                )
        context_length = min(STEPS, reference.chronos_config.context_length)
        seconds, forecast = _seconds(embedder, session, context_length)
    size = len(files.read(EMBEDDINGS))
    return EmbeddingProof(EMBEDDINGS, size, len(cases), error, worst, seconds, seconds / forecast)


@torch.no_grad()
def _upstream(model: Chronos2Model, case: Case) -> Embedded:
    dtype = next(model.parameters()).dtype
    encoded, (loc, scale), *_ = model.encode(
        context=torch.from_numpy(case.context).to(dtype), group_ids=torch.from_numpy(case.group_ids)
    )
    return Embedded(encoded[0].numpy(), loc.numpy(), scale.numpy())


def _alive(case: Case, config: Any) -> NDArray[np.bool_]:
    """bool [rows, tokens]: patches with an observation, REG, and the output token."""
    context, patch = case.context[:, -config.context_length :], config.input_patch_size
    padded = np.pad(~np.isnan(context), ((0, 0), (-context.shape[1] % patch, 0)))
    seen = padded.reshape(len(context), -1, patch).any(axis=2)
    return np.pad(seen, ((0, 0), (0, 2)), constant_values=True)


def _distance(found: Embedded, wanted: Embedded, alive: NDArray[np.bool_]) -> float:
    """The largest difference: of tokens by their size, of a row's mean and deviation by the deviation."""
    size = np.sqrt(np.square(wanted.tokens).mean(axis=2, keepdims=True))
    tokens = (np.abs(found.tokens - wanted.tokens.astype(np.float64)) / size)[alive].max()
    with np.errstate(all="ignore"):
        rows = [
            np.abs(mine.astype(np.float64) - theirs) / wanted.scale
            for mine, theirs in ((found.loc, wanted.loc), (found.scale, wanted.scale))
        ]
    return float(max(tokens, *(np.where(np.isfinite(part), part, 0).max() for part in rows)))


def _seconds(embedder: Embedder, session: Session, steps: int) -> tuple[float, float]:
    """The best times of embedding rows and of forecasting them one step ahead."""
    context: Floats = np.random.default_rng(0).standard_normal((ROWS, steps)).astype(np.float32)
    ids, unknown = np.arange(ROWS), np.full((ROWS, 1), np.nan, np.float32)
    times = []
    for call in (lambda: embedder(context, ids), lambda: session.run(context, ids, unknown)):
        taken = []
        for _ in range(TRIES):
            begin = perf_counter()
            call()
            taken.append(perf_counter() - begin)
        times.append(min(taken))
    return times[0], times[1]
