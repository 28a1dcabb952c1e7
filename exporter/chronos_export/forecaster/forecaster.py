"""An artifact that forecasts without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chronos_export.forecaster.embedding import embed
from chronos_export.forecaster.model import open_model
from chronos_export.forecaster.prediction import BATCH_SIZE, LEVELS, predict, predict_quantiles
from chronos_export.runtime.session import Floats


class Forecaster:
    """A published artifact, verified and opened: upstream's `Chronos2Pipeline` on numpy arrays.

    Its methods have the words, defaults, warnings and errors of upstream's. A copy or a pickle opens and
    verifies the artifact again, and no other one that may be there by then.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        runtime: "onnxruntime", "openvino", "tensorrt" or "tensorrt-rtx"; "auto" takes an engine that this
            machine can run, then onnxruntime on a GPU, then the CPU.
        device: "cpu", "cuda", or "auto".
        threads: Threads on a CPU; 0 leaves it to the runtime.
        digest: Of the artifact that is wanted, as `chronos-export inspect` prints it; any will do if None.

    Raises:
        UsageError: There is no such folder, runtime, device or engine, or `threads` or `digest` is none.
        IntegrityError: The artifact is damaged, or is not the one of that digest.
        MachineError: The runtime cannot be had here, or the engine was built for another machine.
    """

    def __init__(
        self,
        path: Path | str,
        runtime: str = "auto",
        device: str = "auto",
        threads: int = 0,
        digest: str | None = None,
    ) -> None:
        opened = open_model(path, runtime, device, threads, digest)
        self._model, self._name = opened.model, opened.name
        self._again = opened.path, runtime, device, threads, opened.digest

    @property
    def quantiles(self) -> list[float]:
        """Return the quantile levels that the model forecasts."""
        return self._model.quantiles

    @property
    def model_context_length(self) -> int:
        """Return the most steps of a series that the model sees."""
        return self._model.context_length

    @property
    def model_prediction_length(self) -> int:
        """Return the longest horizon that the model was trained for, time steps."""
        return self._model.prediction_length

    @property
    def model_output_patch_size(self) -> int:
        """Return the time steps of one output token."""
        return self._model.patch

    @property
    def max_output_patches(self) -> int:
        """Return the most output tokens of one forward pass."""
        return self._model.max_output_patches

    def predict(
        self,
        inputs: Any,
        prediction_length: int | None = None,
        batch_size: int = BATCH_SIZE,
        context_length: int | None = None,
        cross_learning: bool = False,
        limit_prediction_length: bool = False,
        **options: Any,
    ) -> list[Floats]:
        """Forecast all quantiles that the model knows.

        Args:
            inputs: One of
                - an array [tasks, targets, history];
                - a list of arrays [history] or [targets, history], each of a length of its own;
                - a list of dictionaries, all of one kind: `target`, an array as above; `past_covariates`,
                  names to arrays [history]; `future_covariates`, some of those names to [prediction_length].
                NaN is missing. What stands in one element is forecast together. A covariate that is no
                number is a category, as booleans are.
            prediction_length: Steps ahead; the model's longest if None. More are forecast piece by piece.
            batch_size: Rows, targets and covariates alike, that are forecast at a time.
            context_length: The most steps of a series that are used; the model's longest if None.
            cross_learning: Whether all elements of a batch are forecast together.
            limit_prediction_length: Whether a longer horizon than the model's is an error.
            options: `max_output_patches`: the most patches of one pass, before a horizon is unrolled;
                `unrolled_quantiles`: the levels it is unrolled from; `after_batch`: called after each batch.

        Returns:
            One array for each element: float32 [targets, quantiles, prediction_length].

        Raises:
            UsageError: An argument or an input cannot be used.
        """
        return predict(
            self._model,
            inputs,
            prediction_length,
            batch_size,
            context_length,
            cross_learning,
            limit_prediction_length,
            **options,
        )

    def predict_quantiles(
        self,
        inputs: Any,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] = LEVELS,
        **options: Any,
    ) -> tuple[list[Floats], list[Floats]]:
        """Forecast some quantiles, and the median, which upstream calls the mean.

        Args:
            inputs: As for `predict`.
            prediction_length: As for `predict`.
            quantile_levels: In [0, 1]. The model's own are given as they are, others are interpolated between
                them, those beyond are its outermost.
            options: Those of `predict`.

        Returns:
            For each element float32 [targets, prediction_length, levels], and [targets, prediction_length].

        Raises:
            UsageError: An argument or an input cannot be used.
        """
        return predict_quantiles(self._model, inputs, prediction_length, quantile_levels, **options)

    def predict_df(
        self,
        df: Any,
        future_df: Any = None,
        id_column: str = "item_id",
        timestamp_column: str = "timestamp",
        target: str | Sequence[str] = "target",
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] = LEVELS,
        batch_size: int = BATCH_SIZE,
        context_length: int | None = None,
        cross_learning: bool = False,
        validate_inputs: bool = True,
        freq: str | None = None,
        **options: Any,
    ) -> Any:
        """Forecast a long data frame of pandas, Polars, PyArrow or another library that narwhals knows.

        Args:
            df: A row for each series and time stamp. What is neither id nor time stamp nor target is a
                covariate: a number or, if it is anything else, a category.
            future_df: A row for each series and step ahead, with those covariates that are known.
            id_column: Says which series a row is of.
            timestamp_column: Time stamps without a time zone, or strings of them, at regular distances.
            target: The column, or the columns, to forecast.
            prediction_length: As for `predict`.
            quantile_levels: As for `predict_quantiles`.
            batch_size: As for `predict`.
            context_length: As for `predict`.
            cross_learning: As for `predict`.
            validate_inputs: Whether the frames are checked and sorted; else their rows must be by series and
                time, those of `future_df` for the same series in the same order.
            freq: How far apart time stamps are, like "15min", "h", "D", "B", "W-SUN", "MS" or "QE-DEC"; found
                in `df` if None.
            options: Those of `predict`.

        Returns:
            A frame as `df` is one, with a row for each series, target and step: the id, the time stamp,
            `target_name`, `predictions` (the median), and a column for each level.

        Raises:
            UsageError: A frame or an argument cannot be used.
        """
        from chronos_export.forecaster.frames import predict_df  # narwhals is for frames alone

        return predict_df(
            self._model,
            df,
            future_df,
            id_column,
            timestamp_column,
            target,
            prediction_length,
            quantile_levels,
            batch_size=batch_size,
            context_length=context_length,
            cross_learning=cross_learning,
            validate_inputs=validate_inputs,
            freq=freq,
            **options,
        )

    def embed(
        self, inputs: Any, batch_size: int = BATCH_SIZE, context_length: int | None = None
    ) -> tuple[list[Floats], list[tuple[Floats, Floats]]]:
        """Return what the encoder makes of series, from an artifact exported with `--embeddings`.

        Args:
            inputs: As for `predict`.
            batch_size: As for `predict`; series of a batch are padded to the longest of it.
            context_length: As for `predict`.

        Returns:
            For each element float32 [targets, patches + 2, d_model]: its patches, the REG token, an output
            token; and float32 [targets, 1] twice, the mean and the standard deviation of each row. A patch
            of which no value is known has an embedding without meaning, which is not upstream's.

        Raises:
            UsageError: An argument or an input cannot be used, or the artifact does not embed; that error is
                an AttributeError too.
        """
        return embed(self._model, inputs, batch_size, context_length)

    def __repr__(self) -> str:
        return f"<Forecaster of {self._name}>"

    def __reduce__(self) -> tuple[type[Forecaster], tuple[Path, str, str, int, str]]:
        return type(self), self._again
