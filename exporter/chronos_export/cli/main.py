"""The command line: arguments in, exit code out.

Nothing heavy is imported before a command needs it, so that help, completion and mistakes answer at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import click
from click.core import ParameterSource

from chronos_export import interruption
from chronos_export.cli.artifacts import inspect, validate
from chronos_export.cli.console import Console
from chronos_export.cli.export import command as export
from chronos_export.cli.forecast import forecast
from chronos_export.cli.options import COMPLETION, NAME, Group, in_our_words
from chronos_export.cli.output import open_missing
from chronos_export.cli.serve import serve
from chronos_export.cli.tools import bench, completion, doctor, plugin
from chronos_export.errors import ChronosExportError, UsageError
from chronos_export.machine.exhausted import exhausted

EXIT_CODES = """\b
Exit codes:
  0    done
  1    accuracy: the export does not forecast what upstream does
  2    usage: an argument or an input cannot be used
  3    environment: a package, a device, the hub, memory or disk space is missing
  4    build: exporting or building an engine went wrong
  5    integrity: a file is not what it claims to be
  129  the terminal was closed (SIGHUP)
  130  interrupted (Ctrl-C, SIGINT)
  143  terminated (SIGTERM)
"""
INTERRUPTED = 130
ENDED = {129: "the terminal was closed", INTERRUPTED: "interrupted", 143: "terminated"}
FOR_ALL = ("as_json", "quiet", "verbose")  # options that may stand before a command as well as after it


@click.group(NAME, cls=Group, invoke_without_command=True, params=list(export.params), epilog=EXIT_CODES)
@click.version_option(package_name=NAME)
def cli(**options: Any) -> None:
    """Export Chronos-2 to ONNX, prove it equal to upstream and publish it.

    \b
    chronos-export --model demo
    chronos-export -o chronos-2                       the same as chronos-export export -o chronos-2
    chronos-export --runtime tensorrt-rtx --batch 100,2000
    chronos-export validate chronos-2
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        context.invoke(export, **options)
    else:
        _refuse_before(context.invoked_subcommand, context)


def _refuse_before(command: str, context: click.Context) -> None:
    """Refuse options of an export before the name of a command: they would have no effect."""
    given = [
        parameter.opts[0]
        for parameter in cli.params
        if parameter.name not in FOR_ALL
        and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(
            f"{', '.join(given)} stands before {command}, where it has no effect",
            allowed="the options of a command after its name",
            fix=f"{NAME} {command} --help",
        )


for subcommand in (export, validate, inspect, forecast, serve, doctor, completion, plugin, bench):
    cli.add_command(subcommand)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if COMPLETION in os.environ:
        cli.main(prog_name=NAME, complete_var=COMPLETION)
    interruption.watch()
    _hush_after_an_interruption()
    open_missing()
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(as_json="--json" in arguments)
    with redirect_stdout(console.out), redirect_stderr(console.err):  # for what click and Python print
        try:
            code = _run(arguments or ["--help"], console)
            interruption.ignore()
        except KeyboardInterrupt as stop:
            interruption.ignore()
            code = interruption.exit_code() or INTERRUPTED
            console.interrupted(": ".join([ENDED[code], *getattr(stop, "__notes__", ())]), code)
    sys.exit(code)


def _hush_after_an_interruption() -> None:
    """A constructor that a signal cuts short leaves an object whose destructor may complain."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda error: None if interruption.exit_code() else before(error)


def _run(arguments: list[str], console: Console) -> int:
    """Run the command line and return its code. What goes wrong is said, but for an interruption."""
    failure: Exception
    try:
        with cli.make_context(NAME, arguments, obj=console) as context:
            cli.invoke(context)
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except ChronosExportError as error:
        failure, code = error, error.exit_code
    except click.ClickException as error:
        failure, code = in_our_words(error), UsageError.exit_code
    except Exception as error:
        if interruption.exit_code() is not None:
            raise KeyboardInterrupt from error  # what the first one was turned into
        failure, code = error, ChronosExportError.exit_code
    if lack := exhausted(failure):
        failure, code = lack.with_traceback(failure.__traceback__), lack.exit_code
    console.error(failure, code)
    return code


if __name__ == "__main__":
    main()
