"""How group attention gets into an engine: as our plugin, or as standard operators.

    plugin   one plugin layer a block; linear in the batch
    body     the dense form inlined; quadratic in the batch, needs no plugin library, and checks the plugin
    native   TensorRT's packed attention: refused, see `check_attention`

The lanes of `model.onnx`'s own function body need NonZero, whose output has a data-dependent shape:
TensorRT-RTX has no such operator.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from chronos_export.dense_attention import dense_body
from chronos_export.errors import MachineError, UsageError
from chronos_export.trt_plugin import NAME, NAMESPACE

ATTENTIONS = ("plugin", "body", "native")


def check_attention(attention: str, target: str) -> None:
    """Refuse what cannot be built.

    TensorRT-RTX 1.7 has the packed form of IAttention in its interface and no kernel for it: a network of
    one such layer, float32 or float16, fails in the builder with "no fused kernel is available on this
    target and no decomposition exists". TensorRT 11.1, whose NvInfer.h declares it too, has been on no
    machine this was tested on, and its mask is one of padded batches, so that dead tokens would have to be
    sorted away before every layer.

    Raises:
        UsageError: There is no such attention.
        MachineError: It is TensorRT's own.
    """
    if attention not in ATTENTIONS:
        raise UsageError(f"unknown attention {attention!r}", allowed=", ".join(ATTENTIONS))
    if attention == "native":
        found = {
            "tensorrt-rtx": "TensorRT-RTX declares packed attention but has no kernel for it",
            "tensorrt": "TensorRT's packed attention (11.1 on) was never verified with this graph",
        }
        raise MachineError(
            f"--attention native cannot be built: {found[target]}",
            allowed="plugin, body",
            fix=f"chronos-export --attention plugin --target {target} ...",
        )


def with_dense_body(path: Path, folder: Path) -> Path:
    """A copy of a graph in which every runtime inlines group attention, in its dense form.

    Args:
        path: `model.onnx`, its weights beside it.
        folder: Where the copy goes; it refers to the same weights.

    Returns:
        The path of the copy.
    """
    model = onnx.load(path, load_external_data=False)
    heads = 0
    for node in model.graph.node:
        if (node.domain, node.op_type) == (NAMESPACE, NAME):
            heads = next(a.i for a in node.attribute if a.name == "num_heads")
            # The namespace is what makes TensorRT look for a plugin.
            kept = [a for a in node.attribute if not a.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
    del model.functions[:]
    model.functions.append(dense_body(heads))
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    for name in {entry.value for entry in entries if entry.key == "location"}:
        (folder / name).symlink_to(path.absolute().parent / name)
    onnx.save(model, folder / path.name)
    return folder / path.name
