"""ONNX + row counts -> one TensorRT or TensorRT-RTX plan.

A plan holds the profiles of `profiles.plan_profiles`; rows, context and horizon are free up to their limits.
The work is done in a process of its own, see `worker.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from chronos_export import errors
from chronos_export.artifact.engine_info import EngineInfo, Profile
from chronos_export.artifact.hashing import hash_file
from chronos_export.engine.attention import graph_with
from chronos_export.engine.choice import PLUGIN, EngineOptions, capabilities_of, choose
from chronos_export.engine.profiles import in_gib, memory_for, plan_profiles
from chronos_export.engine.requirements import NO_ATTENTION, RTX_DEFAULT, check_machine
from chronos_export.engine.source_graph import SourceGraph, read_graph
from chronos_export.engine.worker import Job
from chronos_export.errors import BuildError, UsageError
from chronos_export.graph.precision import Precision
from chronos_export.graph_contract import GENERAL, UNIVARIATE
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.gpu import device_capability, driver_version
from chronos_export.progress import Report, Stage, ignore, stage

ENGINES = "engines"
WORKER = [sys.executable, "-m", "chronos_export.engine.worker"]


def build_engines(
    folder: Path, batch: Sequence[int], options: EngineOptions, precision: Precision, report: Report
) -> list[EngineInfo]:
    """Build what `options` ask for: an engine for every graph, or for univariate rows alone.

    Args:
        folder: Where the graphs are; the plans go to `engines/` in it.
        batch: Row counts, one profile each.
        options: What to build for.
        precision: What the graphs compute in; "tf32" lets float32 products use tf32.
        report: Told of progress.
    """
    runtime, _ = choose(options, batch, precision.name)
    if runtime is None:
        return []
    (folder / ENGINES).mkdir()
    graphs = {GENERAL: runtime, UNIVARIATE: f"{runtime}-univariate"}
    if options.attention == NO_ATTENTION:
        del graphs[GENERAL]
    return [
        build_engine(
            folder / graph,
            batch,
            runtime=runtime,
            output=folder / ENGINES / f"{name}.plan",
            context=options.context,
            horizon=options.horizon,
            memory=options.memory,
            compute_capabilities=capabilities_of(options, runtime),
            attention=options.attention or PLUGIN,
            plugin=plugin_library(),
            tf32=precision.name == "tf32",
            timing_cache=options.timing_cache,
            report=report,
        )
        for graph, name in graphs.items()
    ]


def build_engine(
    onnx_path: Path,
    batch: Sequence[int],
    *,
    runtime: str,
    output: Path,
    context: int | None = None,
    horizon: int | None = None,
    memory: int | None = None,
    compute_capabilities: Sequence[str] = (),
    attention: str = "plugin",
    plugin: Path | None = None,
    tf32: bool = False,
    timing_cache: Path | None = None,
    layers: Path | None = None,
    report: Report = ignore,
) -> EngineInfo:
    """Build one plan with a profile for every row count.

    Two builds of the same output do not disturb each other; the one that ends last stays.

    Args:
        onnx_path: `model.onnx` or `univariate.onnx`, its weights beside it.
        batch: Row counts.
        runtime: "tensorrt", for the GPU of this machine; or "tensorrt-rtx", which needs no GPU.
        output: The plan file; its folder must exist. It appears whole or not at all.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        memory: Bytes of the GPU that calls may take; see `profiles.memory_for` for what None takes.
        compute_capabilities: For TensorRT-RTX, the GPUs to build for; all of
            `RTX_DEFAULT` if empty.
        attention: One of `requirements.ATTENTIONS`; of no meaning for `univariate.onnx`.
        plugin: The compiled plugin library. TensorRT runs the plugin while it builds, so it needs one;
            TensorRT-RTX does not.
        tf32: Whether float32 products may use tf32.
        timing_cache: Read and extended by TensorRT; ignored, with a message, if it cannot be used.
        layers: Where TensorRT's list of the layers of the engine goes, or None.
        report: Called with the events of the stage "engine".

    Raises:
        UsageError: Bad row counts, limits beyond the model's or the memory, a compute capability that cannot
            be built for.
        MachineError: No TensorRT package, no plugin library, no GPU where one is needed, no such attention.
        BuildError: No graph of ours, not every GroupAttention became what was asked, or TensorRT failed.
    """
    graph = read_graph(onnx_path)
    attention = NO_ATTENTION if graph.is_univariate else attention
    check_machine(runtime, attention, plugin, compute_capabilities)
    plugin = plugin if attention == "plugin" else None
    context, horizon = graph.limit("context", context), graph.limit("horizon", horizon)
    memory = memory or memory_for(
        runtime == "tensorrt" or list(compute_capabilities) == [device_capability()]
    )
    sizes = replace(graph.sizes, dense=attention == "body")
    planned = plan_profiles(_check_batch(batch), context, horizon, sizes, memory)
    with (
        stage("engine", report) as running,
        tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.absolute().parent) as work,
    ):
        for profile in planned:
            running.step(None, f"{onnx_path.name}: {profile}, estimated")
        (links := Path(work, "libraries")).mkdir()
        job = Job(
            onnx=str(graph_with(attention, onnx_path, Path(work), tf32=tf32).absolute()),
            plan=str(Path(work, "plan")),
            links=str(links),
            runtime=runtime,
            plugin=str(plugin.absolute()) if plugin else None,
            attention=attention,
            blocks=graph.blocks,
            shapes=[_shapes(graph, profile, horizon) for profile in planned],
            compute_capabilities=list(compute_capabilities or RTX_DEFAULT),
            tf32=tf32,
            timing_cache=str(timing_cache.absolute()) if timing_cache else None,
            layers=str(layers.absolute()) if layers else None,
        )
        begin = time.perf_counter()
        built = run_job(job, running)
        seconds = time.perf_counter() - begin
        profiles = _measured(planned, built["scratch_bytes"], graph, memory)
        size = Path(job.plan).stat().st_size
        Path(job.plan).replace(output)
    return EngineInfo(
        path=output,
        graph=UNIVARIATE if graph.is_univariate else GENERAL,
        runtime=runtime,
        attention=attention,
        tensorrt_version=built["tensorrt_version"],
        compute_capabilities=tuple(built["compute_capabilities"]),
        driver=driver_version(),
        plugin_sha256=hash_file(plugin).sha256 if plugin else None,
        profiles=profiles,
        horizon=horizon,
        memory=memory,
        plugin_layers=built["plugin_layers"],
        bytes=size,
        build_seconds=seconds,
        peak_rss_bytes=built["peak_rss_bytes"],
    )


def _check_batch(batch: Sequence[int]) -> tuple[int, ...]:
    if not batch or min(batch) < 1 or len(set(batch)) < len(batch):
        raise UsageError(
            f"cannot build for the row counts {', '.join(map(str, batch)) or '(none)'}",
            allowed="one or more different positive numbers",
        )
    return tuple(batch)


def _shapes(graph: SourceGraph, profile: Profile, horizon: int) -> dict[str, list[list[int]]]:
    """(min, opt, max) of every input; throughput matters most at the limits, so they are the optimum."""
    rows, context = profile.rows, profile.context
    shapes = {
        "context": [[1, 1], [rows, context], [rows, context]],
        "group_ids": [[1], [rows], [rows]],
        "future_covariates": [[1, 1], [rows, horizon], [rows, horizon]],
    }
    return {name: shapes[name] for name in graph.inputs}


def _measured(
    planned: Sequence[Profile], scratch: Sequence[int], graph: SourceGraph, memory: int
) -> tuple[Profile, ...]:
    """The profiles with the scratch that the builder reserved for each.

    Raises:
        BuildError: One does not fit into the memory, so the estimate was too low.
    """
    if not scratch:
        return tuple(replace(profile, scratch_bytes=None) for profile in planned)
    needed = max(scratch) + 2 * graph.sizes.weights
    if needed > memory:
        raise BuildError(
            f"the engine takes {in_gib(needed)} of the GPU's memory, and may take {in_gib(memory)}",
            fix=f"chronos-export --memory {in_gib(int(needed * 1.1))} ..., or a smaller --batch",
        )
    return tuple(replace(profile, scratch_bytes=took) for profile, took in zip(planned, scratch, strict=True))


def run_job(job: Job, running: Stage) -> dict[str, Any]:
    """Build in a process of its own, which does not outlive this call, whatever ends it.

    Args:
        job: What to build.
        running: Told of progress.

    Returns:
        What `worker.build` returns.

    Raises:
        BuildError: The build failed, or its process died.
        ChronosExportError: See `worker.build`.
    """
    with tempfile.TemporaryFile("w+") as log:
        worker = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C comes to this process, which then ends the worker.
        )
        assert worker.stdin and worker.stdout
        try:
            with suppress(BrokenPipeError):  # it died at once, and `_fail` says of what
                worker.stdin.write(json.dumps(asdict(job)) + "\n")
                worker.stdin.flush()
            return _follow(worker.stdout, running) or _fail(worker.wait(), log, job)
        finally:
            worker.kill()
            worker.wait()
            with suppress(BrokenPipeError):
                worker.stdin.close()
            worker.stdout.close()


def _follow(events: IO[str], running: Stage) -> dict[str, Any] | None:
    for line in events:
        event = json.loads(line)
        if "progress" in event:
            phase, fraction = event["progress"]
            running.step(fraction, phase)
        elif "warning" in event:
            running.step(None, event["warning"])
        elif "error" in event:
            name, summary, allowed, fix = event["error"]
            raise getattr(errors, name)(summary, allowed=allowed, fix=fix)
        else:
            done: dict[str, Any] = event["done"]
            return done
    return None


def _fail(code: int, log: IO[str], job: Job) -> dict[str, Any]:
    """The worker ended without a word: it was killed, aborted, or has a bug."""
    log.seek(0)
    said = log.read()[-2000:].strip() or "it said nothing"
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "; signal 9 usually means that memory ran out" if code == -9 else ""
    raise BuildError(f"the process that built the {job.runtime} engine {how}{hint}: {said}")
