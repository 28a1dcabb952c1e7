"""Which engine an export builds, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chronos_export.engine.requirements import RTX_CAPABILITIES, check_machine
from chronos_export.errors import UsageError
from chronos_export.graph.dtypes import DTYPES, QUANTIZED
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.packages import is_installed
from chronos_export.machine.tensorrt import MODULES

RUNTIMES = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
PLUGIN = "plugin"


@dataclass(frozen=True)
class EngineOptions:
    """What to build engines for.

    Attributes:
        runtime: One of `RUNTIMES`.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        memory: Bytes of the GPU that calls may take; see `profiles.memory_for` for what None takes.
        compute_capabilities: For TensorRT-RTX: GPUs like "8.9"; if empty, all it can build for, or with
            `auto` the one of this machine.
        attention: One of `requirements.ATTENTIONS`; the plugin if None. "none" builds no engine for groups.
        timing_cache: Read and extended by TensorRT, or None.
    """

    runtime: str = "auto"
    context: int | None = None
    horizon: int | None = None
    memory: int | None = None
    compute_capabilities: Sequence[str] = ()
    attention: str | None = None
    timing_cache: Path | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given and that an engine alone heeds, as the command line calls them."""
        heeded = {
            "--context": self.context,
            "--horizon": self.horizon,
            "--memory": self.memory,
            "--attention": self.attention,
            "--compute-capability": self.compute_capabilities or None,
            "--timing-cache": self.timing_cache,
        }
        return [name for name, value in heeded.items() if value is not None]


def choose(
    options: EngineOptions, batch: Sequence[int] = (), dtype: str = "float32"
) -> tuple[str | None, str]:
    """Return the runtime to build an engine for, or None, and one line saying why.

    `auto` builds for the GPU of this machine with whichever TensorRT can. A runtime that is asked for by name
    is always returned; `require` says whether this machine can build it.

    Args:
        options: What is asked for.
        batch: Row counts, one profile each.
        dtype: One of `graph.dtypes.DTYPES`.

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
    chosen, why = _auto(options, batch, dtype)
    if chosen is None:
        return None, f"no engine{', so --batch had no effect' if batch else ''}: {why}"
    return chosen, why


def _auto(options: EngineOptions, batch: Sequence[int], dtype: str) -> tuple[str | None, str]:
    """What `auto` builds, and why this or why nothing."""
    if dtype in QUANTIZED:
        return None, f"{dtype} is for CPUs"
    capability = device_capability()
    if capability is None:
        return None, "this machine has no GPU (--runtime tensorrt-rtx --batch 100 builds ahead of time)"
    if not batch:
        return None, f"none was asked for (--batch 100 builds one for compute capability {capability})"
    obstacles = {name: _obstacle(name, capability, options) for name in MODULES}
    chosen = next((name for name, obstacle in obstacles.items() if not obstacle), None)
    if chosen is None:
        return None, "; ".join(obstacles.values())
    others = [why or f"{name} is not needed beside it" for name, why in obstacles.items() if name != chosen]
    return chosen, "; ".join([f"{chosen} for compute capability {capability}", *others])


def capabilities_of(options: EngineOptions, runtime: str) -> Sequence[str]:
    """Return the GPUs that an engine is built for, () for all that it can be: with `auto`, the one here."""
    here = device_capability() if options.runtime == "auto" and runtime == "tensorrt-rtx" else None
    return (here,) if here else options.compute_capabilities


def _obstacle(runtime: str, capability: str, options: EngineOptions) -> str:
    """Why `auto` does not build for a runtime here, or ""."""
    if not is_installed(runtime):
        return f"{runtime} is not installed"
    if runtime == "tensorrt" and options.attention in (None, PLUGIN) and plugin_library() is None:
        return "tensorrt needs the plugin (chronos-export plugin build)"
    if runtime == "tensorrt-rtx" and capability not in (options.compute_capabilities or RTX_CAPABILITIES):
        return f"tensorrt-rtx does not build for compute capability {capability}"
    return ""


def require(options: EngineOptions, batch: Sequence[int], dtype: str = "float32") -> None:
    """Refuse at once an engine that cannot be built here, and options that would have no effect.

    Args:
        options: What is asked for.
        batch: Row counts, one profile each.
        dtype: One of `graph.dtypes.DTYPES`.

    Raises:
        UsageError: No such runtime or attention, compute capabilities that cannot be built for, an engine in
            int8 or without row counts, or an option without effect.
        MachineError: A package, the plugin library or a GPU is missing.
    """
    runtime, why = choose(options, batch, dtype)
    if runtime is None:
        _require_effect(options, batch, dtype, why)
        return
    if dtype in QUANTIZED:
        raise UsageError(
            f"{runtime} cannot build {dtype} engines",
            allowed=", ".join(name for name in DTYPES if name not in QUANTIZED),
            fix=f"chronos-export --dtype {dtype} --runtime onnxruntime",
        )
    if not batch:
        raise UsageError(
            f"{runtime} was asked for without --batch: an engine is built for given numbers of rows",
            allowed="one profile for each row count: --batch 100 or --batch 100,2000",
            fix=f"chronos-export --runtime {runtime} --batch 100",
        )
    if options.timing_cache is not None and runtime == "tensorrt-rtx":
        raise UsageError(
            "--timing-cache has no effect: tensorrt-rtx measures nothing when it builds",
            allowed="--timing-cache with --runtime tensorrt",
            fix="leave --timing-cache out",
        )
    check_machine(runtime, options.attention or PLUGIN, plugin_library(), options.compute_capabilities)


def _require_effect(options: EngineOptions, batch: Sequence[int], dtype: str, why: str) -> None:
    """Refuse what only an engine heeds. With `auto`, --batch is a wish: the next machine may have a GPU."""
    idle = options.given
    if batch and options.runtime != "auto":
        idle = ["--batch", *idle]
    if dtype == "tf32":
        idle = ["--dtype tf32", *idle]
    if not idle:
        return
    rows = ",".join(map(str, batch)) or "100"
    instead = "" if dtype in QUANTIZED else f", or build one: --runtime tensorrt-rtx --batch {rows}"
    raise UsageError(
        f"{', '.join(idle)} would have no effect ({why})",
        allowed="only together with an engine",
        fix=f"leave {'it' if len(idle) == 1 else 'them'} out{instead}",
    )
