"""The whole path: checkpoint -> rewritten model -> ONNX -> engines -> verdict -> artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.manifest import Manifest
from chronos_export.artifact.naming import BUNDLED
from chronos_export.artifact.publishing import publish
from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint
from chronos_export.checkpoint.quiet import quiet
from chronos_export.engine.building import build_engines
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import IntegrityError
from chronos_export.exporting.request import NO_WISHES, Plan, Request, check
from chronos_export.graph.precision import Precision, precision_of
from chronos_export.graph.writing import export_onnx
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.progress import Report, ignore, stage
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.opening import cpu_sessions
from chronos_export.runtime.session import Session
from chronos_export.runtime.tuning import tune
from chronos_export.validation.proof import Proof, prove

VALIDATION = "validation"
POLYGRAPHY = (
    "polygraphy run model.onnx --onnxrt --load-inputs validation/inputs.json "
    "--load-outputs validation/golden.json --compare snr --snr-threshold 60"
)


def export(
    source: str = "amazon/chronos-2",
    batch: Sequence[int] = (),
    output: Path | str | None = None,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    engine: EngineOptions = NO_WISHES,
    overwrite: bool = False,
    keep_failed: bool = False,
    report: Report = ignore,
) -> Artifact:
    """Export a checkpoint, prove it and publish it.

    Args:
        source: `demo`, a folder or a hub id.
        batch: Row counts to build an engine for, one profile each. Any number of rows runs; without an engine
            there are no profiles.
        output: The artifact's folder; `default_output(source, batch)` if None.
        revision: A commit, tag or branch of a hub id.
        dtype: What the products are computed in: one of `graph.dtypes.DTYPES`, or an alias like "fp16".
        engine: Which engines to build, and for what.
        overwrite: Replace an artifact that is there.
        keep_failed: Keep what failed its validation, as `<output>.failed`.
        report: Told of every stage.

    Returns:
        The published artifact.

    Raises:
        AccuracyError: The export does not forecast what upstream does; nothing is published.
        UsageError, MachineError: See `request.check`, which comes before all else.
        ChronosExportError: See `load_checkpoint`, `export_onnx` and `publish`.
    """
    plan = check(Request(source, batch, output, revision, dtype, engine, overwrite))
    precision, source = precision_of(plan.request.dtype), plan.request.source
    if source != BUNDLED and Path(source).is_dir():
        source = str(Path(source).resolve())  # so that `validate` finds it from any folder
    with publish(plan.target, overwrite=overwrite, keep_failed=keep_failed, report=report) as staging:
        with stage("load", report):
            checkpoint = load_checkpoint(source, revision, report)
        with stage("export", report):
            write_graphs(checkpoint, staging.folder, precision)
        engines = build_engines(staging.folder, plan.profiles, engine, precision, report)
        (staging.folder / VALIDATION).mkdir()
        with stage("open", report):
            sessions = cpu_sessions(staging.folder, precision.name)
        proof = prove(checkpoint, sessions, engines, precision, report, staging.folder / VALIDATION)
        with stage("tune", report):
            limits = _tuned(sessions, checkpoint)
        entries = [info.as_entry(staging.folder) for info in engines]
        staging.manifest = _manifest(checkpoint, plan, entries, proof, limits)
    with stage("verify", report):
        return open_artifact(plan.output)


def write_graphs(checkpoint: Checkpoint, folder: Path, precision: Precision) -> None:
    """Rewrite the checkpoint's model and write both graphs and their weights to `folder`."""
    segmented = rewrite(checkpoint.pipeline.model)
    metadata: dict[str, Any] = {
        "chronos-export": version("chronos-export"),
        "torch": torch.__version__,
        "chronos-forecasting": version("chronos-forecasting"),
        "config": checkpoint.config,
        "digest": checkpoint.digest,
        "licence": checkpoint.licence,
        "source": Path(checkpoint.source).name if Path(checkpoint.source).exists() else checkpoint.source,
    }
    with quiet():
        export_onnx(segmented, univariate(segmented), folder, metadata, precision)


def validate_artifact(path: Path | str, report: Report = ignore) -> Proof:
    """The proof again, on this machine: an artifact's graphs and engines against its checkpoint.

    Raises:
        IntegrityError: The artifact is damaged, or its checkpoint is no longer the one it was made from.
        AccuracyError: The artifact does not forecast what upstream does.
    """
    with stage("load", report):
        artifact = open_artifact(path)
        made_from = artifact.manifest.checkpoint
        checkpoint = load_checkpoint(made_from["source"], made_from["revision"], report)
        if checkpoint.digest != made_from["digest"]:
            raise IntegrityError(
                f"{made_from['source']} has digest {checkpoint.digest}, "
                f"the artifact was made from {made_from['digest']}",
                fix=rebuild_command(artifact.path, artifact.manifest),
            )
    engines = [EngineInfo.from_entry(entry, artifact.path) for entry in artifact.manifest.engines]
    precision = precision_of(artifact.manifest.dtype)
    with stage("open", report):
        sessions = cpu_sessions(artifact.path, precision.name)
    return prove(checkpoint, sessions, engines, precision, report)


def _tuned(sessions: dict[str, Session], checkpoint: Checkpoint) -> Limits:
    """The call size for the runtime that `load` takes by itself."""
    if not sessions:
        return Limits()
    chronos = checkpoint.config["chronos_config"]
    return tune(next(iter(sessions.values())), chronos["input_patch_size"], chronos["context_length"])


def _manifest(
    checkpoint: Checkpoint,
    plan: Plan,
    engines: list[dict[str, Any]],
    proof: Proof,
    limits: Limits,
) -> Manifest:
    return Manifest(
        checkpoint={
            "source": checkpoint.source,
            "revision": checkpoint.revision,
            "digest": checkpoint.digest,
            "licence": checkpoint.licence,
        },
        config=checkpoint.config,
        dtype=plan.request.dtype,
        profiles=list(plan.profiles),
        engines=engines,
        call_size=asdict(limits),
        validation={**proof.summary(), "again": ["chronos-export validate .", POLYGRAPHY]},
    )
