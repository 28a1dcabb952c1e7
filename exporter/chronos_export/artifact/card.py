"""The README.md inside an artifact, written from its manifest and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chronos_export.artifact.engine_info import Profile
from chronos_export.artifact.manifest import CARD, Manifest
from chronos_export.artifact.naming import FOLDER


def write_card(folder: Path, manifest: Manifest) -> Path:
    """Write README.md for the artifact in `folder`, whose other files are in the manifest."""
    card = folder / CARD
    card.write_text("\n".join(_lines(manifest)) + "\n", encoding="utf-8")
    return card


def _lines(manifest: Manifest) -> list[str]:
    checkpoint = manifest.checkpoint
    revision = f" at revision `{checkpoint.revision}`" if checkpoint.revision else ""
    made_by = ", ".join(f"{package} {number}" for package, number in manifest.created_by.items())
    return [
        f"# {checkpoint.source.removeprefix(FOLDER)}, exported",
        "",
        f"Chronos-2 from `{checkpoint.source}`{revision}, licence {checkpoint.licence}, "
        f"in {manifest.dtype}. Model digest `{checkpoint.digest}`.",
        "",
        *_not_proven(manifest),
        "```python",
        "from chronos_export import Forecaster, load",
        "",
        'forecaster = Forecaster(".")  # this folder; numpy and one runtime',
        'pipeline = load(".")  # the same as a Chronos2Pipeline; needs PyTorch and upstream',
        "```",
        "",
        f"Digest of this artifact: `{manifest.digest}`. `load(path, digest=...)` opens it and no other.",
        "",
        "Check the files and prove the forecasts again, on this machine: `chronos-export validate .`",
        "",
        "## What was proven",
        "",
        *_section(manifest.validation),
        "## What it is",
        "",
        f"- engines: {'; '.join(map(_engine, manifest.engines)) or 'none'}",
        f"- made by {made_by}",
        "- the sha256 of every file is in `manifest.json`",
    ]


def _engine(entry: dict[str, Any]) -> str:
    """Its file and what it admits."""
    return f"`{entry.get('path')}` ({'; '.join(str(Profile(**profile)) for profile in entry['profiles'])})"


def _not_proven(manifest: Manifest) -> list[str]:
    """What comes first of an artifact that was published although its validation failed."""
    validation = manifest.validation
    if validation.get("passed") is not False:
        return []
    return [f"**Published although it {validation.get('sentence')}.**", ""]


def _section(content: dict[str, Any]) -> list[str]:
    """Values as a list, objects as tables, lists of strings as commands."""
    plain = {name: value for name, value in content.items() if not isinstance(value, list | dict)}
    lines = [f"- {name}: {_cell(value)}" for name, value in plain.items()]
    lines += [""] if lines else []
    for name, value in content.items():
        if rows := _rows(value):
            lines += [f"### {name}", "", *_table(rows), ""]
        elif isinstance(value, list) and value:
            lines += [f"### {name}", "", "```sh", *(str(item) for item in value), "```", ""]
    return lines or ["Nothing: this artifact was published without validation.", ""]


def _rows(value: object) -> list[dict[str, Any]]:
    """A list or a dict of objects as the rows of a table, without what no cell can show."""
    found = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        return []
    return [{k: v for k, v in row.items() if not isinstance(v, list | tuple | dict)} for row in found]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(rows[0])
    body = [[_cell(row.get(column)) for column in columns] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *body)]


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")
