"""The proof of an export: its graphs on every CPU runtime and its engines, all against upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from chronos_export.runtime.cpu_runtimes import CPU_RUNTIMES
from chronos_export.runtime.session import Files, Session
from chronos_export.validation.cases import Case, all_cases
from chronos_export.validation.comparison import Verdict, validate
from chronos_export.validation.embeddings import EmbeddingProof, prove_embeddings
from chronos_export.validation.engines import FAILED, NOT_RUN, VALIDATED, EngineProof, prove_engine
from chronos_export.validation.quantile_loss import LossChange, losses, require_small


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        precision: What the graphs and engines compute in.
        verdict: Over everything that ran.
        ran: The CPU runtimes the graphs ran on.
        engines: How far each engine was proven.
        loss: What rounding costs each runtime on real series; () in float32.
        embeddings: Of the graph that embeds, if there is one.
    """

    precision: Precision
    verdict: Verdict
    ran: tuple[str, ...]
    engines: tuple[EngineProof, ...]
    loss: tuple[LossChange, ...] = ()
    embeddings: EmbeddingProof | None = None

    @property
    def passed(self) -> bool:
        return self.verdict.passed and all(found.is_small for found in self.loss)

    @property
    def runtimes(self) -> dict[str, str]:
        """Each runtime of the type and each engine -> how far it was proven."""
        failed = {result.runner.split("/")[0] for result in self.verdict.failures}
        failed |= {found.runner for found in self.loss if not found.is_small}
        on_cpu = dict.fromkeys(CPU_RUNTIMES[self.precision.name], NOT_RUN)
        on_cpu |= {name: FAILED if name in failed else VALIDATED for name in self.ran}
        return on_cpu | {engine.name: engine.status for engine in self.engines}

    @property
    def sentence(self) -> str:
        """What was proven, and of what; or why it was not."""
        how_far = ", ".join(f"{name} {status}" for name, status in self.runtimes.items())
        failures, results = len(self.verdict.failures), len(self.verdict.results)
        if self.passed:
            return f"{self.verdict.cases} cases forecast {self._held_to} ({how_far})"
        if not results:
            return f"was not validated: nothing that was built could be run ({how_far})"
        problems = [f"{failures} of {results} results are not upstream's"] if failures else []
        problems += [found.problem for found in self.loss if not found.is_small]
        return f"failed its validation: {' and '.join(problems)} ({how_far})"

    @property
    def _held_to(self) -> str:
        name, engine_ran = self.precision.name, any(not engine.not_run for engine in self.engines)
        is_exact = name == "float32" or (self.precision.is_exact and not engine_ran)
        return "as upstream does" if is_exact else f"within {name}'s limits"

    def summary(self) -> dict[str, Any]:
        """As `Verdict.summary`, in a sentence, by runtime, and the quantile losses."""
        lines = {engine.name: engine.line for engine in self.engines}
        return {
            "sentence": self.sentence,
            **self.verdict.summary(),
            "passed": self.passed,
            "runtimes": [
                {"runtime": name, "status": status, "detail": lines.get(name, "")}
                for name, status in self.runtimes.items()
            ],
            "quantile_loss": [found.summary() for found in self.loss],
            **({"embeddings": [self.embeddings.summary()]} if self.embeddings else {}),
        }

    def with_embeddings(
        self, checkpoint: Checkpoint, files: Files, session: Session, report: Report
    ) -> Proof:
        """Return this with the proof of the graph that embeds; see `prove_embeddings`."""
        reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
        return replace(self, embeddings=prove_embeddings(reference, files, session, cases, report))


def prove(
    checkpoint: Checkpoint,
    sessions: Mapping[str, Session],
    engines: Mapping[EngineInfo, str],
    precision: Precision,
    report: Report,
    folder: Path | None = None,
    accept_failed: bool = False,
) -> Proof:
    """Hold the graphs and their engines against upstream, loaded once more.

    Args:
        checkpoint: Where upstream is loaded from.
        sessions: The graphs on each CPU runtime, by its name.
        engines: Built from the graphs; each with the sha256 of its plan.
        precision: What they compute in.
        report: Told of progress.
        folder: Where inputs and upstream's answers go, or None.
        accept_failed: Return a proof that did not pass instead of raising.

    Raises:
        AccuracyError: A forecast is not upstream's, rounding costs too much on real series, or nothing ran.
        MachineError: Rounding cannot be judged: the real series are not installed.
    """
    with stage("reference", report):
        reference, cases = load_reference(checkpoint), cases_of(checkpoint.config)
    # A CPU computes a tf32 export in float32, and is held to that.
    held_to = precision_of("float32") if precision.is_exact else precision
    verdict = validate(reference.model, sessions, cases, held_to, report, folder)
    proven = [
        prove_engine(reference.model, info, digest, cases, precision, report)
        for info, digest in engines.items()
    ]
    verdict = Verdict((*verdict.results, *(result for _, more in proven for result in more)))
    if not accept_failed:
        refuse_failures(verdict)
    changes = () if precision.is_exact else _loss_changes(reference, sessions, report)
    if not accept_failed:
        require_small(changes, precision.name)
    return Proof(precision, verdict, tuple(sessions), tuple(how_far for how_far, _ in proven), changes)


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
    if not verdict.results:
        raise AccuracyError(
            "nothing that was built can be run on this machine, so nothing is proven",
            fix="pip install 'chronos-export[openvino]', or chronos-export --accept-failed-validation ...",
        )
    lines = [f"{result.runner} on {result.case}: {result.problem}" for result in verdict.failures]
    raise AccuracyError(
        f"{len(lines)} of {len(verdict.results)} results are not upstream's:\n    " + "\n    ".join(lines),
        allowed="ten times what upstream itself loses in that type, at the worst of eight roundings",
        fix="report it with the folder that --keep-failed leaves, or publish it with that verdict: "
        "chronos-export --accept-failed-validation ...",
    )
