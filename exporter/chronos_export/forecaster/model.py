"""An opened artifact as forecasting sees it: rows in, quantiles out, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from chronos_export.artifact.reading import Artifact, with_artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.graph_contract import EMBEDDINGS
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.choice import CPU, Choice, choose
from chronos_export.runtime.cpu_runtimes import ONNXRUNTIME
from chronos_export.runtime.embedding import Embedder
from chronos_export.runtime.opening import files_read, open_session
from chronos_export.runtime.session import Floats, Session


class Rows(Protocol):
    """What answers rows: `BatchedSession`, or what is called alike."""

    @property
    def patch(self) -> int:
        """Return the time steps of one token."""
        ...

    @property
    def context_length(self) -> int:
        """Return the longest context, time steps."""
        ...

    def forecast(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future_covariates: NDArray[Any] | None,
    ) -> Floats:
        """Forecast rows; see `BatchedSession.forecast`."""
        ...


@dataclass(frozen=True)
class Model:
    """What forecasting needs of a model.

    Attributes:
        rows: Answers any number of rows.
        chronos_config: The checkpoint's entry of that name.
        embedder: Embeds rows; None if there is no graph for that.
        with_embeddings: The command that exports one.
    """

    rows: Rows
    chronos_config: dict[str, Any]
    embedder: Embedder | None = None
    with_embeddings: str = "chronos-export --embeddings"

    @classmethod
    def over(cls, session: Session, limits: Limits, chronos_config: dict[str, Any]) -> Model:
        """Return the model that a session computes.

        Args:
            session: Answers the calls.
            limits: How large one call may be.
            chronos_config: The checkpoint's entry of that name.
        """
        rows = BatchedSession(
            session,
            limits,
            patch=chronos_config["output_patch_size"],
            context_length=chronos_config["context_length"],
            quantiles=len(chronos_config["quantiles"]),
        )
        return cls(rows, chronos_config)

    @property
    def quantiles(self) -> list[float]:
        """Return the levels that it forecasts."""
        return list(self.chronos_config["quantiles"])

    @property
    def context_length(self) -> int:
        """Return its longest context, time steps."""
        return self.rows.context_length

    @property
    def patch(self) -> int:
        """Return the time steps of one output token."""
        return self.rows.patch

    @property
    def max_output_patches(self) -> int:
        """Return the most output tokens of one forward pass."""
        return int(self.chronos_config["max_output_patches"])

    @property
    def prediction_length(self) -> int:
        """Return the longest horizon of one forward pass, time steps."""
        return self.max_output_patches * self.patch


@dataclass(frozen=True)
class OpenModel:
    """A model and what it was opened from.

    Attributes:
        model: Forecasts rows.
        path: The artifact, absolute.
        digest: The artifact's.
        name: The artifact and what computes, for people.
    """

    model: Model
    path: Path
    digest: str
    name: str


def open_model(
    path: Path | str, runtime: str, device: str, threads: int, digest: str | None = None
) -> OpenModel:
    """Verify an artifact and open it; arguments and errors are those of `Forecaster`."""
    artifact, opened = with_artifact(
        path,
        lambda found: (found, open_session(found, runtime, device, threads)),
        later=lambda found: files_read(choose(found, runtime, device)),
        digest=digest,
    )
    model = Model.over(opened.session, opened.limits, artifact.manifest.config.chronos_config.as_entry())
    model = replace(model, **_embedding(artifact, opened.choice, threads, opened.limits))
    return OpenModel(model, artifact.folder, artifact.digest, f"{artifact.path} with {opened.choice}")


def _embedding(artifact: Artifact, choice: Choice, threads: int, limits: Limits) -> dict[str, Any]:
    if EMBEDDINGS not in artifact.manifest.files:
        return {"with_embeddings": rebuild_command(artifact.path, artifact.manifest) + " --embeddings"}
    device = choice.device if choice.runtime == ONNXRUNTIME else CPU
    return {"embedder": Embedder(artifact, device, threads, limits.tokens)}
