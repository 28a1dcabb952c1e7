"""The proof of an export: its graphs on every CPU runtime and its engines, all against upstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chronos import Chronos2Pipeline

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.checkpoint.loading import Checkpoint, load_reference
from chronos_export.errors import AccuracyError
from chronos_export.graph.precision import Precision, precision_of
from chronos_export.pipeline.model import as_pipeline
from chronos_export.progress import Report, stage
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.session import Session
from chronos_export.validation.cases import Case, all_cases
from chronos_export.validation.comparison import Verdict, validate
from chronos_export.validation.engines import EngineProof, prove_engine
from chronos_export.validation.quantile_loss import LossChange, losses, require_small


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        verdict: Over everything that ran.
        engines: How far each engine was proven.
        loss: What rounding costs each runtime on real series; () in float32.
    """

    verdict: Verdict
    engines: tuple[EngineProof, ...]
    loss: tuple[LossChange, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    def summary(self) -> dict[str, Any]:
        """As `Verdict.summary`, a line for each engine, and the quantile losses."""
        return {
            **self.verdict.summary(),
            "engines": [engine.line for engine in self.engines],
            "quantile_loss": [found.summary() for found in self.loss],
        }


def prove(
    checkpoint: Checkpoint,
    sessions: Mapping[str, Session],
    engines: Sequence[EngineInfo],
    precision: Precision,
    report: Report,
    folder: Path | None = None,
) -> Proof:
    """Hold the graphs and their engines against upstream, loaded once more.

    Args:
        checkpoint: Where upstream is loaded from.
        sessions: The graphs on each CPU runtime, by its name.
        engines: Built from the graphs.
        precision: What they compute in.
        report: Told of progress.
        folder: Where inputs and upstream's answers go, or None.

    Raises:
        AccuracyError: A forecast is not upstream's, or rounding costs too much on real series.
        MachineError: Rounding cannot be judged: the real series are not installed.
    """
    with stage("reference", report):
        reference, cases = load_reference(checkpoint), cases_of(checkpoint.config)
    # A CPU computes a tf32 export in float32, and is held to that.
    held_to = precision_of("float32") if precision.is_exact else precision
    verdict = validate(reference.model, sessions, cases, held_to, report, folder)
    proven = [prove_engine(reference.model, info, cases, precision, report) for info in engines]
    verdict = Verdict((*verdict.results, *(result for _, more in proven for result in more)))
    refuse_failures(verdict)
    changes = () if precision.is_exact else _loss_changes(reference, sessions, report)
    require_small(changes, precision.name)
    return Proof(verdict, tuple(how_far for how_far, _ in proven), changes)


def _loss_changes(
    reference: Chronos2Pipeline, sessions: Mapping[str, Session], report: Report
) -> tuple[LossChange, ...]:
    with stage("loss", report):
        upstream = losses(reference)
        settings = reference.model.config.chronos_config
        return tuple(
            LossChange(name, upstream, losses(as_pipeline(session, settings, Limits())))
            for name, session in sessions.items()
        )


def cases_of(config: dict[str, Any]) -> list[Case]:
    """The cases, sized to a checkpoint's configuration."""
    limits = config["chronos_config"]
    return list(all_cases(limits["input_patch_size"], limits["context_length"], limits["max_output_patches"]))


def refuse_failures(verdict: Verdict) -> None:
    """Raise an AccuracyError that names what failed, if anything did."""
    if verdict.passed:
        return
    lines = [f"{result.runner} on {result.case}: {result.problem}" for result in verdict.failures]
    raise AccuracyError(
        f"{len(lines)} of {len(verdict.results)} results are not upstream's:\n    " + "\n    ".join(lines),
        allowed="ten times what upstream itself loses in that type",
        fix="report it with the folder that --keep-failed leaves",
    )
