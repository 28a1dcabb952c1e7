"""Which engines an export builds, and where the compiled plugin is found."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chronos_export.engine import EngineInfo, build_engine
from chronos_export.errors import MachineError, UsageError
from chronos_export.manifest import hash_file
from chronos_export.onnx_export import GENERAL
from chronos_export.progress import Report
from chronos_export.trt_libraries import MODULES, device_capability
from chronos_export.trt_plugin import LIBRARY_NAME

TARGETS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
ENGINES = "engines"


@dataclass(frozen=True)
class EngineOptions:
    """What to build engines for.

    Attributes:
        target: One of `TARGETS`.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        compute_capabilities: For TensorRT-RTX: GPUs like "8.9"; all it can build for if empty.
        timing_cache: Read and extended, or None.
    """

    target: str = "auto"
    context: int | None = None
    horizon: int | None = None
    compute_capabilities: Sequence[str] = ()
    timing_cache: Path | None = None


def choose(target: str) -> tuple[str | None, str]:
    """The engine target to build, or None, and one line saying why.

    `auto` builds for the GPU of this machine with whichever TensorRT is installed. A target that is asked
    for by name is always returned; building it fails if this machine cannot.

    Raises:
        UsageError: There is no such target.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}", allowed=", ".join(TARGETS))
    if target == "onnxruntime":
        return None, "no engine: onnxruntime was asked for"
    if target != "auto":
        return target, f"{target} was asked for"
    capability = device_capability()
    if capability is None:
        return None, "no engine: this machine has no GPU (--target tensorrt-rtx builds ahead of time)"
    for name, module in MODULES.items():
        if importlib.util.find_spec(module) is not None:
            return name, f"{name} for compute capability {capability}"
    return None, "no engine: neither tensorrt nor tensorrt-rtx is installed"


def build_engines(
    folder: Path, batch: Sequence[int], options: EngineOptions, tf32: bool, report: Report
) -> list[dict[str, Any]]:
    """Build what `options` ask for from the graph in `folder`.

    Args:
        folder: Where `model.onnx` is; the plan goes to `engines/` in it.
        batch: Row counts, one profile each.
        options: What to build for.
        tf32: Whether float32 products may use tf32.
        report: Told of progress.

    Returns:
        One entry of the manifest for each engine: `EngineInfo`, its file name and its plugin's hash.
    """
    target, _ = choose(options.target)
    if target is None:
        return []
    (folder / ENGINES).mkdir()
    plan = folder / ENGINES / f"{target}.plan"
    library = plugin_library()
    info = build_engine(
        folder / GENERAL,
        batch,
        target=target,
        output=plan,
        context=options.context,
        horizon=options.horizon,
        compute_capabilities=options.compute_capabilities,
        plugin=library,
        tf32=tf32,
        timing_cache=options.timing_cache,
        report=report,
    )
    plugin = hash_file(library).sha256 if library else None
    return [{**asdict(info), "path": f"{ENGINES}/{plan.name}", "plugin_sha256": plugin}]


def engine_info(entry: dict[str, Any], folder: Path) -> EngineInfo:
    """An entry of the manifest back to an `EngineInfo`."""
    fields = {name: value for name, value in entry.items() if name != "plugin_sha256"}
    fields["path"] = folder / entry["path"]
    fields["profiles"] = tuple(entry["profiles"])
    fields["compute_capabilities"] = tuple(entry["compute_capabilities"])
    return EngineInfo(**fields)


def check_plugin(entry: dict[str, Any], digest: str, rebuild: str) -> None:
    """Refuse another plugin than the engine was built with, if it was built with a compiled one.

    Args:
        entry: The engine's entry of the manifest.
        digest: sha256 of the plugin library that is here.
        rebuild: The command that builds the engine anew.

    Raises:
        MachineError: They differ.
    """
    if entry["plugin_sha256"] not in (None, digest):
        raise MachineError(
            f"the engine was built with the plugin of sha256 {entry['plugin_sha256']}; here is {digest}",
            fix=rebuild,
        )


def plugin_folder() -> Path:
    """Where `chronos-export plugin build` puts the libraries: CHRONOS_EXPORT_PLUGINS or the user's cache."""
    if given := os.environ.get("CHRONOS_EXPORT_PLUGINS"):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "chronos-export" / "plugins"


def plugin_library() -> Path | None:
    """The compiled plugin for TensorRT's registry, if it was built."""
    library = plugin_folder() / LIBRARY_NAME
    return library if library.is_file() else None
