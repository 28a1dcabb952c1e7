"""The proof of the engines: those that this machine can run, on the cases that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from chronos.chronos2 import Chronos2Model

from chronos_export.cases import Case
from chronos_export.compiled import plugin_library
from chronos_export.engine_info import EngineInfo
from chronos_export.engine_load import check_here, check_version, load_engine
from chronos_export.errors import MachineError
from chronos_export.manifest import hash_file
from chronos_export.precision import Precision
from chronos_export.progress import Report
from chronos_export.session import Session
from chronos_export.tensorrt_session import TensorRtSession
from chronos_export.trt_libraries import import_tensorrt, require_installed
from chronos_export.validate import CaseResult, validate

VALIDATED, FAILED, NOT_RUN = "validated", "failed", "not run"


@dataclass(frozen=True)
class EngineProof:
    """How far an engine was proven.

    Attributes:
        name: File name of the plan.
        cases: How many cases it was asked.
        left_out: Names of the cases with more rows, context or horizon than it was built for.
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
    reference: Chronos2Model, info: EngineInfo, cases: Sequence[Case], precision: Precision, report: Report
) -> tuple[EngineProof, tuple[CaseResult, ...]]:
    """Hold an engine against upstream, if this machine can run it.

    Args:
        reference: The unmodified upstream model.
        info: The engine, whose plan was just built or just verified.
        cases: All cases.
        precision: What the engine computes in. Unlike onnxruntime it may use tf32.
        report: Told of progress.

    Returns:
        How far it was proven, and a result for each case it was asked.
    """
    if reason := why_not_here(info):
        return EngineProof(info.path.name, not_run=reason), ()
    fitting, left_out = split_cases(cases, info)
    session = _session(info)
    verdict = validate(reference, {info.target: session}, fitting, precision, report)
    beyond = tuple(case.name for case in left_out)
    return EngineProof(info.path.name, len(fitting), beyond, failed=not verdict.passed), verdict.results


def why_not_here(info: EngineInfo) -> str:
    """Why this machine cannot run an engine, in one line, or ""."""
    try:
        require_installed(info.target)
        check_here(info, plugin_library(), "")
        check_version(info, import_tensorrt(info.target), "")
    except MachineError as error:
        return error.summary.replace(f"{info.path} ", "it ")
    return "" if torch.cuda.is_available() else "PyTorch sees no GPU here"


def split_cases(cases: Sequence[Case], info: EngineInfo) -> tuple[list[Case], list[Case]]:
    """The cases an engine can be asked in one call, and the others."""

    def fits(case: Case) -> bool:
        rows, context = case.context.shape
        horizon = case.future_covariates.shape[1]
        return bool(rows <= max(info.profiles) and context <= info.context and horizon <= info.horizon)

    return [case for case in cases if fits(case)], [case for case in cases if not fits(case)]


def _session(info: EngineInfo) -> Session:
    digest = hash_file(info.path).sha256
    return TensorRtSession(load_engine(info, digest, plugin_library(), ""), info)
