"""`chronos-export export`: what the bare command does too."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from chronos_export.cli.console import Console
from chronos_export.cli.lines import build_line, proof_lines, proof_result
from chronos_export.cli.options import Command, Option, Place, as_lines, talking
from chronos_export.engine.choice import RUNTIMES, EngineOptions
from chronos_export.engine.requirements import ATTENTIONS, RTX_DEFAULT
from chronos_export.graph.dtypes import ALIASES, DTYPES
from chronos_export.progress import stage

of_model = partial(click.option, cls=Option, section="Model")
of_engine = partial(click.option, cls=Option, section="Engine (optional, for NVIDIA GPUs)")
of_output = partial(click.option, cls=Option, section="Output")


@click.command("export", cls=Command)
@of_model(
    "--model",
    "source",
    default="amazon/chronos-2",
    show_default=True,
    metavar="SRC",
    help="demo, a folder, or a hub id.",
)
@of_model("--revision", metavar="REV", help="A commit, tag or branch of a hub id.")
@of_model(
    "--dtype",
    type=click.Choice([*DTYPES, *ALIASES]),
    metavar=f"[{'|'.join(DTYPES)}]",
    default="float32",
    show_default=True,
    help="What products are computed in; or fp32, fp16, bf16 for short.",
)
@of_model("--embeddings", is_flag=True, help="Embed too: a graph more, of the same weights.")
@of_engine(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="auto",
    show_default=True,
    help="The engine to build: none for onnxruntime, with auto one for the GPU of this machine.",
)
@of_engine(
    "--batch",
    metavar="ROWS[,ROWS]",
    help="Its profiles: the most rows of a call, as 100 or 100,2000. A larger batch is cut into calls. "
    "Without an engine there are none.",
)
@of_engine(
    "--context",
    "longest_context",
    type=int,
    metavar="STEPS",
    help="Longest context that it takes; by default the model's.",
)
@of_engine(
    "--horizon",
    "longest_horizon",
    type=int,
    metavar="STEPS",
    help="Longest horizon that it takes; by default the model's.",
)
@of_engine(
    "--memory",
    metavar="SIZE",
    help="Memory of the GPU that a call may take, as 8GiB: a profile of many rows takes shorter contexts. By "
    "default most of the GPU here, or 8GiB ahead of time.",
)
@of_engine(
    "--attention",
    type=click.Choice(ATTENTIONS),
    help="Group attention: our plugin, by default, or standard operators. With none, there is an engine for "
    "univariate rows only, which needs no plugin.",
)
@of_engine(
    "--compute-capability",
    "capabilities",
    metavar="CC[,CC]",
    help=f"GPUs that tensorrt-rtx builds for, as 8.9 or 8.6,8.9; by default {','.join(RTX_DEFAULT)}.",
)
@of_engine(
    "--timing-cache",
    type=Place(dir_okay=False),
    metavar="FILE",
    help="Read and extended by tensorrt, so that later builds are quicker.",
)
@of_output(
    "-o",
    "--output",
    type=Place(),
    metavar="DIR",
    help="The artifact's folder; by default chronos-2, or chronos-2-b100 with --batch 100.",
)
@of_output("--force", is_flag=True, help="Replace an artifact that is there.")
@of_output("--keep-failed", is_flag=True, help="Keep what failed its validation as DIR.failed.")
@of_output(
    "--accept-failed-validation",
    is_flag=True,
    help="Publish what failed its validation all the same; it says so, and every load warns.",
)
@of_output("--dry-run", is_flag=True, help="Say what would be done, or why it would be refused.")
@talking
def command(
    console: Console,
    source: str,
    revision: str | None,
    dtype: str,
    embeddings: bool,
    runtime: str,
    batch: str | None,
    longest_context: int | None,
    longest_horizon: int | None,
    memory: str | None,
    attention: str | None,
    capabilities: str | None,
    timing_cache: Path | None,
    output: Path | None,
    force: bool,
    keep_failed: bool,
    accept_failed_validation: bool,
    dry_run: bool,
) -> None:
    """Export Chronos-2 to ONNX, prove it equal to upstream and publish it."""
    from chronos_export.exporting.request import Request, parse_batch, parse_memory, prepare, preview

    engine = EngineOptions(
        runtime=runtime,
        context=longest_context,
        horizon=longest_horizon,
        memory=None if memory is None else parse_memory(memory),
        attention=attention,
        compute_capabilities=() if capabilities is None else tuple(capabilities.split(",")),
        timing_cache=timing_cache,
    )
    rows = () if batch is None else parse_batch(batch)
    plan = prepare(Request(source, rows, output, revision, dtype, engine, force, embeddings), console.report)
    if dry_run:
        content = preview(plan)
        console.result({"dry_run": True, **content}, as_lines(content))
        return

    console.note(plan.why)
    with stage("total", console.report), console.libraries():
        with stage("start", console.report):
            from chronos_export.exporting.export import export
        artifact = export(
            source,
            rows,
            plan.output,
            revision=plan.request.revision,
            dtype=dtype,
            engine=engine,
            embeddings=embeddings,
            overwrite=force,
            keep_failed=keep_failed,
            accept_failed_validation=accept_failed_validation,
            report=console.report,
        )
    manifest = artifact.manifest
    for line in (*map(build_line, manifest.engines), *proof_lines(manifest.validation)):
        console.note(line)
    console.result(
        {
            "artifact": str(artifact.path),
            "digest": artifact.digest,
            "checkpoint": asdict(manifest.checkpoint),
            "engines": manifest.engines,
            "validation": manifest.validation,
        },
        f"{proof_result(artifact.path, manifest.validation)}\ndigest {artifact.digest}",
    )
