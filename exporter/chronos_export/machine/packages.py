"""The packages that a part of chronos-export needs, and the command that installs what is missing.

What each extra holds stands in pyproject.toml alone. The commands name the packages themselves: they work for
a checkout as for a wheel, while the name chronos-export on an index may be somebody else's.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

from chronos_export.errors import MachineError

PROJECT = "chronos-export"
RUNTIME_EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
MODULES = {  # of packages whose module is not called like them
    "chronos-forecasting": "chronos",
    "onnxruntime-gpu": "onnxruntime",
    "tensorrt-cu13": "tensorrt",
}
_REQUIREMENT = re.compile(r"""([\w.-]+)([^;]*?)\s*(?:;\s*extra\s*==\s*["']([\w.-]+)["'])?""")


class MissingPackageError(MachineError, ImportError):
    """A package that is needed is not installed; `except ImportError` catches it, as Python's own."""


def extra(name: str) -> tuple[str, ...]:
    """Return the packages that an extra adds to the base install; "" is the base install itself."""
    return tuple(package for package, _, of in _declared() if of == name)


def is_installed(package: str) -> bool:
    """Return whether a package is here, in a version that is new enough."""
    return _is_found(package) and not _old_version(package)


def require(purpose: str, packages: Sequence[str]) -> None:
    """Refuse what cannot be done here.

    Args:
        purpose: What needs the packages: "an export".
        packages: Their names on an index.

    Raises:
        MissingPackageError: Some are not installed, or too old.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        names, verb = ", ".join(map(_wanted, missing)), "is" if len(missing) == 1 else "are"
        summary = f"{purpose} needs {names}, which {verb} not installed"
        raise MissingPackageError(summary, fix=install_command(missing))


def require_upstream(purpose: str, extra_name: str) -> None:
    """Refuse what needs upstream's model where that cannot be imported.

    Args:
        purpose: What needs it.
        extra_name: "pipeline" or "export".

    Raises:
        MissingPackageError: A package of the extra is not installed.
        MachineError: Python runs with -OO.
    """
    require(purpose, extra(extra_name))
    if sys.flags.optimize > 1:
        raise MachineError(
            f"{purpose} needs transformers, which reads docstrings, and Python's option -OO has dropped them",
            allowed="python, or python -O",
            fix="leave -OO out, or unset PYTHONOPTIMIZE",
        )


def require_runtime(runtime: str, device: str = "cpu") -> None:
    """Refuse a runtime whose package is not installed.

    Args:
        runtime: One of `RUNTIME_EXTRAS`.
        device: "cpu" or "cuda": onnxruntime has a package for each.

    Raises:
        MissingPackageError: It is not installed.
    """
    require(f"the runtime {runtime}", extra(runtime_extra(runtime, device)))


def runtime_extra(runtime: str, device: str = "cpu") -> str:
    """Return the extra that adds a runtime for a device."""
    return "cuda" if (runtime, device) == ("onnxruntime", "cuda") else RUNTIME_EXTRAS[runtime]


def install_command(packages: Sequence[str]) -> str:
    """Return the shell command that installs packages, each in a version that is new enough.

    What else owns the same files is uninstalled first: pip would keep onnxruntime beside onnxruntime-gpu, and
    the one that was unpacked last would win. So is a package whose module is gone: pip would leave it so.
    """
    install = shlex.join(["pip", "install", *(package + _bound(package) for package in packages)])
    here = [
        owner
        for package in packages
        for owner in owners(package)
        if not _is_found(package) or owner.replace("_", "-") != package or len(owners(package)) > 1
    ]
    return f"{shlex.join(['pip', 'uninstall', '-y', *here])} && {install}" if here else install


def owners(package: str) -> list[str]:
    """Return the installed packages that own a package's module; if two do, one has overwritten the other."""
    return sorted(set(_modules().get(_module(package), ())))


def _is_found(package: str) -> bool:
    """Whether a package's module can be found. A mere folder of that name on the path is not it."""
    spec = importlib.util.find_spec(_module(package))
    return spec is not None and spec.origin is not None


def _old_version(package: str) -> str:
    """The version of a package that is installed, if that is too old, else ""."""
    lowest = re.search(r">=([\d.]+)", _bound(package))
    try:
        found = version(package)
    except PackageNotFoundError:
        return ""  # another package brings the module
    return found if lowest and _numbers(found) < _numbers(lowest[1]) else ""


def _wanted(package: str) -> str:
    """A package's name; with the version it must have, where an older one is here."""
    old = _old_version(package)
    return f"{package}{_bound(package)} (here is {old})" if old else package


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"[\d.]*", text)
    return tuple(int(part) for part in (release[0] if release else "").split(".") if part)


def _bound(package: str) -> str:
    return next((bound for name, bound, _ in _declared() if name == package), "")


@cache
def _modules() -> Mapping[str, list[str]]:
    return packages_distributions()


def _module(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


@cache
def _declared() -> list[tuple[str, str, str]]:
    """Return the name, the bound and the extra of every package that pyproject.toml declares."""
    matches = [_REQUIREMENT.fullmatch(line) for line in requires(PROJECT) or ()]
    return [(match[1], match[2], match[3] or "") for match in matches if match]
