"""Which engines an export builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.engine.building import RTX_COMPUTE_CAPABILITIES, build_engine, check_machine
from chronos_export.errors import UsageError
from chronos_export.graph.precision import PRECISIONS, Precision
from chronos_export.graph_contract import GENERAL
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.tensorrt import MODULES, is_installed
from chronos_export.progress import Report

TARGETS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
ENGINES = "engines"
FLOAT32 = PRECISIONS["float32"]


@dataclass(frozen=True)
class EngineOptions:
    """What to build engines for.

    Attributes:
        target: One of `TARGETS`.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        compute_capabilities: For TensorRT-RTX: GPUs like "8.9"; if empty, all it can build for, or with
            `auto` the one of this machine.
        attention: One of `engine_attention.ATTENTIONS`.
        timing_cache: Read and extended, or None.
    """

    target: str = "auto"
    context: int | None = None
    horizon: int | None = None
    compute_capabilities: Sequence[str] = ()
    attention: str = "plugin"
    timing_cache: Path | None = None


def choose(options: EngineOptions, precision: Precision = FLOAT32) -> tuple[str | None, str]:
    """The engine target to build, or None, and one line saying why.

    `auto` builds for the GPU of this machine with whichever TensorRT can. A target that is asked for by name
    is always returned; `require` says whether this machine can build it.

    Raises:
        UsageError: There is no such target.
    """
    target = options.target
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}", allowed=", ".join(TARGETS))
    if target == "onnxruntime":
        return None, "no engine: onnxruntime was asked for"
    if target != "auto":
        return target, f"{target} was asked for"
    if precision.is_quantized:
        return None, f"no engine: {precision.name} is for CPUs"
    capability = device_capability()
    if capability is None:
        return None, "no engine: this machine has no GPU (--target tensorrt-rtx builds ahead of time)"
    obstacles = {name: _obstacle(name, capability, options) for name in MODULES}
    chosen = next((name for name, obstacle in obstacles.items() if not obstacle), None)
    if chosen is None:
        return None, f"no engine: {'; '.join(obstacles.values())}"
    others = [why or f"{name} is not needed beside it" for name, why in obstacles.items() if name != chosen]
    return chosen, "; ".join([f"{chosen} for compute capability {capability}", *others])


def _obstacle(target: str, capability: str, options: EngineOptions) -> str:
    """Why `auto` does not build for a target here, or ""."""
    if not is_installed(target):
        return f"{target} is not installed"
    if target == "tensorrt" and options.attention == "plugin" and plugin_library() is None:
        return "tensorrt needs the plugin (chronos-export plugin build)"
    if target == "tensorrt-rtx" and capability not in (
        options.compute_capabilities or RTX_COMPUTE_CAPABILITIES
    ):
        return f"tensorrt-rtx does not build for compute capability {capability}"
    return ""


def require(options: EngineOptions, precision: Precision) -> None:
    """Refuse at once an engine that cannot be built here.

    Raises:
        UsageError: No such target or attention, compute capabilities for TensorRT, or int8.
        MachineError: A package, the plugin library or a GPU is missing.
    """
    target, _ = choose(options, precision)
    if target is None:
        return
    if precision.is_quantized:
        raise UsageError(
            f"{target} cannot build {precision.name} engines",
            allowed="float32, tf32, float16, bfloat16",
            fix=f"chronos-export --dtype {precision.name} --target onnxruntime ...",
        )
    check_machine(target, options.attention, plugin_library(), options.compute_capabilities)


def build_engines(
    folder: Path, batch: Sequence[int], options: EngineOptions, precision: Precision, report: Report
) -> list[EngineInfo]:
    """Build what `options` ask for from the graph in `folder`.

    Args:
        folder: Where `model.onnx` is; the plan goes to `engines/` in it.
        batch: Row counts, one profile each.
        options: What to build for.
        precision: What the graph computes in; "tf32" lets float32 products use tf32.
        report: Told of progress.
    """
    target, _ = choose(options, precision)
    if target is None:
        return []
    capabilities = options.compute_capabilities
    if options.target == "auto" and target == "tensorrt-rtx" and (here := device_capability()):
        capabilities = (here,)
    (folder / ENGINES).mkdir()
    return [
        build_engine(
            folder / GENERAL,
            batch,
            target=target,
            output=folder / ENGINES / f"{target}.plan",
            context=options.context,
            horizon=options.horizon,
            compute_capabilities=capabilities,
            attention=options.attention,
            plugin=plugin_library(),
            tf32=precision.name == "tf32",
            timing_cache=options.timing_cache,
            report=report,
        )
    ]
