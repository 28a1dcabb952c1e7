"""How group attention gets into an engine: as our plugin or as standard operators.

    plugin   one plugin layer a block; linear in the batch
    body     the dense form inlined; quadratic in the batch, needs no plugin library, and checks the plugin

The lanes of `model.onnx`'s own function body need NonZero, whose output has a data-dependent shape:
TensorRT-RTX has no such operator.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from chronos_export.engine.requirements import NO_ATTENTION
from chronos_export.graph.dense_attention import dense_body
from chronos_export.graph.group_attention import nodes_of, num_heads_of


def graph_with(attention: str, path: Path, folder: Path, *, tf32: bool = False) -> Path:
    """The graph with group attention as TensorRT shall parse it; for "plugin" without tf32 it is as it was.

    Args:
        attention: One of `requirements.ATTENTIONS`, of which `univariate.onnx` knows the last only.
        path: The graph, its weights beside it.
        folder: Where any other goes; it refers to the same weights.
        tf32: Whether float32 products may use tf32. TensorRT does not tell its plugins, so their nodes do.

    Returns:
        The path of the graph.
    """
    if attention == NO_ATTENTION or (attention == "plugin" and not tf32):
        return path
    model = onnx.load(path, load_external_data=False)
    if attention == "plugin":
        _allow_tf32(model)
    else:
        _inline_dense(model)
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    for name in {entry.value for entry in entries if entry.key == "location"}:
        (folder / name).symlink_to(path.absolute().parent / name)
    onnx.save(model, folder / path.name)
    return folder / path.name


def _allow_tf32(model: onnx.ModelProto) -> None:
    for node in nodes_of(model):
        node.attribute.append(onnx.helper.make_attribute("allow_tf32", 1))
    for function in model.functions:
        function.attribute.append("allow_tf32")


def _inline_dense(model: onnx.ModelProto) -> None:
    """Make every runtime inline group attention, in its dense form."""
    heads = num_heads_of(model)
    for node in nodes_of(model):
        # The namespace is what makes TensorRT look for a plugin.
        kept = [a for a in node.attribute if not a.name.startswith("plugin_")]
        del node.attribute[:]
        node.attribute.extend(kept)
    del model.functions[:]
    model.functions.append(dense_body(heads))
