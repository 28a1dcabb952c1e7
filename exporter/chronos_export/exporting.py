"""The whole path: checkpoint -> rewritten model -> ONNX -> engines -> verdict -> artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from chronos_export.artifact import Artifact, open_artifact
from chronos_export.checkpoint import Checkpoint, load_checkpoint
from chronos_export.engine_info import EngineInfo
from chronos_export.errors import IntegrityError
from chronos_export.manifest import Manifest
from chronos_export.onnx_export import export_onnx
from chronos_export.plan import Limits
from chronos_export.precision import Precision, precision_of
from chronos_export.progress import Report, ignore, stage
from chronos_export.proof import Proof, prove
from chronos_export.publish import publish
from chronos_export.quantile_loss import require_real_series
from chronos_export.quiet import quiet
from chronos_export.rebuild import rebuild_command
from chronos_export.request import default_output
from chronos_export.rewrite import rewrite, univariate
from chronos_export.runtimes import ONNXRUNTIME, RUNTIMES, cpu_sessions, require_runtime
from chronos_export.session import Session
from chronos_export.targets import EngineOptions, build_engines, choose, require
from chronos_export.tuning import tune

VALIDATION = "validation"
NO_WISHES = EngineOptions()
POLYGRAPHY = (
    "polygraphy run model.onnx --onnxrt --load-inputs validation/inputs.json "
    "--load-outputs validation/golden.json --compare snr --snr-threshold {}"
)


def export(
    source: str = "amazon/chronos-2",
    batch: Sequence[int] = (100,),
    output: Path | str | None = None,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    engine: EngineOptions = NO_WISHES,
    overwrite: bool = False,
    keep_failed: bool = False,
    accept_failed_validation: bool = False,
    report: Report = ignore,
) -> Artifact:
    """Export a checkpoint, prove it and publish it.

    Args:
        source: `demo`, a folder or a hub id.
        batch: Row counts of the engine profiles.
        output: The artifact's folder; `default_output(source, batch)` if None.
        revision: A commit, tag or branch of a hub id.
        dtype: What the products are computed in: float32, tf32, float16, bfloat16 or int8.
        engine: Which engines to build, and for what.
        overwrite: Replace an artifact that is there.
        keep_failed: Keep what failed its validation, as `<output>.failed`.
        accept_failed_validation: Publish what failed its validation with that verdict: its manifest and its
            README say so, and every `load` warns.
        report: Told of every stage.

    Returns:
        The published artifact.

    Raises:
        AccuracyError: The export does not forecast what upstream does; nothing is published, unless that is
            accepted.
        MachineError: An engine, a runtime of the dtype or the data to judge it by cannot be had here.
        ChronosExportError: See `checkpoint.load_checkpoint`, `onnx_export.export_onnx` and `publish.publish`.
    """
    precision = precision_of(dtype)
    require(engine, precision)
    require_runtime(precision, has_engine=choose(engine, precision)[0] is not None)
    if not precision.is_exact:
        require_real_series()
    if source != "demo" and Path(source).is_dir():
        source = str(Path(source).resolve())  # so that `validate` finds it from any folder
    output = Path(output) if output is not None else default_output(source, tuple(batch))
    with publish(output, overwrite=overwrite, keep_failed=keep_failed) as staging:
        with stage("load", report):
            checkpoint = load_checkpoint(source, revision, report)
        with stage("export", report):
            write_graphs(checkpoint, staging.folder, precision)
        engines = build_engines(staging.folder, batch, engine, precision, report)
        (staging.folder / VALIDATION).mkdir()
        sessions = cpu_sessions(staging.folder, precision)
        answers = staging.folder / VALIDATION
        proof = prove(checkpoint, sessions, engines, precision, report, answers, accept_failed_validation)
        with stage("tune", report):
            limits = _tuned(sessions, checkpoint)
        entries = [info.as_entry(staging.folder) for info in engines]
        staging.manifest = _manifest(checkpoint, batch, dtype, entries, proof, limits)
    return open_artifact(output)


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
    return prove(checkpoint, cpu_sessions(artifact.path, precision), engines, precision, report)


def _tuned(sessions: dict[str, Session], checkpoint: Checkpoint) -> Limits:
    """The call size for the runtime that `load` takes by itself."""
    if not sessions:
        return Limits()
    chronos = checkpoint.config["chronos_config"]
    return tune(next(iter(sessions.values())), chronos["input_patch_size"], chronos["context_length"])


def _manifest(
    checkpoint: Checkpoint,
    batch: Sequence[int],
    dtype: str,
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
        dtype=dtype,
        profiles=list(batch),
        engines=engines,
        call_size=asdict(limits),
        validation={**proof.summary(), "again": _commands(proof, dtype)},
    )


def _commands(proof: Proof, dtype: str) -> list[str]:
    """What proves an artifact again: this package, and Polygraphy where onnxruntime has the products."""
    with_polygraphy = [POLYGRAPHY.format(proof.verdict.decibels)] if ONNXRUNTIME in RUNTIMES[dtype] else []
    return ["chronos-export validate .", *with_polygraphy]
