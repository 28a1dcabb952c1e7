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
@click.option(
    "--rows", type=click.IntRange(min=20), default=100, show_default=True, help="Rows of the large batches."
)
@click.option(
    "--layers", type=click.IntRange(min=1), help="Of the random weights; 12, the full model, if not given."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Time upstream under torch.compile too.")
@click.option(
    "--workload",
    "only",
    multiple=True,
    metavar="NAME",
    help="Time this one only, as the table calls it; what an earlier run found of the others is kept.",
)
@click.option(
    "-o",
    "--output",
    type=Place(file_okay=False),
    default=Path("benchmarks"),
    show_default=True,
    help="Folder for the table, the JSON and the plot.",
)
@talking
def bench(
    console: Console,
    artifact: Path | None,
    rows: int,
    layers: int | None,
    rounds: int,
    compiled: bool,
    only: tuple[str, ...],
    output: Path,
) -> None:
    """Time every way to run Chronos-2 on this machine's CPU: an artifact, or random weights of full size."""
    if artifact is not None and layers is not None:
        raise UsageError(
            "--layers was given with an artifact, which has its own", fix=f"{NAME} bench {artifact}"
        )
    with console.libraries(), TemporaryDirectory() as folder:
        from chronos_export.bench.report import as_markdown
        from chronos_export.bench.run import run_bench
        from chronos_export.bench.subject import full_config, published_subject, random_subject

        if artifact is not None:
            subject = published_subject(artifact, Path(folder))
        else:
            subject = random_subject(full_config(layers or 12), Path(folder))
        results = run_bench(subject, output, rows, rounds, compiled, only=only, say=console.note)
    console.result(results.as_dict(), as_markdown(results))


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
