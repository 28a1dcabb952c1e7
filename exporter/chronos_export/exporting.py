"""The whole path: checkpoint -> rewritten model -> ONNX -> engines -> verdict -> artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from chronos_export.artifact import Artifact, open_artifact
from chronos_export.cases import Case, all_cases
from chronos_export.checkpoint import Checkpoint, load_checkpoint, load_reference
from chronos_export.engine_info import EngineInfo
from chronos_export.engine_proof import EngineProof, prove_engine
from chronos_export.errors import AccuracyError, IntegrityError
from chronos_export.manifest import Manifest
from chronos_export.onnx_export import export_onnx
from chronos_export.openvino_session import OpenVinoSession, has_openvino
from chronos_export.plan import Limits
from chronos_export.precision import Precision, precision_of
from chronos_export.progress import Report, ignore, stage
from chronos_export.publish import publish
from chronos_export.quiet import quiet
from chronos_export.request import default_output
from chronos_export.rewrite import rewrite, univariate
from chronos_export.session import OrtSession, Session
from chronos_export.targets import EngineOptions, build_engines, require
from chronos_export.tuning import tune
from chronos_export.validate import Verdict, validate

VALIDATION = "validation"
NO_WISHES = EngineOptions()
POLYGRAPHY = (
    "polygraphy run model.onnx --onnxrt --load-inputs validation/inputs.json "
    "--load-outputs validation/golden.json --compare snr --snr-threshold 60"
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
    report: Report = ignore,
) -> Artifact:
    """Export a checkpoint, prove it and publish it.

    Args:
        source: `demo`, a folder or a hub id.
        batch: Row counts of the engine profiles.
        output: The artifact's folder; `default_output(source, batch)` if None.
        revision: A commit, tag or branch of a hub id.
        dtype: What the products are computed in: float32, tf32, float16 or bfloat16.
        engine: Which engines to build, and for what.
        overwrite: Replace an artifact that is there.
        keep_failed: Keep what failed its validation, as `<output>.failed`.
        report: Told of every stage.

    Returns:
        The published artifact.

    Raises:
        AccuracyError: The export does not forecast what upstream does; nothing is published.
        ChronosExportError: See `checkpoint.load_checkpoint`, `onnx_export.export_onnx` and `publish.publish`.
    """
    precision = precision_of(dtype)
    require(engine)
    if source != "demo" and Path(source).is_dir():
        source = str(Path(source).resolve())  # so that `validate` finds it from any folder
    output = Path(output) if output is not None else default_output(source, tuple(batch))
    with publish(output, overwrite=overwrite, keep_failed=keep_failed) as staging:
        with stage("load", report):
            checkpoint = load_checkpoint(source, revision, report)
        with stage("export", report):
            write_graphs(checkpoint, staging.folder, precision)
        engines = build_engines(staging.folder, batch, engine, dtype == "tf32", report)
        (staging.folder / VALIDATION).mkdir()
        proof = prove(checkpoint, staging.folder, engines, precision, report, staging.folder / VALIDATION)
        refuse_failures(proof.verdict)
        with stage("tune", report):
            chronos = checkpoint.config["chronos_config"]
            limits = tune(OrtSession(staging.folder), chronos["input_patch_size"], chronos["context_length"])
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


@dataclass(frozen=True)
class Proof:
    """The verdict over everything that ran, and how far each engine was proven."""

    verdict: Verdict
    engines: tuple[EngineProof, ...]

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    def summary(self) -> dict[str, Any]:
        """As `Verdict.summary`, and a line for each engine."""
        return {**self.verdict.summary(), "engines": [engine.line for engine in self.engines]}


def prove(
    checkpoint: Checkpoint,
    graphs: Path,
    engines: Sequence[EngineInfo],
    precision: Precision,
    report: Report,
    folder: Path | None = None,
) -> Proof:
    """Validate the graphs in `graphs` and their engines against upstream, loaded once more.

    Args:
        checkpoint: Where upstream is loaded from.
        graphs: The folder of the graphs.
        engines: Built from them.
        precision: What they compute in.
        report: Told of progress.
        folder: Where inputs and upstream's answers go, or None.
    """
    reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
    # onnxruntime computes a tf32 export in float32, and is held to that.
    held_to = precision if precision.is_narrow else precision_of("float32")
    candidates: dict[str, Session] = {"onnxruntime": OrtSession(graphs)}
    if has_openvino() and not precision.is_narrow:
        candidates["openvino"] = OpenVinoSession(graphs)
    verdict = validate(reference, candidates, cases, held_to, report, folder)
    proven = [prove_engine(reference, info, cases, precision, report) for info in engines]
    results = (*verdict.results, *(result for _, more in proven for result in more))
    return Proof(Verdict(results), tuple(how_far for how_far, _ in proven))


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
        allowed="10 times upstream's own float32 error on each row",
        fix="report it with the folder that --keep-failed leaves",
    )


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
                fix=f"chronos-export --model {made_from['source']} -o {path} --force",
            )
    engines = [EngineInfo.from_entry(entry, artifact.path) for entry in artifact.manifest.engines]
    proof = prove(checkpoint, artifact.path, engines, precision_of(artifact.manifest.dtype), report)
    refuse_failures(proof.verdict)
    return proof


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
        validation={**proof.summary(), "again": ["chronos-export validate .", POLYGRAPHY]},
    )
