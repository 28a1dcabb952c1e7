"""What an engine needs of this machine and of its options, told before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from chronos_export.errors import MachineError, UsageError
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.tensorrt import require_installed

NO_ATTENTION = "none"  # no engine for rows in groups
ATTENTIONS = ("plugin", "body", NO_ATTENTION)
# TensorRT-RTX 1.7 also lists 7.5, and then fails there in every dtype but float16 (12.1 is built as 12.0 is).
RTX_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0")
OLDEST = 8.0  # compute capability of the oldest GPU that our plugin is compiled for


def check_machine(
    runtime: str, attention: str, plugin: Path | None, compute_capabilities: Sequence[str]
) -> None:
    """Refuse at once what this machine cannot build; arguments as `building.build_engine`.

    Raises:
        UsageError: No such runtime or attention, or compute capabilities that cannot be built for.
        MachineError: A package, the plugin library or a GPU is missing.
    """
    require_installed(runtime)
    check_attention(attention)
    if runtime == "tensorrt-rtx":
        _check_capabilities(compute_capabilities)
        return
    if compute_capabilities:
        raise UsageError(
            f"TensorRT builds for the GPU of this machine, not for {', '.join(compute_capabilities)}",
            allowed="compute capabilities for --runtime tensorrt-rtx only",
        )
    if device_capability() is None:
        raise MachineError(
            "TensorRT builds engines on the GPU they run on, and this machine has none",
            allowed="--runtime tensorrt-rtx, which builds ahead of time",
        )
    if attention == "plugin" and plugin is None:
        raise MachineError(
            "TensorRT runs the plugin while it builds, and no plugin library was given",
            fix="chronos-export plugin build",
        )


def check_attention(attention: str) -> None:
    """Refuse what there is not.

    Raises:
        UsageError: There is no such attention.
    """
    if attention not in ATTENTIONS:
        raise UsageError(f"unknown attention {attention!r}", allowed=", ".join(ATTENTIONS))


def _check_capabilities(asked: Sequence[str]) -> None:
    for one in asked:
        if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", one):
            raise UsageError(
                f"{one!r} is not a compute capability",
                allowed=", ".join(RTX_CAPABILITIES),
                fix="--compute-capability 8.9, or 8.6,8.9",
            )
        if one not in RTX_CAPABILITIES:
            newer = float(one) >= OLDEST
            raise UsageError(
                f"TensorRT-RTX does not build for compute capability {one}",
                allowed=", ".join(RTX_CAPABILITIES)
                + ("; full TensorRT builds for it, on a machine that has such a GPU" if newer else ""),
                fix="chronos-export --runtime tensorrt --batch 100" if newer else "",
            )
    if len(set(asked)) < len(asked):
        raise UsageError(
            f"compute capability {next(one for one in asked if asked.count(one) > 1)} is given twice",
            allowed="each once",
        )
