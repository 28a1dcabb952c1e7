"""The command line: arguments in, exit code out.

Nothing heavy is imported before a command needs it, so that help, completion and mistakes answer at once.
"""

from __future__ import annotations

import functools
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from chronos_export.console import Console
from chronos_export.errors import ChronosExportError, MachineError, UsageError
from chronos_export.progress import stage

NAME = "chronos-export"
INTERRUPTED, TERMINATED = 130, 143
EXIT_CODES = """\b
Exit codes:
  0    done
  1    accuracy: the export does not forecast what upstream does
  2    usage: what was asked for cannot be asked for
  3    environment: a package, a device, the hub or disk space is missing
  4    build: exporting or building an engine went wrong
  5    integrity: a file is not what it claims to be
  130  interrupted
"""


def talking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --json, --quiet and --verbose, and the console they make as its first argument."""

    @click.option(
        "--json", "as_json", is_flag=True, help="JSON events on stdout, one a line; logs on stderr."
    )
    @click.option("--quiet", is_flag=True, help="No progress, only the result.")
    @click.option("--verbose", is_flag=True, help="Tracebacks, and what the libraries have to say.")
    @functools.wraps(command)
    def with_console(*args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        console = click.get_current_context().ensure_object(Console)
        console.as_json |= as_json  # a flag may stand before the subcommand or after it
        console.is_quiet |= quiet
        console.is_verbose |= verbose
        if not console.is_verbose:
            warnings.simplefilter("ignore")
        return command(console, *args, **kwargs)

    return with_console


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
@click.option("--force", is_flag=True, help="Replace an artifact that is there.")
@click.option("--keep-failed", is_flag=True, help="Keep what failed its validation as DIR.failed.")
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
    force: bool,
    keep_failed: bool,
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
    plan = preview(source, revision, rows, output, force)
    if dry_run:
        console.result({"dry_run": True, **plan}, _as_lines(plan))
        return

    revision = locate(source, revision, console.report).revision  # a wrong name is told before the wait
    with console.libraries():
        with stage("start", console.report):
            from chronos_export.exporting import export

        artifact = export(
            source,
            rows,
            output,
            revision=revision,
            overwrite=force,
            keep_failed=keep_failed,
            report=console.report,
        )
    proven = artifact.manifest.validation
    console.result(
        {
            "artifact": str(artifact.path),
            "digest": artifact.manifest.checkpoint["digest"],
            "validation": proven,
        },
        f"{artifact.path}: {proven['cases']} cases forecast as upstream does",
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
    console.result(
        {"artifact": str(artifact), "validation": summary},
        f"{artifact}: {summary['cases']} cases forecast as upstream does",
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
        "engines": [engine.get("file") for engine in manifest.engines],
        "files": f"{len(manifest.files)}, {size / 1e6:.1f} MB, all as published",
        "passed": manifest.validation.get("passed"),
        "created by": manifest.created_by,
    }
    console.result({"artifact": str(artifact), **asdict(manifest)}, _as_lines(shown))


@cli.command()
@talking
def doctor(console: Console) -> None:
    """Say what this machine has: versions, providers, GPUs. Nothing is fetched."""
    from chronos_export.doctor import as_text, examine

    found = examine()
    console.result(found, as_text(found))
    if found["missing"]:
        raise MachineError(
            f"required packages are missing: {', '.join(found['missing'])}",
            fix="pip install --force-reinstall chronos-export",
        )


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    eval "$(chronos-export completion bash)"
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    if script is None:
        raise UsageError(f"no completion for {shell}", allowed="bash, zsh, fish")
    click.echo(script(cli, {}, NAME, "_CHRONOS_EXPORT_COMPLETE").source())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # unwind, so that nothing is left
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(as_json="--json" in arguments)
    try:
        code = cli.main(arguments, prog_name=NAME, standalone_mode=False, obj=console) or 0
    except click.Abort:
        console.note("interrupted: nothing was published")
        code = INTERRUPTED
    except click.ClickException as error:
        code = error.exit_code
        console.error(UsageError(error.format_message(), fix=f"{NAME} --help"), code)
    except ChronosExportError as error:
        code = error.exit_code
        console.error(error, code)
    except Exception as error:
        code = ChronosExportError.exit_code
        console.error(error, code)
    sys.exit(code)


def _as_lines(content: dict[str, Any]) -> str:
    """Names and values, a line each; what is empty or None is left out."""
    lines = []
    for name, value in content.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        if value not in (None, ""):
            lines.append(f"{name.replace('_', ' '):18}{value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
