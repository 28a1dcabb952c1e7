"""What a graph computes in: which tensors are narrow, which stay float32, and why.

Narrow: the products (their weights, their inputs, their outputs) and group attention's query, key and value,
because that is where the time goes. float32 always: instance norm, arcsinh and sinh, because a covariate flag
is 1e5 before arcsinh; the residual stream, because sums over all layers outgrow float16; the statistics of
the norms; the softmax; the scaling of the output. int8 rounds the operands of the blocks' products and of the
embedding's last. What reads the series and what writes the forecast is not rounded; it takes little time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto

from chronos_export.graph.dtypes import dtype_named


@dataclass(frozen=True)
class Precision:
    """The type of the narrow tensors.

    Attributes:
        name: As `--dtype` takes it. "tf32" is float32 in the graph and a permission to TensorRT.
        onnx_type: Element type in the graph.
        numpy_type: Element type of the weights.
        torch_type: The type that upstream is run in to see what the narrowing costs it.
        is_quantized: Whether the large products are of 8-bit integers; all else is `onnx_type`.
    """

    name: str
    onnx_type: int
    numpy_type: Any
    torch_type: torch.dtype
    is_quantized: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether a graph on a CPU is held to float32."""
        return not (self.is_narrow or self.is_quantized)

    @property
    def is_narrow(self) -> bool:
        """Whether the graph has tensors of 16 bits."""
        return bool(self.onnx_type != TensorProto.FLOAT)


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", TensorProto.FLOAT, np.float32, torch.float32),
        Precision("tf32", TensorProto.FLOAT, np.float32, torch.float32),
        Precision("float16", TensorProto.FLOAT16, np.float16, torch.float16),
        Precision("bfloat16", TensorProto.BFLOAT16, ml_dtypes.bfloat16, torch.bfloat16),
        Precision("int8", TensorProto.FLOAT, np.float32, torch.float32, is_quantized=True),
    )
}


def precision_of(name: str) -> Precision:
    """Return the precision of a `--dtype`, by its name or an alias.

    Raises:
        UsageError: There is no such dtype.
    """
    return PRECISIONS[dtype_named(name)]
