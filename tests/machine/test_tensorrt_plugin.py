"""GroupAttention for TensorRT's registry: the twin in Python, and libraries that are not the plugin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chronos_export.engine.building import build_engine
from chronos_export.errors import MachineError
from chronos_export.machine import tensorrt_plugin as trt_plugin
from chronos_export.machine.tensorrt_plugin import misfit
from tests.helpers.cpp import HERE, compile_cpp, needs_compiler
from tests.helpers.engines import make_graph, needs_rtx

# ---- shapes ----

ROWS, TOKENS, WIDTH = 11, 3, 128
WELL_FORMED = [(ROWS, TOKENS, WIDTH)] * 3 + [(ROWS,)] * 2 + [(ROWS, TOKENS), (ROWS, TOKENS, WIDTH)]


def test_well_formed_shapes_fit() -> None:
    assert misfit(WELL_FORMED, 2) == ""


@pytest.mark.parametrize("tensor", range(7))
def test_every_extent_of_every_tensor_counts(tensor: int) -> None:
    for axis in range(len(WELL_FORMED[tensor])):
        for extent, fits in ((-1, True), (WELL_FORMED[tensor][axis] + 1, False)):
            shapes = list(WELL_FORMED)
            shapes[tensor] = tuple(extent if i == axis else n for i, n in enumerate(shapes[tensor]))
            assert (misfit(shapes, 2) == "") is fits, (axis, extent)
    shapes = list(WELL_FORMED)
    shapes[tensor] = (*shapes[tensor], 1)
    assert misfit(shapes, 2)


def test_head_dims_are_multiples_of_8_up_to_128() -> None:
    def fits(width: int, heads: int) -> bool:
        qkv = (ROWS, TOKENS, width)
        return not misfit([qkv, qkv, qkv, (ROWS,), (ROWS,), (ROWS, TOKENS), qkv], heads)

    assert [dim for dim in range(1, 200) if fits(3 * dim, 3)] == list(range(8, 129, 8))
    assert not fits(100, 3)
    assert fits(-1, 3)


# ---- the twin ----


@pytest.fixture(scope="module")
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")


@pytest.fixture(scope="module")
def creator(trt: Any) -> Any:
    return trt_plugin.make_creator(trt)


def make_twin(trt: Any, creator: Any, heads: int = 2, **others: int) -> Any:
    fields = trt_plugin._fields(trt, num_heads=[heads], **{name: [value] for name, value in others.items()})
    return creator.create_plugin("layer", fields, trt.TensorRTPhase.BUILD)


def describe(trt: Any, types: list[Any]) -> list[Any]:
    found = []
    for shape, kind in zip(WELL_FORMED, types, strict=True):
        tensor = trt.DynamicPluginTensorDesc()
        tensor.desc.dims, tensor.desc.type, tensor.desc.format = shape, kind, trt.TensorFormat.LINEAR
        found.append(tensor)
    return found


def test_twin_takes_the_declared_types_and_no_others(trt: Any, creator: Any) -> None:
    twin = make_twin(trt, creator)
    floating = [trt.float32, trt.float16, trt.bfloat16]
    others = [trt.int8, trt.int32, trt.int64, trt.bool, trt.uint8, trt.fp8]
    for kind in floating:
        wanted = [kind] * 3 + [trt.int32] * 2 + [trt.bool, kind]
        for position in range(7):
            accepted = []
            for asked in floating + others:
                tensors = describe(trt, [*wanted[:position], asked, *wanted[position + 1 :]])
                if twin.supports_format_combination(position, tensors, 6):
                    accepted.append(asked)
            assert accepted == (floating if position == 0 else [wanted[position]])
            tensors = describe(trt, wanted)
            tensors[position].desc.format = trt.TensorFormat.CHW32
            assert not twin.supports_format_combination(position, tensors, 6)
        assert not twin.supports_format_combination(0, describe(trt, wanted), 5)


def test_twin_is_serialized_and_copied_whole(trt: Any, creator: Any) -> None:
    twin = make_twin(trt, creator, heads=7, allow_tf32=1)
    fields = [(field.name, int(field.data[0])) for field in twin.get_fields_to_serialize()]
    assert fields == [("num_heads", 7), ("allow_tf32", 1)]
    revived = creator.create_plugin("layer", twin.get_fields_to_serialize(), trt.TensorRTPhase.RUNTIME)
    copies = (revived, twin.clone(), twin.attach_to_context(None))
    assert [(plugin.num_heads, plugin.allow_tf32) for plugin in copies] == [(7, 1)] * 3


def test_twin_needs_heads(trt: Any, creator: Any) -> None:
    nothing = trt.PluginFieldCollection([])
    assert creator.create_plugin("layer", nothing, trt.TensorRTPhase.BUILD) is None
    assert make_twin(trt, creator, heads=0) is None


def test_twin_computes_in_float32_unless_it_is_told(trt: Any, creator: Any) -> None:
    assert make_twin(trt, creator).allow_tf32 == 0
    assert make_twin(trt, creator, allow_tf32=2) is None


def test_twin_does_not_pretend_to_run(trt: Any, creator: Any) -> None:
    with pytest.raises(RuntimeError, match="only builds engines"):
        make_twin(trt, creator).enqueue()


# ---- libraries that are not the plugin ----

EMPTY = """
    extern "C" void* const* getCreators(int& count) { count = 0; return nullptr; }
    extern "C" void setLoggerFinder(void*) {}
"""


def missing(folder: Path) -> Path:
    return folder / "missing.so"


def text(folder: Path) -> Path:
    (folder / "text.so").write_text("no library at all, but long enough to hold a header\n" * 10)
    return folder / "text.so"


def other_machine(folder: Path) -> Path:
    """Our own library's header with the machine type of another architecture."""
    native = compiled(folder, EMPTY).read_bytes()
    (folder / "arm.so").write_bytes(native[:18] + (183).to_bytes(2, "little") + native[20:])
    return folder / "arm.so"


def compiled(folder: Path, code: str) -> Path:
    (folder / "library.cpp").write_text(code)
    return compile_cpp(folder / "library.so", "-shared", "-fPIC", folder / "library.cpp")


def no_plugin_library(folder: Path) -> Path:
    return compiled(folder, "int unrelated;")


def no_creators(folder: Path) -> Path:
    return compiled(folder, EMPTY)


def old_version(folder: Path) -> Path:
    return compile_cpp(folder / "old.so", "-shared", "-fPIC", HERE / "old_version.cpp")


@needs_rtx
@needs_compiler
@pytest.mark.parametrize(
    ("library", "told"),
    [
        (missing, "does not exist"),
        (text, "invalid ELF header"),
        (other_machine, "cannot be loaded"),
        (no_plugin_library, "exports no getCreators"),
        (no_creators, "registers nothing of that name"),
        (old_version, "found version 0"),
    ],
)
def test_unusable_libraries(tmp_path: Path, library: Callable[[Path], Path], told: str) -> None:
    graph = make_graph(tmp_path / "model.onnx")
    with pytest.raises(MachineError, match=told) as raised:
        build_engine(graph, [3], runtime="tensorrt-rtx", output=tmp_path / "a.plan", plugin=library(tmp_path))
    assert raised.value.fix == "chronos-export plugin build"
    assert not (tmp_path / "a.plan").exists()
