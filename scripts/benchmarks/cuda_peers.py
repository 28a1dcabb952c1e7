"""The ways to answer a batch on a GPU, one dtype at a time, engines first. Rows come from the host."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.hashing import hash_file
from chronos_export.bench.comparison import CONTEXT, GROUP, HORIZON
from chronos_export.engine.building import build_engines
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import ChronosExportError, MachineError
from chronos_export.graph.precision import PRECISIONS
from chronos_export.graph_contract import GENERAL, UNIVARIATE
from chronos_export.machine.compiled import plugin_library
from chronos_export.model.cuda_kernel import register_built
from chronos_export.model.rewrite import rewrite
from chronos_export.progress import ignore
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.opening import LEAST, WHOLE_BATCH
from chronos_export.runtime.session import Folder, Session
from chronos_export.runtime.tensorrt_loading import LoadedEngine, load_engine, why_not_here
from chronos_export.runtime.tensorrt_session import GRAPHS, TensorRtSession

from .cold_start import engine_note
from .machine import DTYPES, NARROW
from .peers import (
    CONTIGUOUS,
    OURS,
    UPSTREAM,
    UPSTREAM_BEST,
    Answer,
    Peer,
    accelerated,
    answer_of,
    session_answer,
)
from .records import Start
from .subject import Subject
from .timing import tf32
from .variants import contiguous_mask

ENGINE, REWRITTEN, ACCELERATED = "ours, engine", "ours, rewritten model", "ours, PyTorch (accelerate)"
CAPTURED, COMPILED = "in one CUDA graph", "torch.compile"
SIZES = (20, 40, 100, 200, 400)
LONGEST = 2048  # steps, of the ragged rows
INFO = "engine.json"


def labelled(name: str, dtype: str) -> str:
    """The name of a peer in a dtype."""
    return name if dtype == "float32" else f"{name}, {dtype}"


def cuda_peers(subject: Subject, dtype: str, rows: int, device: str) -> Iterator[Peer]:
    """Everything that might run on a GPU in a dtype; one that cannot says why when it is opened.

    Args:
        subject: The weights.
        dtype: One of `machine.DTYPES`.
        rows: Of the workload. For few of them launching takes the time, so what spares launches is tried too.
        device: "cuda", or "cpu" for a rehearsal.
    """
    few, on_gpu = rows <= GROUP, device == "cuda"
    model = cache(lambda: copy.deepcopy(subject.model).to(device))

    def peer(name: str, make: Callable[[], Any], sizes: tuple[int, ...] = ()) -> Peer:
        return Peer(labelled(name, dtype), _in_dtype(make, dtype, device), dtype, sizes)

    def session(name: str, opened: Callable[[], tuple[Session, Limits]]) -> Peer:
        return Peer(labelled(name, dtype), lambda: session_answer(subject, *opened()), dtype, session=opened)

    yield session(f"{ENGINE} {CAPTURED}" if few else ENGINE, lambda: open_engine(subject, dtype))
    if few:
        yield session(ENGINE, lambda: open_engine(subject, dtype, graphs=0))
        if on_gpu:
            yield peer(
                f"{REWRITTEN} {CAPTURED}", lambda: _Rewritten(subject, dtype, device, is_captured=True)
            )
    yield peer(REWRITTEN, lambda: _Rewritten(subject, dtype, device))
    yield peer(ACCELERATED, lambda: _with_kernel(accelerated(model()), device))
    if dtype != "tf32":
        yield session(OURS, lambda: (OrtSession(Folder(subject.graphs_in(dtype)), "cuda"), _WHOLE))
    upstream = peer(UPSTREAM, model)
    yield upstream
    yield Peer(labelled(UPSTREAM_BEST, dtype), upstream.open, dtype, SIZES)
    yield peer(CONTIGUOUS, lambda: contiguous_mask(model()))
    for mode in ("reduce-overhead", "default") if few and on_gpu else ():
        yield peer(f"upstream, {COMPILED} ({mode})", partial(_Compiled, model, mode))


_WHOLE = Limits(tokens=WHOLE_BATCH, padding=1.0)


def _in_dtype(make: Callable[[], Any], dtype: str, device: str) -> Callable[[], Answer]:
    """A model in PyTorch, made once; narrow types by autocast, as upstream's users do it."""

    @cache
    def opened() -> Answer:
        plain = answer_of(make())

        def answer(work: Any) -> Tensor:
            kind = getattr(torch, dtype) if dtype in NARROW else torch.float32
            with tf32(dtype == "tf32"), torch.autocast(device, kind, enabled=dtype in NARROW):
                return plain(work)

        return answer

    return opened


def _with_kernel(model: Any, device: str) -> Any:
    """The model, once the operator runs the compiled kernel: PyTorch's own would be timed in its place."""
    if device == "cuda" and register_built() is None:
        raise MachineError("the kernel was not compiled: chronos-export plugin build")
    return model


class _Rewritten:
    """The model that is exported, in PyTorch; in narrow types all of its weights are narrow."""

    def __init__(self, subject: Subject, dtype: str, device: str, is_captured: bool = False) -> None:
        narrow = getattr(torch, dtype) if dtype in NARROW else None
        self.device, self.chronos_config = torch.device(device), subject.model.chronos_config
        module = _with_kernel(rewrite(copy.deepcopy(subject.model)).to(device, narrow), device)
        self.run = CudaGraph(module) if is_captured else module

    def __call__(self, context: Tensor, group_ids: Tensor, num_output_patches: int) -> Any:
        steps = self.chronos_config.output_patch_size * num_output_patches
        future = context.new_full((len(context), steps), torch.nan)
        with torch.autocast(self.device.type, enabled=False):
            return SimpleNamespace(quantile_preds=self.run(context, group_ids, future))


class CudaGraph:
    """A module in one CUDA graph, captured anew where the shapes are others; its output is overwritten."""

    def __init__(self, module: Callable[..., Tensor]) -> None:
        self.module, self.shapes = module, list[torch.Size]()

    def __call__(self, *inputs: Tensor) -> Tensor:
        if [x.shape for x in inputs] != self.shapes:
            self._capture(inputs)
        for static, given in zip(self.inputs, inputs, strict=True):
            static.copy_(given)
        self.graph.replay()
        return self.output

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs, self.shapes = [x.clone() for x in inputs], [x.shape for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.module(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = self.module(*self.inputs)


class _Compiled:
    """Upstream under torch.compile."""

    def __init__(self, make: Callable[[], Any], mode: str) -> None:
        torch._dynamo.reset()
        model = make()
        self.device, self.chronos_config = model.device, model.chronos_config
        self.compiled: Any = torch.compile(model, mode=mode)

    def __call__(self, **given: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return self.compiled(**given)


def build_all_engines(subject: Subject, rows: tuple[int, ...], is_rehearsal: bool) -> Iterator[Start]:
    """Build the engines in every dtype, or ahead of time the first ones for a rehearsal; a record each."""
    options = EngineOptions(context=LONGEST, horizon=HORIZON)
    if is_rehearsal:
        options = EngineOptions("tensorrt-rtx", CONTEXT, HORIZON, compute_capabilities=("8.6",))
    for dtype in DTYPES[:1] if is_rehearsal else DTYPES:
        folder = subject.graphs_in(dtype)
        try:
            built = build_engines(folder, sorted(rows), options, PRECISIONS[dtype], ignore)
        except ChronosExportError as error:
            yield Start("engines", dtype, {}, str(error).splitlines()[0])
            continue
        (folder / INFO).write_text(json.dumps([info.as_entry(folder) for info in built]))
        for info in built:
            what, note = f"{dtype}, {info.graph}", f"{info.runtime}, {engine_note(info)}"
            yield Start("engines", what, {"build": info.build_seconds}, note)
        if not built:
            yield Start("engines", dtype, {}, "no TensorRT here can build one: chronos-export doctor")


def open_engine(subject: Subject, dtype: str, graphs: int = GRAPHS) -> tuple[Session, Limits]:
    """The engines of both graphs that `build_all_engines` built.

    Raises:
        MachineError: There are none, or they do not run here.
    """
    file: Path = subject.work / dtype / INFO
    entries = json.loads(file.read_text()) if file.exists() else []
    if not entries:
        raise MachineError("no engine was built, see the engines")
    infos = [EngineInfo.from_entry(entry, file.parent) for entry in entries]
    for info in infos:
        if obstacle := why_not_here(info):
            raise MachineError(obstacle)
    general, alone = (next(info for info in infos if info.graph == graph) for graph in (GENERAL, UNIVARIATE))
    session = TensorRtSession(_loaded(general), _loaded(alone), graphs=graphs)
    limits = replace(Limits(WHOLE_BATCH, least=LEAST), profiles=general.profiles)
    return session, replace(limits, univariate_profiles=alone.profiles)


def _loaded(info: EngineInfo) -> LoadedEngine:
    return load_engine(info, hash_file(info.path).sha256, plugin_library(), "")
