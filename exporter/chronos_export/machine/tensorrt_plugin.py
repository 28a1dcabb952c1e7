"""GroupAttention for TensorRT's plugin registry: the compiled library, or its twin in Python.

The twin answers every question the library answers while an engine is built, so engines for TensorRT-RTX can
be built with neither TensorRT's headers nor a GPU. Both give the same plan, and the plan names neither.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from chronos_export.errors import MachineError
from chronos_export.machine.compiled import PLUGIN_NAME

NAME, VERSION, NAMESPACE = "GroupAttention", "1", "chronos"
_FIX = "chronos-export plugin build"
_INPUTS = 6
_QUERY, _BEGIN, _END, _KEY_MASK = 0, 3, 4, 5
_MAX_HEAD_DIM = 128


def register(trt: Any, library: Path | None) -> object:
    """Make GroupAttention known to TensorRT's registry, and check that it is.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        library: The compiled plugin; None takes the twin in Python.

    Returns:
        What must be kept alive for as long as the registry is used.

    Raises:
        MachineError: The library is missing, is no plugin library, or holds another version of the plugin.
    """
    registry = trt.get_plugin_registry()
    if library is None:
        creator = make_creator(trt)
        registry.register_creator(creator, NAMESPACE)
        return creator
    _check_library(library)
    handle = registry.load_library(str(library))
    if registry.get_creator(NAME, VERSION, NAMESPACE) is None:
        raise MachineError(
            f"{library} registers no {NAMESPACE}::{NAME} of version {VERSION}; {_versions_found(registry)}",
            fix=_FIX,
        )
    return handle


def _check_library(library: Path) -> None:
    """TensorRT refuses an unusable library without a word, so find the words first."""
    if not library.is_file():
        raise MachineError(f"the plugin library {library} does not exist", fix=_FIX)
    try:
        opened = ctypes.CDLL(str(library.absolute()))
    except OSError as error:
        raise MachineError(f"the plugin library cannot be loaded: {error}", fix=_FIX) from error
    if not hasattr(opened, "getCreators"):
        raise MachineError(
            f"{library} is no plugin library that TensorRT can load: it exports no getCreators",
            allowed=f"{PLUGIN_NAME}; the self-registering build is for tools that only dlopen",
            fix=_FIX,
        )


def _versions_found(registry: Any) -> str:
    versions = [creator.plugin_version for creator in registry.all_creators if creator.name == NAME]
    return f"found version {', '.join(versions)}" if versions else "it registers nothing of that name"


def problems_of(registered: object) -> list[str]:
    """What the twin found wrong with the shapes of a network; see `make_creator`."""
    return list(getattr(registered, "problems", ()))


def make_creator(trt: Any) -> Any:
    """The plugin creator in Python; each TensorRT package brings base classes of its own.

    An exception in one of these methods corrupts TensorRT-RTX's heap, so shapes that do not fit are noted in
    the creator's `problems`, and whoever builds the engine must look there.
    """
    floating = (trt.float32, trt.float16, trt.bfloat16)
    problems: dict[str, None] = {}  # TensorRT asks many times.

    class GroupAttention(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):  # type: ignore[misc]
        def __init__(self, num_heads: int, allow_tf32: int) -> None:
            for base in (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime):
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self.num_outputs, self.num_heads, self.allow_tf32 = 1, num_heads, allow_tf32

        def get_capability_interface(self, kind: Any) -> GroupAttention:
            return self

        def clone(self) -> GroupAttention:
            return GroupAttention(self.num_heads, self.allow_tf32)

        def attach_to_context(self, context: Any) -> GroupAttention:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            return _fields(trt, num_heads=[self.num_heads], allow_tf32=[self.allow_tf32])

        def get_output_data_types(self, inputs: list[Any]) -> list[Any]:
            return [inputs[_QUERY]]

        def get_output_shapes(self, inputs: list[Any], shape_inputs: list[Any], builder: Any) -> list[Any]:
            shape = trt.DimsExprs(3)
            for axis in range(3):
                shape[axis] = inputs[_QUERY][axis]
            return [shape]

        def supports_format_combination(self, position: int, tensors: list[Any], num_inputs: int) -> bool:
            tensor = tensors[position].desc
            if num_inputs != _INPUTS or tensor.format != trt.TensorFormat.LINEAR:
                return False
            wanted = {_QUERY: floating, _BEGIN: (trt.int32,), _END: (trt.int32,), _KEY_MASK: (trt.bool,)}
            return tensor.type in wanted.get(position, (tensors[_QUERY].desc.type,))

        def configure_plugin(self, inputs: list[Any], outputs: list[Any]) -> None:
            self._check([x.desc for x in (*inputs, *outputs)])

        def on_shape_change(self, inputs: list[Any], outputs: list[Any]) -> None:
            self._check([*inputs, *outputs])

        def _check(self, tensors: list[Any]) -> None:
            if problem := misfit([tuple(tensor.dims) for tensor in tensors], self.num_heads):
                problems[problem] = None

        def enqueue(self, *_: Any) -> None:
            raise RuntimeError(f"the twin of {NAME} only builds engines; load {PLUGIN_NAME} to run them")

    class GroupAttentionCreator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self.field_names = _fields(trt, num_heads=[], allow_tf32=[])
            self.problems = problems

        def create_plugin(self, name: str, fields: Any, phase: Any) -> GroupAttention | None:
            given = {field.name: int(field.data[0]) for field in fields}
            heads, allow_tf32 = given.get("num_heads", 0), given.get("allow_tf32", 0)
            return GroupAttention(heads, allow_tf32) if heads > 0 and allow_tf32 in (0, 1) else None

    return GroupAttentionCreator()


def _fields(trt: Any, **values: list[int]) -> Any:
    kind = trt.PluginFieldType.INT32
    fields = [trt.PluginField(name, np.array(value, dtype=np.int32), kind) for name, value in values.items()]
    return trt.PluginFieldCollection(fields)


def misfit(shapes: list[tuple[int, ...]], num_heads: int) -> str:
    """Why six inputs and one output do not have the operator's shapes, or "" if they do.

    Args:
        shapes: query, key, value [rows, tokens, heads * dim], segment_begin, segment_end [rows], key_mask
            [rows, tokens], output like query; -1 is an extent not known yet.
        num_heads: Heads in the last dimension.
    """
    query = shapes[_QUERY]
    if len(query) != 3:
        return f"the query of {NAME} has {len(query)} dimensions, not 3"
    rows, tokens, width = query[:1], query[:2], query[2]
    for index, wanted in enumerate((query, query, query, rows, rows, tokens, query)):
        shape = shapes[index]
        if len(shape) != len(wanted) or not all(map(_agree, shape, wanted)):
            return f"tensor {index} of {NAME} is {shape}, not {wanted}"
    head_dim, rest = divmod(width, num_heads)
    if width != -1 and (rest or head_dim % 8 or not 0 < head_dim <= _MAX_HEAD_DIM):
        return f"{NAME} takes heads of 8, 16 .. {_MAX_HEAD_DIM}, not {num_heads} heads in a width of {width}"
    return ""


def _agree(a: int, b: int) -> bool:
    return a == b or -1 in (a, b)
