"""What a build must know of an ONNX file before TensorRT sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from chronos_export.engine.profiles import Sizes
from chronos_export.errors import BuildError, UsageError
from chronos_export.graph.group_attention import DOMAIN, NAME, nodes_of
from chronos_export.graph_contract import INPUTS, UNIVARIATE_INPUTS

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class SourceGraph:
    """A graph that engines are built from.

    Attributes:
        inputs: Names of its inputs; without group ids where every row is a group of its own.
        blocks: Its GroupAttention nodes.
        context: The model's longest context, time steps; None where the file states none.
        horizon: The model's longest horizon, time steps; None where the file states none.
        sizes: What its memory depends on; 0 where the file does not state it.
    """

    inputs: tuple[str, ...]
    blocks: int
    context: int | None
    horizon: int | None
    sizes: Sizes

    @property
    def is_univariate(self) -> bool:
        """Whether it is for rows without groups."""
        return self.inputs == UNIVARIATE_INPUTS

    def limit(self, name: str, asked: int | None) -> int:
        """Return the longest `context` or `horizon` of an engine: as asked, or all that the model can do.

        Raises:
            UsageError: More than the model can do, or nobody says.
        """
        model = self.context if name == "context" else self.horizon
        limit = asked if asked is not None else model
        if limit is None:
            raise UsageError(f"the graph does not say how long its {name} may be", fix=f"give --{name}")
        if limit < 1 or (model is not None and limit > model):
            allowed = f"1 to {model} time steps" if model else "at least one time step"
            raise UsageError(f"{name} {limit} is outside what the model can do", allowed=allowed)
        return limit


def read_graph(path: Path) -> SourceGraph:
    """Read `model.onnx` or `univariate.onnx`, without the weights beside it.

    Raises:
        UsageError: There is no such file.
        BuildError: It is not a graph that engines are built from.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", allowed="a graph of an artifact")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no public home
        raise BuildError(f"{path} is not an ONNX file: {error}") from error
    inputs = tuple(value.name for value in model.graph.input)
    if inputs not in (INPUTS, UNIVARIATE_INPUTS):
        allowed = " or ".join(", ".join(names) for names in (INPUTS, UNIVARIATE_INPUTS))
        raise BuildError(f"{path} has the inputs {', '.join(inputs) or 'none'}", allowed=allowed)
    blocks = len(nodes_of(model))
    if (blocks > 0) != (inputs == INPUTS):
        raise BuildError(
            f"{path} has {blocks} {DOMAIN}::{NAME} nodes and the inputs {', '.join(inputs)}",
            allowed="the model.onnx or the univariate.onnx of an artifact",
        )
    return _described(model, inputs, blocks)


def _described(model: onnx.ModelProto, inputs: tuple[str, ...], blocks: int) -> SourceGraph:
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    config = json.loads(metadata.get("config", "{}"))
    limits = config.get("chronos_config", {})
    patch = limits.get("output_patch_size", 1)
    tensors = model.graph.initializer
    sizes = Sizes(
        d_model=config.get("d_model", 0),
        d_ff=config.get("d_ff", 0),
        heads=config.get("num_heads", 0),
        patch=patch,
        quantiles=len(limits.get("quantiles", ())),
        number_bytes=2 if any(tensor.data_type in _NARROW for tensor in tensors) else 4,
        weights=sum(int(e.value) for tensor in tensors for e in tensor.external_data if e.key == "length"),
    )
    patches = limits.get("max_output_patches")
    return SourceGraph(inputs, blocks, limits.get("context_length"), patches and patches * patch, sizes)
