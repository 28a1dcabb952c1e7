"""An artifact as a `Chronos2Pipeline`: upstream's own class over our model object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2.config import Chronos2ForecastingConfig
from torch import Tensor

from chronos_export.errors import UsageError
from chronos_export.forecaster.embedding import embed
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.prediction import BATCH_SIZE, predict
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.session import Session

Reopen = Callable[[], "SessionModel"]


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
        model: Answers any number of rows.
        reopen: Makes such a model again: a copy, or the same in another process.
    """

    def __init__(self, model: Model, reopen: Reopen | None = None) -> None:
        self.forecasts, self._reopen = model, reopen
        self.chronos_config = Chronos2ForecastingConfig(
            **{**model.chronos_config, "quantiles": model.quantiles}
        )
        self.device = torch.device("cpu")

    @property
    def session(self) -> Session:
        """Return what answers the calls."""
        rows = self.forecasts.rows
        assert isinstance(rows, BatchedSession)
        return rows.session

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
        forecast = self.forecasts.rows.forecast(
            _array(context),
            None if group_ids is None else _array(group_ids),
            num_output_patches,
            None if future_covariates is None else _array(future_covariates),
        )
        return Forecast(torch.from_numpy(forecast))

    def __getattr__(self, name: str) -> NoReturn:
        """What upstream's `fit` and `save_pretrained` look for, and a graph does not have."""
        raise NotInGraphError(
            f"an exported model forecasts, and has no {name!r}: it does not train, and cannot be"
            " saved or moved",
            allowed="predict, predict_quantiles, predict_df, embed; load(path, runtime=...) says where",
            fix="chronos_export.accelerate(Chronos2Pipeline.from_pretrained(...)) has all of PyTorch's model",
        )

    def __reduce__(self) -> tuple[Reopen, tuple[()]]:
        if self._reopen is None:
            raise TypeError("only a model that load() opened can be copied or pickled")
        return self._reopen, ()


class ExportedPipeline(Chronos2Pipeline):  # type: ignore[misc]
    """Upstream's pipeline over an exported model; `predict`, on which the rest stands, is `Forecaster`'s.

    Args:
        model: Answers the forward passes.
        name: Which artifact this is and what it runs on.
    """

    def __init__(self, model: SessionModel, name: str = "a session") -> None:
        super().__init__(model=model)
        self._name = name

    def predict(
        self,
        inputs: Any,
        prediction_length: int | None = None,
        batch_size: int = BATCH_SIZE,
        context_length: int | None = None,
        cross_learning: bool = False,
        limit_prediction_length: bool = False,
        **options: Any,
    ) -> list[Tensor]:
        """Forecast as upstream's `predict` does; see `Forecaster.predict`, whose numbers these are."""
        forecasts = predict(
            self.model.forecasts,
            inputs,
            prediction_length,
            batch_size,
            context_length,
            cross_learning,
            limit_prediction_length,
            **options,
        )
        return [torch.from_numpy(rows) for rows in forecasts]

    def embed(
        self, inputs: Any, batch_size: int = BATCH_SIZE, context_length: int | None = None
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Embed as upstream's `embed` does; see `Forecaster.embed`, whose numbers these are."""
        tokens, statistics = embed(self.model.forecasts, inputs, batch_size, context_length)
        numbers = [(torch.from_numpy(loc), torch.from_numpy(scale)) for loc, scale in statistics]
        return [torch.from_numpy(rows) for rows in tokens], numbers

    def __repr__(self) -> str:
        return f"<Chronos2Pipeline of {self._name}>"


def as_pipeline(session: Session, chronos_config: dict[str, Any], limits: Limits) -> ExportedPipeline:
    """Return a `Chronos2Pipeline` whose forward passes a session answers.

    Args:
        session: Answers the calls.
        chronos_config: The checkpoint's entry of that name.
        limits: How large one call of the session may be.
    """
    return ExportedPipeline(SessionModel(Model.over(session, limits, chronos_config)))


def _array(x: Tensor) -> Any:
    """A tensor's values on the CPU; a type that numpy lacks comes as float32."""
    x = x.detach().cpu()
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy()
