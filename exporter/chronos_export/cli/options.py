"""What commands have in common: sections of the help, --json, --quiet, --verbose and their console."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from chronos_export.artifact.naming import located
from chronos_export.cli.console import Console
from chronos_export.errors import UsageError

NAME = "chronos-export"
COMPLETION = "_CHRONOS_EXPORT_COMPLETE"  # set by the shell that asks for completions


class Place(click.Path):
    """A path, refused at once if no file can be called so."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.Path.convert`."""
        located(value)
        return super().convert(value, param, ctx)


class Option(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command whose help shows its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command.format_options`."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Group(Command, click.Group):
    """A group with options of its own under headings, and its commands after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Group.format_options`."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added."""
        return list(self.commands)


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


def in_our_words(error: click.ClickException) -> UsageError:
    """Return click's complaint about the arguments as one of ours."""
    context = getattr(error, "ctx", None)
    return UsageError(error.format_message(), fix=f"{context.command_path if context else NAME} --help")


def as_lines(content: dict[str, Any]) -> str:
    """Names and values, a line each; what is empty or None is left out."""
    lines = []
    for name, value in content.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        if value not in (None, ""):
            value = str(value).replace("\n", " ")
            lines.append(f"{name.replace('_', ' '):18}{value}")
    return "\n".join(lines)
