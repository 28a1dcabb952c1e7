"""The proof of the engines: those that this machine can run, on the cases that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chronos.chronos2 import Chronos2Model

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.graph.precision import Precision
from chronos_export.graph_contract import GENERAL, UNIVARIATE
from chronos_export.machine.compiled import plugin_library
from chronos_export.progress import Report
from chronos_export.runtime.session import Session
from chronos_export.runtime.tensorrt_loading import load_engine, why_not_here
from chronos_export.runtime.tensorrt_session import TensorRtSession
from chronos_export.validation.cases import Case
from chronos_export.validation.comparison import CaseResult, validate

VALIDATED, FAILED, NOT_RUN = "validated", "failed", "not run"


@dataclass(frozen=True)
class EngineProof:
    """How far an engine was proven.

    Attributes:
        name: File name of the plan.
        cases: How many cases it was asked.
        left_out: Names of the cases that it was not built for: more rows, context or horizon, or groups.
        not_run: Why this machine cannot run it, or "".
        failed: Whether a forecast of it is not upstream's.
    """

    name: str
    cases: int = 0
    left_out: tuple[str, ...] = ()
    not_run: str = ""
    failed: bool = False

    @property
    def status(self) -> str:
        """How far it was proven, in a word or two."""
        if self.not_run:
            return f"built, {NOT_RUN}"
        return FAILED if self.failed else VALIDATED

    @property
    def line(self) -> str:
        """One line for a reader."""
        if self.not_run:
            return f"{self.name} was not run: {self.not_run}"
        beyond = f"; beyond its limits: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.name} was asked {self.cases} cases{beyond}"


def prove_engine(
    reference: Chronos2Model,
    info: EngineInfo,
    digest: str,
    cases: Sequence[Case],
    precision: Precision,
    report: Report,
) -> tuple[EngineProof, tuple[CaseResult, ...]]:
    """Hold an engine against upstream, if this machine can run it.

    Args:
        reference: The unmodified upstream model.
        info: The engine.
        digest: sha256 of its plan, as it was just built or as a manifest has it.
        cases: All cases.
        precision: What the engine computes in. Unlike onnxruntime it may use tf32.
        report: Told of progress.

    Returns:
        How far it was proven, and a result for each case it was asked.
    """
    if reason := why_not_here(info):
        return EngineProof(info.path.name, not_run=reason), ()
    fitting, left_out = split_cases(cases, info)
    session = _session(info, digest)
    verdict = validate(reference, {info.path.stem: session}, fitting, precision, report)
    beyond = tuple(case.name for case in left_out)
    return EngineProof(info.path.name, len(fitting), beyond, failed=not verdict.passed), verdict.results


def split_cases(cases: Sequence[Case], info: EngineInfo) -> tuple[list[Case], list[Case]]:
    """The cases an engine can be asked in one call, and the others."""

    def fits(case: Case) -> bool:
        if info.graph == UNIVARIATE and not case.is_univariate:
            return False
        admitted = any(profile.admits(*case.context.shape) for profile in info.profiles)
        return admitted and case.future_covariates.shape[1] <= info.horizon

    return [case for case in cases if fits(case)], [case for case in cases if not fits(case)]


def _session(info: EngineInfo, digest: str) -> Session:
    loaded = load_engine(info, digest, plugin_library(), "")
    return TensorRtSession(loaded) if info.graph == GENERAL else TensorRtSession(None, loaded)
