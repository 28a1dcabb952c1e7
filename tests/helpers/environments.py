"""This environment as if only some extras were installed: no module of another package can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "chronos-export"
BLOCKING = """
import json, sys
from importlib import metadata
blocked, here = json.loads(sys.argv.pop(1)), metadata.packages_distributions()
sys.modules.update(dict.fromkeys(blocked))
metadata.packages_distributions = lambda: {name: here[name] for name in here.keys() - set(blocked)}
"""
COMMAND_LINE = "from chronos_export.cli.main import main\nmain(sys.argv[1:])\n"


def run_with(
    extras: tuple[str, ...], *arguments: object, code: str = COMMAND_LINE, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line, or other code, where only the base install and `extras` are there.

    Args:
        extras: Of pyproject.toml.
        arguments: Of the command line; `sys.argv[1:]` of `code`.
        code: Python.
        options: Of the interpreter.
    """
    blocked = json.dumps(sorted(_all_modules() - _modules_of(closure(extras))))
    command = [sys.executable, *options, "-c", BLOCKING + code, blocked, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def closure(extras: tuple[str, ...]) -> set[str]:
    """Return the packages that pip would install for chronos-export with `extras`."""
    found: set[str] = set()
    wanted = [(PROJECT, frozenset(extras))]
    done: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, of = wanted.pop()
        if (name, of) in done:
            continue
        done.add((name, of))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system, or not installed here either
        found.add(canonicalize_name(name))
        for requirement in map(Requirement, lines):
            environments = [{"extra": extra} for extra in of] or [{"extra": ""}]
            marker = requirement.marker
            if marker is None or any(marker.evaluate(environment) for environment in environments):
                wanted.append((requirement.name, frozenset(requirement.extras)))
    return found


@cache
def _owners() -> dict[str, set[str]]:
    return {
        module: {canonicalize_name(package) for package in packages}
        for module, packages in metadata.packages_distributions().items()
    }


def _all_modules() -> set[str]:
    return set(_owners())


def _modules_of(packages: set[str]) -> set[str]:
    return {module for module, owners in _owners().items() if owners & packages}
