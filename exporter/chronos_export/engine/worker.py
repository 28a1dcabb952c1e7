"""The process that builds one engine: `python -m chronos_export.engine_worker`, driven by `engine.py`.

TensorRT aborts rather than raises, holds gigabytes, and is deaf to Ctrl-C while it compiles. A process of its
own makes an abort an error message, frees the memory, tells the peak, and can be killed at any moment.

In: one line of JSON on stdin, the `Job`; the process ends when stdin does, so it cannot outlive its parent.
Out: lines of JSON on stdout, {"progress": [phase, fraction]}, {"warning": text}, {"error": [class, summary,
allowed, fix]} or {"done": {...}}.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from chronos_export.engine.listeners import make_logger, make_monitor
from chronos_export.engine.timing_cache import TimingCache
from chronos_export.errors import BuildError, ChronosExportError, UsageError
from chronos_export.machine import tensorrt_plugin as trt_plugin
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.tensorrt import import_tensorrt

Say = Any


@dataclass(frozen=True)
class Job:
    """What to build, of a graph with so many blocks; attention is one of `requirements.ATTENTIONS`.

    Paths are absolute; shapes are by input name, one (min, opt, max) per profile. `layers` is where the list
    of the engine's layers goes, or None.
    """

    onnx: str
    plan: str
    links: str
    runtime: str
    plugin: str | None
    attention: str
    blocks: int
    shapes: list[dict[str, list[list[int]]]]
    compute_capabilities: list[str]
    tf32: bool
    timing_cache: str | None
    layers: str | None = None


def main() -> None:
    """Read the job, build, say what happened; never leaves a traceback behind a deliberate error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What TensorRT prints must not mix with the events.

    def say(**event: Any) -> None:
        print(json.dumps(event), file=out, flush=True)

    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    try:
        say(done=build(job, say))
    except ChronosExportError as error:
        say(error=[type(error).__name__, error.summary, error.allowed, error.fix])
    out.flush()
    os._exit(0)  # TensorRT's destructors race with its plugins' at interpreter exit.


def _end_with(parent: IO[str]) -> None:
    parent.read()
    os._exit(1)


def build(job: Job, say: Say) -> dict[str, Any]:
    """ONNX -> plan file.

    Returns:
        tensorrt_version, compute_capabilities, plugin_layers, scratch_bytes (of each profile, or [] where
        TensorRT does not tell) and peak_rss_bytes of the engine built.

    Raises:
        MachineError: The TensorRT package or the plugin is missing.
        BuildError: The graph cannot be parsed, the attention asked for was not taken, or the build failed.
        UsageError: A compute capability TensorRT cannot build for.
    """
    trt = import_tensorrt(job.runtime, Path(job.links))
    logger = make_logger(trt)
    library = Path(job.plugin) if job.plugin else None
    plugin = trt_plugin.register(trt, library) if job.attention == "plugin" else None
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    say(progress=["parse", 0.0])
    if not parser.parse_from_file(job.onnx):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BuildError(f"{job.runtime} cannot parse {job.onnx}: {reasons}")
    plugin_layers = _check_layers(network, job)
    config = builder.create_builder_config()
    capabilities = _set_targets(trt, config, job)
    if not job.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for shapes in job.shapes:
        profile = builder.create_optimization_profile()
        for name, (least, typical, most) in shapes.items():
            profile.set_shape(name, least, typical, most)
        config.add_optimization_profile(profile)
    if job.layers:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = make_monitor(trt, say)
    version = str(trt.__version__)
    cache = TimingCache(config, job.timing_cache, job.runtime, version, lambda text: say(warning=text))
    plan = builder.build_serialized_network(network, config)
    if problems := trt_plugin.problems_of(plugin):
        raise BuildError("; ".join(problems))
    if plan is None:
        raise BuildError(f"{job.runtime} could not build the engine: {logger.errors()}")
    with Path(job.plan).open("wb") as file:
        file.write(memoryview(plan))
    cache.save()
    if job.layers:
        Path(job.layers).write_text(logger.layers)
    scratch = logger.scratch_bytes
    return {
        "tensorrt_version": version,
        "compute_capabilities": capabilities,
        "plugin_layers": plugin_layers,
        "scratch_bytes": scratch if len(scratch) == len(job.shapes) else [],
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _network_flags(trt: Any) -> int:
    """Strongly typed, in the versions where that is still a choice."""
    flags = trt.NetworkDefinitionCreationFlag.__members__
    return 1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0


def _check_layers(network: Any, job: Job) -> int:
    """The number of plugin layers, one a block where the plugin was asked for.

    Where TensorRT does not know an operator it builds the function body, and says nothing.
    """
    kinds = Counter(network.get_layer(i).type.name for i in range(network.num_layers))
    found, wanted = kinds["PLUGIN_V3"], job.blocks if job.attention == "plugin" else 0
    if found != wanted:
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise BuildError(
            f"the graph has {job.blocks} GroupAttention nodes,"
            f" and TensorRT made {found} plugin layers, not {wanted}; its network holds {held}",
            allowed="one layer per node for --attention plugin, none for --attention body",
            fix="chronos-export plugin build" if job.attention == "plugin" else "",
        )
    return found


def _set_targets(trt: Any, config: Any, job: Job) -> list[str]:
    if job.runtime == "tensorrt":
        return [device_capability() or "unknown"]
    members = trt.ComputeCapability.__members__.items()
    known = {_dotted(name): value for name, value in members if name[2:].isdigit()}
    unknown = [wanted for wanted in job.compute_capabilities if wanted not in known]
    if unknown:
        raise UsageError(
            f"{job.runtime} {trt.__version__} cannot build for compute capability {', '.join(unknown)}",
            allowed=", ".join(known),
        )
    config.num_compute_capabilities = len(job.compute_capabilities)
    for index, wanted in enumerate(job.compute_capabilities):
        config.set_compute_capability(known[wanted], index)
    return job.compute_capabilities


def _dotted(name: str) -> str:
    """SM120 -> 12.0"""
    return re.sub(r"^SM(\d+)(\d)$", r"\1.\2", name)


def peak_rss_bytes() -> int:
    """The most memory this process ever held, unlike getrusage not counting what it was forked from."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
