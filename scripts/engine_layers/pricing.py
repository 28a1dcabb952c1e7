"""What kind of work a layer is, and how long it takes at least on a GPU that does nothing but its best."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .devices import Device
from .listing import Layer, View
from .sizes import Call, Sizes, block_of

KINDS = ("gemm", "attention", "plugin", "norm", "copy", "other")

_MOVES = {"Resh", "Tran", "Move", "Repl", "Conc", "Slic", "Cast", "Gath"}
_NORM = re.compile(r"(^|/)\w*norm/")


@dataclass(frozen=True)
class Cost:
    """What a layer is asked to do.

    Attributes:
        layer: Which.
        kind: One of `KINDS`.
        block: The block it belongs to, or None.
        bytes: Read and written.
        flops: Multiplications and additions in products.
        moved: Numbers written.
    """

    layer: Layer
    kind: str
    block: int | None
    bytes: int
    flops: int
    moved: int

    def seconds(self, device: Device, dtype: str) -> float:
        """Return the least time: that of the memory or that of the products, whichever is longer."""
        return max(self.bytes / device.bandwidth, self.flops / device.rate(dtype))


def price(layers: list[Layer], call: Call) -> list[Cost]:
    """Return the cost of every layer of an engine in one call."""
    sizes, costs = Sizes(layers, call), list[Cost]()
    block = None
    for layer in layers:
        kind = kind_of(layer)
        block = block_of(layer) if layer.nodes else block  # a copy is of what stands before it
        touched = (*layer.inputs, *layer.constants, *layer.outputs)
        moved = max(map(sizes.elements, layer.outputs), default=0)
        flops = _flops(layer, kind, sizes, call)
        costs.append(Cost(layer, kind, block, sum(map(sizes.bytes, touched)), flops, moved))
    return costs


def kind_of(layer: Layer) -> str:
    """Return one of `KINDS`."""
    if layer.type in ("gemm", "runtime_fusion"):
        return "gemm"
    if layer.type == "custom_layer":
        return "plugin"
    if "mha" in layer.name:
        return "attention"
    steps = re.match(r"__myl_(\w+?)_myl\d", layer.name)
    if steps and set(re.findall(r"[A-Z][a-z]*", steps[1])) <= _MOVES:
        return "copy"
    return "norm" if any(map(_NORM.search, layer.nodes)) else "other"


def _flops(layer: Layer, kind: str, sizes: Sizes, call: Call) -> int:
    if kind == "gemm":
        return _product_flops(layer, sizes)
    written = sizes.elements(layer.outputs[0]) if layer.outputs else 0
    if kind == "plugin":
        return 4 * written * call.group
    return 4 * written * call.tokens if kind == "attention" else 0


def _product_flops(layer: Layer, sizes: Sizes) -> int:
    """2 x rows x columns x what is summed over, which is the last extent but one of the right operand."""
    weights = [view for view in layer.constants if len(view.dims) > 1 and view.dims[-2] > 1]
    right: View = weights[0] if weights else layer.inputs[1]
    summed = right.dims[-2] if right.dims[-2] > 0 else sizes.call.tokens
    return 2 * sizes.elements(layer.outputs[0]) * summed


def blocks_of(costs: Iterable[Cost]) -> list[list[Cost]]:
    """Return the layers of each block, the first block first."""
    costs = list(costs)
    last = max((cost.block for cost in costs if cost.block is not None), default=-1)
    return [[cost for cost in costs if cost.block == number] for number in range(last + 1)]
