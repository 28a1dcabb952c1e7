"""A small recorder of ONNX nodes: `g.Add(a, b)` appends a node and returns the name of its output.

Names come from the order of the calls and from the scope they are made in, so the same model gives the same
bytes in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chronos_export.graph.precision import Precision

T = TypeVar("T")


class GraphBuilder:
    """Nodes and initializers of one graph, in order.

    Args:
        precision: What `narrow` casts to.
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.scope_name = ""
        self._made: dict[tuple[str, str], Any] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names made inside with `name/`."""
        outer, self.scope_name = self.scope_name, f"{self.scope_name}{name}/"
        try:
            yield
        finally:
            self.scope_name = outer

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """An initializer of the given name, made once."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def once(self, kind: str, x: str, make: Callable[[], T]) -> T:
        """Return what `make` gave when something of this kind was first made of the tensor `x`."""
        if (kind, x) not in self._made:
            self._made[kind, x] = make()
        made: T = self._made[kind, x]
        return made

    def comes_from(self, x: str, kind: str) -> bool:
        """Return whether a node of this kind makes the tensor `x`."""
        return any(x in node.output and node.op_type == kind for node in self.nodes)

    def ints(self, *values: int) -> str:
        """The int64 vector of these values."""
        return self.weight(f"ints_{'_'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def integer(self, value: int) -> str:
        """The int64 scalar."""
        return self.weight(f"int_{value}", np.array(value, dtype=np.int64))

    def number(self, value: float) -> str:
        """The float32 scalar."""
        return self.weight(f"number_{value!r}", np.array(value, dtype=np.float32))

    def narrow(self, x: str) -> str:
        """Cast to the precision of the products; nothing in float32."""
        return str(self.Cast(x, to=self.precision.onnx_type)) if self.precision.is_narrow else x

    def wide(self, x: str) -> str:
        """Cast back to float32; nothing in float32."""
        return str(self.Cast(x, to=TensorProto.FLOAT)) if self.precision.is_narrow else x

    def node(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Append a node.

        Returns:
            The name of its output, or a list of names if it has several.
        """
        name = f"{self.scope_name}{kind}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if not kind[0].isupper():
            raise AttributeError(kind)
        return lambda *inputs, **attributes: self.node(kind, *inputs, **attributes)
