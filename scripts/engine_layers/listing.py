"""TensorRT's list of the final layers of an engine, read into records.

    Name: __myl_Resh_myl1_41, LayerType: kgen, Inputs: [ { Name: a, Dimensions: [-1,768], ... Datatype: Float
    ... }], Constants: [...], Outputs: [...], TacticName: ..., StreamId: 0, Metadata: [ONNX Layer: q/MatMul_9]

A layer that lists no tensors only orders the others or computes a shape, and is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BYTES = {"Float": 4, "BFloat16": 2, "Half": 2, "Int64": 8, "Int32": 4, "Bool": 1, "Int8": 1}

_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\],"
    r" Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<rest>.*)"
)
_VIEW = re.compile(r"Name: (?P<name>.*?), Dimensions: \[(?P<dims>[^\]]*)\], .*?Datatype: (?P<dtype>\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_NO_KERNEL = ("signal", "wait", "shape_call", "reshape", "cast", "ShapeHostToDevice")


@dataclass(frozen=True)
class View:
    """What a layer reads or writes of a tensor.

    Attributes:
        name: Of the tensor.
        dims: Extents; -1 is one that depends on the call.
        dtype: As TensorRT calls it.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str

    @property
    def bytes_each(self) -> int:
        """Size of an element."""
        return BYTES[self.dtype]


@dataclass(frozen=True)
class Layer:
    """One kernel of an engine.

    Attributes:
        name: TensorRT's.
        type: "gemm", "kgen" (generated, fused from what its name says), "runtime_fusion" (a product and what
            was fused into it) or "custom_layer" (a plugin).
        inputs: What it reads that the call computed.
        constants: What it reads of the weights.
        outputs: What it writes.
        nodes: Names of the nodes of the graph that it computes.
    """

    name: str
    type: str
    inputs: tuple[View, ...]
    constants: tuple[View, ...]
    outputs: tuple[View, ...]
    nodes: tuple[str, ...]


def read_layers(text: str) -> list[Layer]:
    """Return the kernels that `text` lists for its first profile, in order."""
    matches = map(_LAYER.match, text.partition("\nI/O Tensors:")[0].splitlines())
    return [_layer(match) for match in matches if match and match["type"] not in _NO_KERNEL]


def _layer(match: re.Match[str]) -> Layer:
    inputs, constants, outputs = (
        tuple(map(_view, _VIEW.finditer(match[which]))) for which in ("inputs", "constants", "outputs")
    )
    nodes = tuple(_NODE.findall(match["rest"]))
    return Layer(match["name"], match["type"], inputs, constants, outputs, nodes)


def _view(match: re.Match[str]) -> View:
    extents = (int(extent) for extent in match["dims"].split(",") if extent)
    return View(match["name"], tuple(extents), match["dtype"])
