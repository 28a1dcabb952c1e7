"""How group attention gets into an engine: as our plugin, as standard operators, or as TensorRT's own.

    plugin   one plugin layer a block; linear in the batch
    body     the dense form inlined; quadratic in the batch, needs no plugin library, and checks the plugin
    native   one packed attention a block, from TensorRT 11.1 on; a rival to measure the plugin against

The lanes of `model.onnx`'s own function body need NonZero, whose output has a data-dependent shape:
TensorRT-RTX has no such operator.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from chronos_export.engine.packed_attention import pack_attention
from chronos_export.errors import MachineError, UsageError
from chronos_export.graph.dense_attention import dense_body
from chronos_export.graph.group_attention import nodes_of, num_heads_of
from chronos_export.machine.tensorrt import import_tensorrt

ATTENTIONS = ("plugin", "body", "native")
FIRST_PACKED = (11, 1)


def check_attention(attention: str, target: str) -> None:
    """Refuse what cannot be built; the package of `target` must be installed.

    TensorRT-RTX 1.7 parses packed attention and has no kernel for it: for no GPU, in no type, decomposable or
    not. In the ONNX parser of TensorRT 11.0 the node takes other inputs.

    Raises:
        UsageError: There is no such attention.
        MachineError: It is TensorRT's own, and this TensorRT has none.
    """
    if attention not in ATTENTIONS:
        raise UsageError(f"unknown attention {attention!r}", allowed=", ".join(ATTENTIONS))
    if attention == "native" and (lack := _lack_of_packed_attention(target)):
        raise MachineError(
            f"--attention native cannot be built: {lack}",
            allowed="plugin, body",
            fix=f"chronos-export --attention plugin --target {target} ...",
        )


def _lack_of_packed_attention(target: str) -> str:
    """What is missing, or ""."""
    if target == "tensorrt-rtx":
        return "TensorRT-RTX declares packed attention but has no kernel for it"
    version = str(import_tensorrt(target).__version__)
    if tuple(map(int, version.split(".")[:2])) >= FIRST_PACKED:
        return ""
    return f"packed attention needs TensorRT {'.'.join(map(str, FIRST_PACKED))}; installed is {version}"


def graph_with(attention: str, path: Path, folder: Path, *, tf32: bool = False) -> Path:
    """The graph with group attention as TensorRT shall parse it; for "plugin" without tf32 it is as it was.

    Args:
        attention: One of `ATTENTIONS`.
        path: `model.onnx`, its weights beside it.
        folder: Where any other goes; it refers to the same weights.
        tf32: Whether float32 products may use tf32. TensorRT does not tell its plugins, so their nodes do.

    Returns:
        The path of the graph.
    """
    if attention == "plugin" and not tf32:
        return path
    model = onnx.load(path, load_external_data=False)
    if attention == "plugin":
        _allow_tf32(model)
    elif attention == "body":
        _inline_dense(model)
    else:
        pack_attention(model)
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
