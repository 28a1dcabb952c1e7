"""The reference pages: docs/cli.md from each command's help, docs/api.md from docstrings.

python -m scripts.reference
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import chronos_export
from chronos_export import errors
from chronos_export.cli.main import cli

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 100  # columns of a help text
NOTE = "Written by `python -m scripts.reference`; edit what it is made of, not this page."


def cli_page() -> str:
    """Return docs/cli.md."""
    sections = [f"## {name}\n\n```text\n{text}\n```" for name, text in _helps(cli, "chronos-export")]
    return "\n\n".join(["# Command line", NOTE, *sections]) + "\n"


def api_page() -> str:
    """Return docs/api.md."""
    public = [(name, getattr(chronos_export, name)) for name in chronos_export.__all__]
    raised = [
        (name, kind)
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.ChronosExportError)
    ]
    sections = [_entry(f"chronos_export.{name}", item) for name, item in public]
    sections += [_entry(f"chronos_export.errors.{name}", item) for name, item in raised]
    return "\n\n".join(["# Python API", NOTE, *sections]) + "\n"


def _helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Each command's name and help, subcommands after their group."""
    context = click.Context(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None:
                yield from _helps(found, f"{name} {sub}")


def _entry(name: str, item: object) -> str:
    lines = [f"## {name}", f"```text\n{name}{_signature(item)}\n\n{inspect.getdoc(item)}\n```"]
    if inspect.isclass(item) and not issubclass(item, Exception):
        methods = inspect.getmembers(item, inspect.isfunction)
        for method, function in methods:
            if not method.startswith("_"):
                title = f"{name}.{method}"
                text = f"{title}{_signature(function)}\n\n{inspect.getdoc(function)}"
                lines.append(f"### {title}\n\n```text\n{text}\n```")
    return "\n\n".join(lines)


def _signature(item: object) -> str:
    if inspect.isclass(item) and issubclass(item, Exception):
        return ""
    assert callable(item)
    return re.sub(r"<function (\w+) at \w+>", r"\1", str(inspect.signature(item)).replace("'", ""))


if __name__ == "__main__":
    (DOCS / "cli.md").write_text(cli_page())
    (DOCS / "api.md").write_text(api_page())
