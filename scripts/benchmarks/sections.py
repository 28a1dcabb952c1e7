"""What a run is made of, in the order of its worth; each in a process of its own, see `apart`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

from chronos_export.bench.comparison import GROUP
from chronos_export.engine.plugin_build import build_plugin
from chronos_export.errors import ChronosExportError
from chronos_export.machine.compiled import kernel_library, plugin_folder
from chronos_export.machine.gpu import device_capability

from .cold_start import cold_starts
from .cuda_peers import build_all_engines, cuda_peers, labelled
from .growth import ROWS, growth
from .host import host_times
from .layer import KERNEL, LAYER, LENGTHS, layer_peers, make_layer
from .machine import DTYPES, machine
from .peers import UPSTREAM, answer_of, cpu_peers
from .records import Machine, Record, Start, Timing
from .subject import Subject, name_of, subject
from .timing import Rules, compare
from .work_left import flops_left
from .workloads import workloads

Section = Callable[[], Iterator[Record]]


@dataclass(frozen=True)
class Setting:
    """Sizes of a run.

    Attributes:
        device: "cpu" or "cuda": whose peers and workloads.
        rows: Rows of the large batches, whole groups of 20.
        layers: Encoder blocks.
        rounds: Rounds of every peer on every workload, at least.
        compiled: Whether torch.compile of upstream is among the peers of a CPU.
        is_rehearsal: The smallest sizes, on a CPU whatever the device: all code runs, no number counts.
        work: A folder that sections share.
    """

    device: str
    rows: int
    layers: int
    rounds: int
    compiled: bool
    is_rehearsal: bool
    work: Path

    @property
    def here(self) -> str:
        """Where tensors are."""
        return "cpu" if self.is_rehearsal else self.device

    @property
    def name(self) -> str:
        """Of the weights."""
        return name_of(self.layers, self.is_rehearsal)

    def rehearsed(self) -> Setting:
        """The same in the smallest sizes."""
        return replace(self, rows=40, layers=2, rounds=1, is_rehearsal=True)

    def subject(self, layers: int | None = None) -> Subject:
        """The weights, or ones of another number of layers."""
        layers = layers or self.layers
        return subject(layers, self.work / f"{layers} layers", self.is_rehearsal)


def sections(setting: Setting, found: Machine, names: list[str], with_others: bool) -> dict[str, Section]:
    """Name -> section, after that of the machine.

    Args:
        setting: Sizes.
        found: What the machine is.
        names: Of the workloads to time.
        with_others: Whether what surrounds the workloads is measured too.
    """
    chosen = partial(_time_workloads, setting, found)
    if setting.device == "cpu":
        others: dict[str, Section] = {
            "host side": partial(_host, setting),
            "growth": partial(_growth, setting),
            "cold starts": partial(_cold_starts, setting),
        }
        return {"workloads": partial(chosen, names), **(others if with_others else {})}
    return {
        "plugin": partial(_compile, setting),
        "engines": partial(_engines, setting),
        **{name: partial(chosen, [name]) for name in names if name != LAYER},
        **({LAYER: partial(_layers, setting, found)} if LAYER in names else {}),
    }


def names_of(setting: Setting) -> list[str]:
    """The workloads that can be asked for by name."""
    every = [work.name for work in workloads(setting.device, setting.rows)]
    return [*every, LAYER] if setting.device == "cuda" else every


def look(setting: Setting) -> Iterator[Machine]:
    """The section of the machine."""
    yield machine(setting.here, 0.01 if setting.is_rehearsal else 1.5)


def _time_workloads(setting: Setting, found: Machine, names: list[str]) -> Iterator[Timing]:
    weights = setting.subject()
    peers = list(cpu_peers(weights, setting.compiled)) if setting.device == "cpu" else []
    for work in workloads(setting.device, setting.rows):
        if work.name not in names:
            continue
        flops = flops_left(weights.model.config, work)
        if setting.device == "cpu":
            yield from compare(peers, work, _rules(setting), flops / found.peak("float32"), say=say)
            continue
        few = work.pieces(work.cut(2 * GROUP)[:1])[0]
        right = answer_of(weights.model)(few)
        for dtype in DTYPES:
            rules = _rules(setting, labelled(UPSTREAM, dtype))
            contenders = cuda_peers(weights, dtype, work.rows, setting.here)
            yield from compare(contenders, work, rules, flops / found.peak(dtype), right, say)


def _rules(setting: Setting, baseline: str = Rules.baseline, quick: float = Rules.quick) -> Rules:
    quick = 0 if setting.is_rehearsal else quick
    return Rules(setting.rounds, quick=quick, baseline=baseline, device=setting.here)


def _layers(setting: Setting, found: Machine) -> Iterator[Timing]:
    tokens, heads, lengths = (3, 2, (1, 20)) if setting.is_rehearsal else (97, 12, LENGTHS)
    for dtype in DTYPES:
        for length in lengths:
            layer = make_layer(dtype, length, setting.rows, tokens, heads, setting.here)
            ideal = layer.bytes_moved / found.bandwidth if found.bandwidth else None
            yield from compare(layer_peers(layer), layer, _rules(setting, KERNEL, quick=1), ideal, say=say)


def _compile(setting: Setting) -> Iterator[Start]:
    """The kernel and, with TensorRT's headers, the plugin, unless they are there."""
    if setting.is_rehearsal or kernel_library():
        return
    begin, steps, note = perf_counter(), dict[str, float](), ""
    capability = device_capability() or ""
    try:
        built = build_plugin(None, plugin_folder(), architectures=[capability.replace(".", "")])
        steps["compile"] = perf_counter() - begin
        note = "" if built.tensorrt else "the kernel alone: no TensorRT headers"
    except ChronosExportError as error:
        note = str(error).splitlines()[0]
    yield Start("kernel and plugin", "compiled", steps, note)


def _engines(setting: Setting) -> Iterator[Start]:
    rows = {work.rows for work in workloads("cuda", setting.rows)}
    yield from build_all_engines(setting.subject(), tuple(rows), setting.is_rehearsal)


def _host(setting: Setting) -> Iterator[Record]:
    weights = setting.subject()
    yield from host_times(cpu_peers(weights), weights, min(setting.rows, 40), say)


def _growth(setting: Setting) -> Iterator[Record]:
    if setting.is_rehearsal:
        yield from growth(setting.subject(), say, (20, 40), Rules(1, quick=0))
    else:
        yield from growth(setting.subject(2), say, ROWS)


def _cold_starts(setting: Setting) -> Iterator[Record]:
    yield from cold_starts(setting.name, setting.subject().checkpoint, say)


def say(text: str) -> None:
    """Tell what is being timed."""
    print(text, file=sys.stderr, flush=True)
