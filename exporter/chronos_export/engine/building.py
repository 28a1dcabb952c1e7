"""ONNX + row counts -> one TensorRT or TensorRT-RTX plan.

A plan holds one optimization profile per row count, its rows fixed, its context and horizon free up to the
limits given. The work is done in a process of its own, see `engine_worker.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import onnx

from chronos_export import errors
from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.hashing import hash_file
from chronos_export.engine.attention import graph_with
from chronos_export.engine.choice import PLUGIN, EngineOptions, capabilities_of, choose
from chronos_export.engine.requirements import RTX_DEFAULT, check_machine
from chronos_export.engine.worker import Job
from chronos_export.errors import BuildError, UsageError
from chronos_export.graph.group_attention import DOMAIN, NAME, nodes_of
from chronos_export.graph.precision import Precision
from chronos_export.graph_contract import GENERAL, INPUTS
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.gpu import driver_version
from chronos_export.progress import Report, Stage, ignore, stage

ENGINES = "engines"
WORKER = [sys.executable, "-m", "chronos_export.engine.worker"]


@dataclass(frozen=True)
class _Graph:
    """What the build needs to know of the ONNX file; a limit is None where the file states none."""

    blocks: int
    context: int | None
    horizon: int | None


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
    runtime, _ = choose(options, batch, precision.name)
    if runtime is None:
        return []
    (folder / ENGINES).mkdir()
    return [
        build_engine(
            folder / GENERAL,
            batch,
            runtime=runtime,
            output=folder / ENGINES / f"{runtime}.plan",
            context=options.context,
            horizon=options.horizon,
            compute_capabilities=capabilities_of(options, runtime),
            attention=options.attention or PLUGIN,
            plugin=plugin_library(),
            tf32=precision.name == "tf32",
            timing_cache=options.timing_cache,
            report=report,
        )
    ]


def build_engine(
    onnx_path: Path,
    profiles: Sequence[int],
    *,
    runtime: str,
    output: Path,
    context: int | None = None,
    horizon: int | None = None,
    compute_capabilities: Sequence[str] = (),
    attention: str = "plugin",
    plugin: Path | None = None,
    tf32: bool = False,
    timing_cache: Path | None = None,
    layers: Path | None = None,
    report: Report = ignore,
) -> EngineInfo:
    """Build one plan with one optimization profile per row count.

    Two builds of the same output do not disturb each other; the one that ends last stays.

    Args:
        onnx_path: `model.onnx`, its weights beside it.
        profiles: Row counts, each fixed in its profile.
        runtime: "tensorrt", for the GPU of this machine; or "tensorrt-rtx", which needs no GPU.
        output: The plan file; its folder must exist. It appears whole or not at all.
        context: Longest context, time steps; the model's own limit if None.
        horizon: Longest horizon, time steps; the model's own limit if None.
        compute_capabilities: For TensorRT-RTX, the GPUs to build for; all of
            `RTX_DEFAULT` if empty.
        attention: One of `requirements.ATTENTIONS`.
        plugin: The compiled plugin library. TensorRT runs the plugin while it builds, so it needs one;
            TensorRT-RTX does not.
        tf32: Whether float32 products may use tf32.
        timing_cache: Read and extended by TensorRT; ignored, with a message, if it cannot be used.
        layers: Where TensorRT's list of the layers of the engine goes, or None.
        report: Called with the events of the stage "engine".

    Raises:
        UsageError: Bad row counts, limits beyond the model's, a compute capability that cannot be built for.
        MachineError: No TensorRT package, no plugin library, no GPU where one is needed, no such attention.
        BuildError: No GroupAttention in the graph, not every one became what was asked, or TensorRT failed.
    """
    check_machine(runtime, attention, plugin, compute_capabilities)
    plugin = plugin if attention == "plugin" else None
    graph = _read_graph(onnx_path)
    rows = _check_profiles(profiles)
    context = _check_limit("context", context, graph.context)
    horizon = _check_limit("horizon", horizon, graph.horizon)
    with (
        stage("engine", report) as running,
        tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.absolute().parent) as work,
    ):
        (links := Path(work, "libraries")).mkdir()
        job = Job(
            onnx=str(graph_with(attention, onnx_path, Path(work), tf32=tf32).absolute()),
            plan=str(Path(work, "plan")),
            links=str(links),
            runtime=runtime,
            plugin=str(plugin.absolute()) if plugin else None,
            attention=attention,
            blocks=graph.blocks,
            shapes=[_shapes(count, context, horizon) for count in rows],
            compute_capabilities=list(compute_capabilities or RTX_DEFAULT),
            tf32=tf32,
            timing_cache=str(timing_cache.absolute()) if timing_cache else None,
            layers=str(layers.absolute()) if layers else None,
        )
        begin = time.perf_counter()
        built = run_job(job, running)
        seconds = time.perf_counter() - begin
        size = Path(job.plan).stat().st_size
        Path(job.plan).replace(output)
    return EngineInfo(
        path=output,
        runtime=runtime,
        attention=attention,
        tensorrt_version=built["tensorrt_version"],
        compute_capabilities=tuple(built["compute_capabilities"]),
        driver=driver_version(),
        plugin_sha256=hash_file(plugin).sha256 if plugin else None,
        profiles=rows,
        context=context,
        horizon=horizon,
        plugin_layers=built["plugin_layers"],
        bytes=size,
        build_seconds=seconds,
        peak_rss_bytes=built["peak_rss_bytes"],
    )


def _read_graph(path: Path) -> _Graph:
    if not path.is_file():
        raise UsageError(f"{path} does not exist", allowed="the model.onnx of an artifact")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public home
        raise BuildError(f"{path} is not an ONNX file: {error}") from error
    names = [value.name for value in model.graph.input]
    if sorted(names) != sorted(INPUTS):
        raise BuildError(f"{path} has the inputs {', '.join(names) or 'none'}", allowed=", ".join(INPUTS))
    nodes = len(nodes_of(model))
    if not nodes:
        raise BuildError(
            f"{path} has no {DOMAIN}::{NAME} node, so it is no graph that engines are built from",
            allowed="the model.onnx of an artifact (univariate.onnx has none)",
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    limits = json.loads(metadata.get("config", "{}")).get("chronos_config", {})
    patches = limits.get("max_output_patches")
    return _Graph(nodes, limits.get("context_length"), patches and patches * limits["output_patch_size"])


def _check_profiles(profiles: Sequence[int]) -> tuple[int, ...]:
    if not profiles or min(profiles) < 1 or len(set(profiles)) < len(profiles):
        raise UsageError(
            f"cannot build for the row counts {', '.join(map(str, profiles)) or '(none)'}",
            allowed="one or more different positive numbers",
        )
    return tuple(profiles)


def _check_limit(name: str, asked: int | None, model: int | None) -> int:
    if asked is None and model is None:
        raise UsageError(f"the graph does not say how long its {name} may be", fix=f"give --{name}")
    limit = asked if asked is not None else model
    assert limit is not None
    if limit < 1 or (model is not None and limit > model):
        allowed = f"1 to {model} time steps" if model else "at least one time step"
        raise UsageError(f"{name} {limit} is outside what the model can do", allowed=allowed)
    return limit


def _shapes(rows: int, context: int, horizon: int) -> dict[str, list[list[int]]]:
    """(min, opt, max) of every input; throughput matters most at the limits, so they are the optimum."""
    return {
        "context": [[rows, 1], [rows, context], [rows, context]],
        "group_ids": [[rows], [rows], [rows]],
        "future_covariates": [[rows, 1], [rows, horizon], [rows, horizon]],
    }


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
            worker.stdin.write(json.dumps(asdict(job)) + "\n")
            worker.stdin.flush()
            return _follow(worker.stdout, running) or _fail(worker.wait(), log, job)
        finally:
            worker.kill()
            worker.wait()
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
