"""The commands beside exporting: doctor, completion, plugin build, bench."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from chronos_export.cli.console import Console
from chronos_export.cli.options import COMPLETION, NAME, Place, as_lines, talking
from chronos_export.errors import MachineError, UsageError


@click.command()
@talking
def doctor(console: Console) -> None:
    """Say what this machine has: versions, runtimes, GPUs. Nothing is fetched."""
    from chronos_export.machine.doctor import as_text, examine

    with console.waiting("examine"):
        found = examine()
    console.result(found, as_text(found))
    for problem in found["problems"]:
        raise MachineError(problem["summary"], fix=problem["fix"])


@click.group(invoke_without_command=True)
def plugin() -> None:
    """The TensorRT plugin for group attention."""
    if click.get_current_context().invoked_subcommand is None:
        raise UsageError("plugin needs a command", allowed="build", fix=f"{NAME} plugin build")


@plugin.command("build")
@click.option(
    "--include-dir",
    type=Place(file_okay=False),
    help="Folder of TensorRT's headers; by default TENSORRT_INCLUDE_DIR or where packages put them.",
)
@click.option("-o", "--output", type=Place(), metavar="DIR", help="Where the libraries go.")
@click.option("--arch", metavar="SM[,SM]", help="GPUs to compile for: 90 or 80,90. All of them by default.")
@talking
def build(console: Console, include_dir: Path | None, output: Path | None, arch: str | None) -> None:
    """Compile the kernel and, with TensorRT's headers, the plugin on this machine."""
    from dataclasses import asdict

    from chronos_export.engine.plugin_build import build_plugin
    from chronos_export.machine.compiled import plugin_folder

    folder = output or plugin_folder()
    architectures = arch.split(",") if arch else ()
    built = build_plugin(include_dir, folder, architectures=architectures, report=console.report)
    paths = {name: str(path) for name, path in asdict(built).items() if path}
    console.result(paths, as_lines(paths))


@click.command()
@click.argument("artifact", required=False, type=Place())
@click.option("--model", "source", metavar="DIR", help="Its checkpoint, if not beside the artifact or here.")
@click.option(
    "-o",
    "--output",
    type=Place(dir_okay=False),
    default=Path("speed.png"),
    show_default=True,
    help="The picture.",
)
@talking
def bench(console: Console, artifact: Path | None, source: str | None, output: Path) -> None:
    """Say how many times faster than upstream this machine forecasts.

    Times ARTIFACT, or random weights of full size in every dtype on the CPU, for about two minutes.
    """
    with console.libraries(), TemporaryDirectory() as folder:
        from dataclasses import asdict

        from chronos_export.bench.comparison import compare_speed
        from chronos_export.bench.picture import draw_speeds

        found = compare_speed(artifact, Path(folder), console.report, source)
    for dtype, why in found.missing.items():
        console.note(f"{dtype} was not timed: {why}")
    try:
        draw_speeds(found.speeds, found.title, output)
    except MachineError as error:
        console.note(f"no picture was drawn: {error}")
    content = {**asdict(found), "title": found.title, "sentence": found.sentence, "picture": str(output)}
    console.result(content, found.text)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    eval "$(chronos-export completion bash)"
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    script = get_completion_class(shell)
    if script is None:
        raise UsageError(f"no completion for {shell}", allowed="bash, zsh, fish")
    click.echo(script(root, {}, NAME, COMPLETION).source())
