"""An artifact as a `Chronos2Pipeline`: upstream's own class over our model object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2.config import Chronos2ForecastingConfig
from torch import Tensor

from chronos_export.errors import UsageError
from chronos_export.runtime.batching import Call, Limits, observed_length
from chronos_export.runtime.fetch import Fetch
from chronos_export.runtime.schedule import Schedule, schedule
from chronos_export.runtime.session import Session, SideBySide

Reopen = Callable[[], "SessionModel"]
FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever PyTorch's defaults are


class NotInGraphError(UsageError, AttributeError):
    """PyTorch's model has it, an exported one does not; `hasattr` is False as ever."""


@dataclass(frozen=True)
class Forecast:
    """What upstream's pipeline reads from a model's answer.

    Attributes:
        quantile_preds: float32 [rows, quantiles, output patches * patch].
    """

    quantile_preds: Tensor


class SessionModel:
    """What upstream's pipeline needs of a model, answered by a session.

    Args:
        session: The backend.
        chronos_config: The checkpoint's `chronos_config`.
        limits: How large one call of the session may be.
        reopen: Makes such a model again: a copy, or the same in another process.
    """

    def __init__(
        self, session: Session, chronos_config: dict[str, Any], limits: Limits, reopen: Reopen | None = None
    ) -> None:
        self.session, self.limits, self._reopen = session, limits, reopen
        self.chronos_config = Chronos2ForecastingConfig(**chronos_config)
        self.device = torch.device("cpu")

    def __call__(
        self,
        context: Tensor,
        group_ids: Tensor | None = None,
        num_output_patches: int = 1,
        future_covariates: Tensor | None = None,
    ) -> Forecast:
        """Forecast as upstream's `Chronos2Model.forward` does, for any number of rows.

        Args:
            context: float [rows, context_length], NaN = missing.
            group_ids: integer [rows]; every row is a group of its own if None.
            num_output_patches: Patches to forecast.
            future_covariates: float [rows, at most that many steps], NaN = unknown.

        Raises:
            UsageError: If the shapes or types do not fit together.
        """
        rows = _check_context(context)
        group_ids = _check_group_ids(group_ids, rows)
        future = self._future(future_covariates, rows, num_output_patches)
        context = context.to("cpu", torch.float32)[:, -self.chronos_config.context_length :]
        lengths = observed_length(torch.isnan(context).numpy())
        patch = self.chronos_config.output_patch_size
        calls = schedule(
            group_ids.numpy(), lengths, future.shape[1], patch, self.limits, _workers(self.session)
        )
        out = torch.empty(rows, len(self.chronos_config.quantiles), future.shape[1], **FLOAT32)

        def ask(session: Session, call: Call) -> Tensor:
            index = torch.from_numpy(call.rows)
            piece = context[index, -call.context_length :]
            if call.univariate:
                return session.run_univariate(piece, future[index])
            return session.run(piece, group_ids[index], future[index])

        for call, forecast in self._answers(calls, ask):
            out[torch.from_numpy(call.rows)] = forecast
        return Forecast(out)

    def __getattr__(self, name: str) -> NoReturn:
        """What upstream's `embed`, `fit` and `save_pretrained` look for, and a graph does not have."""
        raise NotInGraphError(
            f"an exported model forecasts, and has no {name!r}: it neither embeds nor trains, and cannot be"
            " saved or moved",
            allowed="predict, predict_quantiles, predict_df; load(path, provider=...) says where they run",
            fix="chronos_export.accelerate(Chronos2Pipeline.from_pretrained(...)) has all of PyTorch's model",
        )

    def __reduce__(self) -> tuple[Reopen, tuple[()]]:
        if self._reopen is None:
            raise TypeError("only a model that load() opened can be copied or pickled")
        return self._reopen, ()

    def _answers(
        self, calls: Schedule, ask: Callable[[Session, Call], Tensor]
    ) -> Iterator[tuple[Call, Tensor]]:
        """Each call with its forecast, on the CPU; one is taken while a GPU answers the next."""
        if calls.beside:
            assert isinstance(self.session, SideBySide)
            with ThreadPoolExecutor(self.session.workers) as pool:
                answers = pool.map(partial(ask, self.session.single_threaded), calls.beside)
                yield from zip(calls.beside, answers, strict=True)  # the first error ends the others
        before: tuple[Call, Fetch] | None = None
        for call in calls.alone:
            begun = call, Fetch(ask(self.session, call))
            if before:
                yield before[0], before[1].wait()
            before = begun
        if before:
            yield before[0], before[1].wait()

    def _future(self, covariates: Tensor | None, rows: int, num_output_patches: int) -> Tensor:
        if num_output_patches < 1:
            raise UsageError(f"num_output_patches is {num_output_patches}", allowed="1 or more")
        steps = num_output_patches * self.chronos_config.output_patch_size
        future = torch.full((rows, steps), torch.nan, **FLOAT32)
        if covariates is None:
            return future
        if covariates.ndim != 2 or len(covariates) != rows or covariates.shape[1] > steps:
            raise UsageError(
                f"future_covariates has shape {list(covariates.shape)}",
                allowed=f"[{rows}, at most {steps}] for {num_output_patches} output patches",
            )
        future[:, : covariates.shape[1]] = covariates
        return future


def as_pipeline(
    session: Session, chronos_config: dict[str, Any], limits: Limits, reopen: Reopen | None = None
) -> Chronos2Pipeline:
    """A `Chronos2Pipeline` whose forward passes a session answers.

    Args:
        session: The backend.
        chronos_config: The checkpoint's `chronos_config`.
        limits: How large one call of the session may be.
        reopen: See `SessionModel`.
    """
    return Chronos2Pipeline(model=SessionModel(session, chronos_config, limits, reopen))


def _workers(session: Session) -> int:
    return session.workers if isinstance(session, SideBySide) else 1


def _check_context(context: Tensor) -> int:
    if context.ndim != 2 or 0 in context.shape or not context.is_floating_point():
        raise UsageError(
            f"context has shape {list(context.shape)} and type {context.dtype}",
            allowed="floating point [rows, context_length], at least one row of at least one step",
        )
    return len(context)


def _check_group_ids(group_ids: Tensor | None, rows: int) -> Tensor:
    if group_ids is None:
        return torch.arange(rows, device="cpu")
    if group_ids.shape != (rows,) or group_ids.is_floating_point() or group_ids.is_complex():
        raise UsageError(
            f"group_ids has shape {list(group_ids.shape)} and type {group_ids.dtype}",
            allowed=f"integers of shape [{rows}], one for each row of context",
        )
    return group_ids.to("cpu", torch.int64)
