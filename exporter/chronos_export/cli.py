"""The command line: arguments in, exit code out.

Nothing heavy is imported before a command needs it, so that help, completion and mistakes answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from chronos_export import interruption
from chronos_export.console import Console
from chronos_export.errors import ChronosExportError, UsageError
from chronos_export.progress import stage
from chronos_export.talking import as_lines, talking
from chronos_export.tool_commands import COMMANDS, NAME

EXIT_CODES = """\b
Exit codes:
  0    done
  1    accuracy: the export does not forecast what upstream does
  2    usage: an argument or an input cannot be used
  3    environment: a package, a device, the hub or disk space is missing
  4    build: exporting or building an engine went wrong
  5    integrity: a file is not what it claims to be
  130  interrupted
"""


@click.group(NAME, invoke_without_command=True, epilog=EXIT_CODES)
@click.version_option(package_name=NAME)
@click.option(
    "--model",
    "source",
    default="amazon/chronos-2",
    show_default=True,
    metavar="SRC",
    help="demo, a folder, or a hub id.",
)
@click.option("--batch", metavar="ROWS[,ROWS]", help="Row counts to build for: 100 or 100,2000.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The artifact's folder; by default chronos-2-b100 and the like.",
)
@click.option("--revision", help="A commit, tag or branch of a hub id.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "tf32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="What products are computed in.",
)
@click.option(
    "--target",
    type=click.Choice(["auto", "onnxruntime", "tensorrt", "tensorrt-rtx"]),
    default="auto",
    show_default=True,
    help="The engine to build; auto builds for the GPU of this machine.",
)
@click.option("--context", "longest_context", type=int, metavar="STEPS", help="Longest context of an engine.")
@click.option("--horizon", "longest_horizon", type=int, metavar="STEPS", help="Longest horizon of an engine.")
@click.option(
    "--attention",
    type=click.Choice(["plugin", "body", "native"]),
    default="plugin",
    show_default=True,
    help="Group attention of an engine: our plugin, standard operators, or TensorRT's own (from 11.1 on).",
)
@click.option(
    "--compute-capability",
    "capabilities",
    metavar="CC[,CC]",
    help="GPUs that TensorRT-RTX builds for: 8.9 or 8.6,8.9.",
)
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read and extended by TensorRT, so that later builds are quicker.",
)
@click.option("--force", is_flag=True, help="Replace an artifact that is there.")
@click.option("--keep-failed", is_flag=True, help="Keep what failed its validation as DIR.failed.")
@click.option(
    "--accept-failed-validation",
    is_flag=True,
    help="Publish what failed its validation all the same; it says so, and every load warns.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and whether it would be refused.")
@talking
@click.pass_context
def cli(
    context: click.Context,
    console: Console,
    source: str,
    batch: str | None,
    output: Path | None,
    revision: str | None,
    dtype: str,
    target: str,
    longest_context: int | None,
    longest_horizon: int | None,
    attention: str,
    capabilities: str | None,
    timing_cache: Path | None,
    force: bool,
    keep_failed: bool,
    accept_failed_validation: bool,
    dry_run: bool,
) -> None:
    """Export Chronos-2 to ONNX, prove it equal to upstream and publish it.

    \b
    chronos-export --model demo --batch 100
    chronos-export --batch 100,2000 -o chronos-2-b100
    chronos-export validate chronos-2-b100
    """
    if context.invoked_subcommand is not None:
        return
    from chronos_export.request import BATCHES, default_output, parse_batch, preview
    from chronos_export.source import locate

    if batch is None:
        raise UsageError("no --batch was given", allowed=BATCHES, fix=f"{NAME} --model demo --batch 100")
    rows = parse_batch(batch)
    output = output or default_output(source, rows)
    plan = {**preview(source, revision, rows, output, force), "dtype": dtype, "target": target}
    if dry_run:
        console.result({"dry_run": True, **plan}, as_lines(plan))
        return

    revision = locate(source, revision, console.report).revision  # a wrong name is told before the wait
    with console.libraries():
        with stage("start", console.report):
            from chronos_export.exporting import export
            from chronos_export.precision import precision_of
            from chronos_export.targets import EngineOptions, choose

        engine = EngineOptions(
            target=target,
            context=longest_context,
            horizon=longest_horizon,
            attention=attention,
            compute_capabilities=tuple(capabilities.split(",")) if capabilities else (),
            timing_cache=timing_cache,
        )
        console.note(choose(engine, precision_of(dtype))[1])
        artifact = export(
            source,
            rows,
            output,
            revision=revision,
            dtype=dtype,
            engine=engine,
            overwrite=force,
            keep_failed=keep_failed,
            accept_failed_validation=accept_failed_validation,
            report=console.report,
        )
    proven = artifact.manifest.validation
    built = [_build_line(entry) for entry in artifact.manifest.engines]
    for line in (*built, *_proof_lines(proven)):
        console.note(line)
    console.result(
        {
            "artifact": str(artifact.path),
            "digest": artifact.manifest.checkpoint["digest"],
            "engines": artifact.manifest.engines,
            "validation": proven,
        },
        f"{artifact.path}: {proven['sentence']}",
    )


@cli.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@talking
def validate(console: Console, artifact: Path) -> None:
    """Prove an artifact again, on this machine."""
    from chronos_export.artifact import open_artifact

    open_artifact(artifact)  # refuse a damaged one before anything heavy is imported
    with console.libraries():
        with stage("start", console.report):
            from chronos_export.exporting import validate_artifact

        summary = validate_artifact(artifact, report=console.report).summary()
    for line in _proof_lines(summary):
        console.note(line)
    console.result(
        {"artifact": str(artifact), "validation": summary},
        f"{artifact}: {summary['sentence']}",
    )


@cli.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@talking
def inspect(console: Console, artifact: Path) -> None:
    """Verify an artifact's files and say what it is."""
    from dataclasses import asdict

    from chronos_export.artifact import open_artifact

    manifest = open_artifact(artifact).manifest
    size = sum(record.bytes for record in manifest.files.values())
    shown = {
        "artifact": artifact,
        **manifest.checkpoint,
        "dtype": manifest.dtype,
        "profiles": manifest.profiles,
        "engines": [_engine_line(engine) for engine in manifest.engines],
        "files": f"{len(manifest.files)}, {size / 1e6:.1f} MB, all as published",
        "passed": manifest.validation.get("passed"),
        "validation": manifest.validation.get("sentence"),
        "created by": manifest.created_by,
    }
    console.result({"artifact": str(artifact), **asdict(manifest)}, as_lines(shown))


for command in COMMANDS:
    cli.add_command(command)


def _proof_lines(proven: dict[str, Any]) -> list[str]:
    """How far each engine was proven, and what rounding costs each runtime."""
    losses = [
        f"{loss['runner']}: quantile loss on real series {loss['change']:+.2%}"
        for loss in proven["quantile_loss"]
    ]
    return [*(found["detail"] for found in proven["runtimes"] if found["detail"]), *losses]


def _build_line(engine: dict[str, Any]) -> str:
    """What an engine took to build."""
    return (
        f"{engine['path']}: {engine['bytes'] / 1e6:.1f} MB, built in {engine['build_seconds']:.1f} s"
        f" with {engine['peak_rss_bytes'] / 1e6:.0f} MB of memory at most"
    )


def _engine_line(engine: dict[str, Any]) -> str:
    rows = "/".join(str(count) for count in engine["profiles"])
    gpus = "/".join(engine["compute_capabilities"])
    plugins = engine["plugin_layers"]
    layers = f"{plugins} plugin layers" if plugins else f"{engine['attention']} attention"
    size = f"{engine['bytes'] / 1e6:.1f} MB"
    return f"{engine['path']} ({engine['tensorrt_version']} for {gpus}, {rows} rows, {layers}, {size})"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    interruption.watch()
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(as_json="--json" in arguments)
    try:
        code = cli.main(arguments, prog_name=NAME, standalone_mode=False, obj=console) or 0
    except click.Abort:
        console.note("interrupted: nothing was published")
        code = interruption.exit_code() or interruption.INTERRUPTED
    except click.ClickException as error:
        code = error.exit_code
        console.error(UsageError(error.format_message(), fix=f"{NAME} --help"), code)
    except ChronosExportError as error:
        code = error.exit_code
        console.error(error, code)
    except Exception as error:
        code = interruption.exit_code() or ChronosExportError.exit_code
        if code == ChronosExportError.exit_code:
            console.error(error, code)
    sys.exit(code)


if __name__ == "__main__":
    main()
