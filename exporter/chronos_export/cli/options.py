"""What every command has in common: --json, --quiet, --verbose, and the console they make."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import click

from chronos_export.cli.console import Console


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


def as_lines(content: dict[str, Any]) -> str:
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
