"""The whole path: checkpoint -> rewritten model -> ONNX -> engines -> verdict -> artifact."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.hashing import hash_file
from chronos_export.artifact.manifest import CallSize, MadeFrom, Manifest
from chronos_export.artifact.model_config import ModelConfig
from chronos_export.artifact.naming import find_source, recorded_source
from chronos_export.artifact.publishing import publish
from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint
from chronos_export.checkpoint.quiet import quiet
from chronos_export.engine.building import build_engines
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import IntegrityError, UsageError
from chronos_export.exporting.request import NO_WISHES, Plan, Request, check
from chronos_export.graph.precision import Precision, precision_of
from chronos_export.graph.writing import export_onnx
from chronos_export.graph_contract import EMBEDDINGS
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.progress import Report, ignore, stage
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.cpu_runtimes import CPU_RUNTIMES, ONNXRUNTIME
from chronos_export.runtime.opening import cpu_sessions
from chronos_export.runtime.session import Folder, Session
from chronos_export.runtime.tuning import tune
from chronos_export.untrusted.records import read_record
from chronos_export.validation.proof import Proof, prove

VALIDATION = "validation"
POLYGRAPHY = (
    "polygraphy run model.onnx --onnxrt --load-inputs validation/inputs.json "
    "--load-outputs validation/golden.json --compare snr --snr-threshold {}"
)


def export(
    source: str = "amazon/chronos-2",
    batch: Sequence[int] = (),
    output: Path | str | None = None,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    engine: EngineOptions = NO_WISHES,
    embeddings: bool = False,
    overwrite: bool = False,
    keep_failed: bool = False,
    accept_failed_validation: bool = False,
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
        embeddings: Whether the artifact embeds too, in float32 or tf32.
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
        UsageError, MachineError: See `request.check`, which comes before all else.
        ChronosExportError: See `load_checkpoint`, `export_onnx` and `publish`.
    """
    plan = check(Request(source, batch, output, revision, dtype, engine, overwrite, embeddings))
    precision, source = precision_of(plan.request.dtype), plan.request.source
    with publish(plan.target, overwrite=overwrite, keep_failed=keep_failed, report=report) as staging:
        with stage("load", report):
            checkpoint = load_checkpoint(source, revision, report)
        with stage("export", report):
            write_graphs(checkpoint, staging.folder, precision, embeddings)
        engines = build_engines(staging.folder, plan.profiles, engine, precision, report)
        (staging.folder / VALIDATION).mkdir()
        with stage("open", report):
            sessions = cpu_sessions(Folder(staging.folder), precision.name)
            digests = {info: hash_file(info.path).sha256 for info in engines}
        answers = staging.folder / VALIDATION
        proof = prove(checkpoint, sessions, digests, precision, report, answers, accept_failed_validation)
        if embeddings:
            proof = proof.with_embeddings(checkpoint, Folder(staging.folder), sessions[ONNXRUNTIME], report)
        with stage("tune", report):
            limits = _tuned(sessions, checkpoint)
        entries = [info.as_entry(staging.folder) for info in engines]
        staging.manifest = _manifest(checkpoint, plan, entries, proof, limits)
    with stage("verify", report):
        return open_artifact(plan.output)


def write_graphs(
    checkpoint: Checkpoint, folder: Path, precision: Precision, embeddings: bool = False
) -> None:
    """Rewrite the checkpoint's model and write its graphs and their weights to `folder`."""
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
        export_onnx(segmented, univariate(segmented), folder, metadata, precision, embeddings)


def validate_artifact(path: Path | str, report: Report = ignore, *, source: str | None = None) -> Proof:
    """The proof again, on this machine: an artifact's graphs and engines against its checkpoint.

    Args:
        path: The artifact's folder.
        report: Told of every stage.
        source: Where its checkpoint is, if that is a folder that lies neither beside the artifact nor here.

    Raises:
        UsageError: Its checkpoint is not found.
        IntegrityError: The artifact is damaged, or its checkpoint is no longer the one it was made from.
        AccuracyError: The artifact does not forecast what upstream does.
    """
    with stage("load", report):
        artifact = open_artifact(path)
        checkpoint = load_source(artifact, source, report)
    engines = {}
    for entry in artifact.manifest.engines:
        artifact.file(entry["path"])  # only what the manifest vouches for
        digest = artifact.manifest.files[entry["path"]].sha256
        engines[EngineInfo.from_entry(entry, artifact.path)] = digest
    precision = precision_of(artifact.manifest.dtype)
    with stage("open", report):
        sessions = cpu_sessions(artifact, precision.name)
    proof = prove(checkpoint, sessions, engines, precision, report)
    if EMBEDDINGS in artifact.manifest.files and ONNXRUNTIME in sessions:
        proof = proof.with_embeddings(checkpoint, artifact, sessions[ONNXRUNTIME], report)
    return proof


def load_source(artifact: Artifact, source: str | None = None, report: Report = ignore) -> Checkpoint:
    """Load the checkpoint that an artifact was made from.

    Args:
        artifact: Verified.
        source: Where it is; None looks where it was, and for a folder beside the artifact and here.
        report: Told of a download.

    Raises:
        UsageError: It is not found.
        IntegrityError: It is another one.
    """
    made_from = artifact.manifest.checkpoint
    found = source or find_source(made_from.source, artifact.path)
    if found is None:
        raise UsageError(
            f"{artifact.path} was made from a folder named {Path(made_from.source).name},"
            " which is neither beside it nor here",
            allowed=f"the folder of the model with digest {made_from.digest}",
            fix=f"{shlex.join(['chronos-export', 'validate', str(artifact.path)])} --model FOLDER",
        )
    checkpoint = load_checkpoint(found, None if source else made_from.revision, report)
    if checkpoint.digest != made_from.digest:
        raise IntegrityError(
            f"{found} has digest {checkpoint.digest}, the artifact was made from {made_from.digest}",
            fix=rebuild_command(artifact.path, artifact.manifest),
        )
    return checkpoint


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
        checkpoint=MadeFrom(
            source=recorded_source(checkpoint.source),
            revision=checkpoint.revision,
            digest=checkpoint.digest,
            licence=checkpoint.licence,
        ),
        config=read_record(ModelConfig, checkpoint.config),
        dtype=plan.request.dtype,
        profiles=list(plan.profiles),
        engines=engines,
        call_size=CallSize(limits.tokens, limits.padding, limits.least, limits.shared),
        validation={**proof.summary(), "again": _commands(proof, plan.request.dtype)},
    )


def _commands(proof: Proof, dtype: str) -> list[str]:
    """What proves an artifact again: this package, and Polygraphy where onnxruntime has the products."""
    with_polygraphy = (
        [POLYGRAPHY.format(proof.verdict.decibels)] if ONNXRUNTIME in CPU_RUNTIMES[dtype] else []
    )
    return ["chronos-export validate .", *with_polygraphy]
