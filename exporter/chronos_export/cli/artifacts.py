"""The commands on a published artifact: validate and inspect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from chronos_export.cli.console import Console
from chronos_export.cli.lines import engine_line, proof_lines, proof_result
from chronos_export.cli.options import Place, as_lines, talking
from chronos_export.progress import stage


@click.command()
@click.argument("artifact", type=Place())
@click.option("--model", "source", metavar="DIR", help="Its checkpoint, if not beside the artifact or here.")
@talking
def validate(console: Console, artifact: Path, source: str | None) -> None:
    """Prove an artifact again, on this machine."""
    from chronos_export.artifact.reading import open_artifact

    with console.waiting("verify"):
        open_artifact(artifact)  # refuse a damaged one before anything heavy is imported
    with stage("total", console.report), console.libraries():
        with stage("start", console.report):
            from chronos_export.exporting.export import validate_artifact

        summary = validate_artifact(artifact, console.report, source=source).summary()
    for line in proof_lines(summary):
        console.note(line)
    console.result({"artifact": str(artifact), "validation": summary}, proof_result(artifact, summary))


@click.command()
@click.argument("artifact", type=Place())
@talking
def inspect(console: Console, artifact: Path) -> None:
    """Verify an artifact's files and say what it is."""
    from chronos_export.artifact.reading import open_artifact

    with console.waiting("verify"):
        opened = open_artifact(artifact)
    manifest, made_from = opened.manifest, opened.manifest.checkpoint
    size = sum(record.bytes for record in manifest.files.values())
    shown = {
        "artifact": artifact,
        "digest": opened.digest,
        **{"model digest" if name == "digest" else name: value for name, value in asdict(made_from).items()},
        "dtype": manifest.dtype,
        "profiles": manifest.profiles,
        "engines": [engine_line(engine) for engine in manifest.engines],
        "files": f"{len(manifest.files)}, {size / 1e6:.1f} MB, all as published",
        "passed": manifest.validation.get("passed"),
        "validation": manifest.validation.get("sentence"),
        "created by": manifest.created_by,
    }
    console.result({"artifact": str(artifact), "digest": opened.digest, **asdict(manifest)}, as_lines(shown))
