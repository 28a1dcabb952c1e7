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
from chronos_export.machine.packages import is_installed
from chronos_export.machine.tensorrt import MODULES
from chronos_export.progress import Report

RUNTIMES = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
ENGINES = "engines"
FLOAT32 = PRECISIONS["float32"]


@dataclass(frozen=True)
class EngineOptions:
    """What to build engines for.

    Attributes:
        runtime: One of `RUNTIMES`.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        compute_capabilities: For TensorRT-RTX: GPUs like "8.9"; if empty, all it can build for, or with
            `auto` the one of this machine.
        attention: One of `engine_attention.ATTENTIONS`.
        timing_cache: Read and extended, or None.
    """

    runtime: str = "auto"
    context: int | None = None
    horizon: int | None = None
    compute_capabilities: Sequence[str] = ()
    attention: str = "plugin"
    timing_cache: Path | None = None


def choose(options: EngineOptions, precision: Precision = FLOAT32) -> tuple[str | None, str]:
    """The engine runtime to build, or None, and one line saying why.

    `auto` builds for the GPU of this machine with whichever TensorRT can. A runtime that is asked for by name
    is always returned; `require` says whether this machine can build it.

    Raises:
        UsageError: There is no such runtime.
    """
    runtime = options.runtime
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}", allowed=", ".join(RUNTIMES))
    if runtime == "onnxruntime":
        return None, "no engine: onnxruntime was asked for"
    if runtime != "auto":
        return runtime, f"{runtime} was asked for"
    if precision.is_quantized:
        return None, f"no engine: {precision.name} is for CPUs"
    capability = device_capability()
    if capability is None:
        return None, "no engine: this machine has no GPU (--runtime tensorrt-rtx builds ahead of time)"
    obstacles = {name: _obstacle(name, capability, options) for name in MODULES}
    chosen = next((name for name, obstacle in obstacles.items() if not obstacle), None)
    if chosen is None:
        return None, f"no engine: {'; '.join(obstacles.values())}"
    others = [why or f"{name} is not needed beside it" for name, why in obstacles.items() if name != chosen]
    return chosen, "; ".join([f"{chosen} for compute capability {capability}", *others])


def _obstacle(runtime: str, capability: str, options: EngineOptions) -> str:
    """Why `auto` does not build for a runtime here, or ""."""
    if not is_installed(runtime):
        return f"{runtime} is not installed"
    if runtime == "tensorrt" and options.attention == "plugin" and plugin_library() is None:
        return "tensorrt needs the plugin (chronos-export plugin build)"
    if runtime == "tensorrt-rtx" and capability not in (
        options.compute_capabilities or RTX_COMPUTE_CAPABILITIES
    ):
        return f"tensorrt-rtx does not build for compute capability {capability}"
    return ""


def require(options: EngineOptions, precision: Precision) -> None:
    """Refuse at once an engine that cannot be built here.

    Raises:
        UsageError: No such runtime or attention, compute capabilities for TensorRT, or int8.
        MachineError: A package, the plugin library or a GPU is missing.
    """
    runtime, _ = choose(options, precision)
    if runtime is None:
        return
    if precision.is_quantized:
        raise UsageError(
            f"{runtime} cannot build {precision.name} engines",
            allowed="float32, tf32, float16, bfloat16",
            fix=f"chronos-export --dtype {precision.name} --runtime onnxruntime ...",
        )
    check_machine(runtime, options.attention, plugin_library(), options.compute_capabilities)


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
    runtime, _ = choose(options, precision)
    if runtime is None:
        return []
    capabilities = options.compute_capabilities
    if options.runtime == "auto" and runtime == "tensorrt-rtx" and (here := device_capability()):
        capabilities = (here,)
    (folder / ENGINES).mkdir()
    return [
        build_engine(
            folder / GENERAL,
            batch,
            runtime=runtime,
            output=folder / ENGINES / f"{runtime}.plan",
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
