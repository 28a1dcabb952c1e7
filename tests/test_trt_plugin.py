"""The plugin for TensorRT: the twin in Python everywhere, the C++ library where TensorRT's headers are.

TENSORRT_INCLUDE_DIR       folder of NvInferRuntime.h, for all that compiles the plugin
TENSORRT_LEAN_PYTHONS      interpreters (separated by :) of environments with tensorrt_lean installed
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chronos_export import plugin_build, trt_plugin
from chronos_export.engine import build_engine
from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.trt_plugin import misfit
from engines import make_graph

HERE = Path(__file__).parent / "plugin"
SOURCE = plugin_build.source_dir()
HEADERS = os.environ.get("TENSORRT_INCLUDE_DIR")
LEAN = [python for python in os.environ.get("TENSORRT_LEAN_PYTHONS", "").split(":") if python]

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="pip install 'chronos-export[rtx]'"
)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiles C++: install g++")
needs_headers = pytest.mark.skipif(
    not HEADERS or not shutil.which("nvcc"),
    reason="compiles the plugin: needs nvcc, and TENSORRT_INCLUDE_DIR, the folder of NvInferRuntime.h",
)


def compile_cpp(output: Path, *arguments: str | Path, compiler: str = "g++") -> Path:
    """Compile with warnings as errors; returns `output`."""
    warnings = ["-Wall", "-Wextra", "-Werror"]
    if compiler == "nvcc":  # knows where CUDA's headers and libraries are
        warnings = [f"-Xcompiler={','.join(warnings)}"]
    command = [compiler, "-std=c++17", "-O1", "-g", *warnings, *map(str, arguments), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


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
    return pytest.importorskip("tensorrt_rtx", reason="pip install 'chronos-export[rtx]'")


@pytest.fixture(scope="module")
def creator(trt: Any) -> Any:
    return trt_plugin.make_creator(trt)


def make_twin(trt: Any, creator: Any, heads: int = 2) -> Any:
    return creator.create_plugin("layer", trt_plugin._fields(trt, [heads]), trt.TensorRTPhase.BUILD)


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
    twin = make_twin(trt, creator, heads=7)
    (field,) = twin.get_fields_to_serialize()
    assert (field.name, int(field.data[0])) == ("num_heads", 7)
    revived = creator.create_plugin("layer", twin.get_fields_to_serialize(), trt.TensorRTPhase.RUNTIME)
    assert [plugin.num_heads for plugin in (revived, twin.clone(), twin.attach_to_context(None))] == [7] * 3


def test_twin_needs_heads(trt: Any, creator: Any) -> None:
    nothing = trt.PluginFieldCollection([])
    assert creator.create_plugin("layer", nothing, trt.TensorRTPhase.BUILD) is None
    assert make_twin(trt, creator, heads=0) is None


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
        build_engine(graph, [3], target="tensorrt-rtx", output=tmp_path / "a.plan", plugin=library(tmp_path))
    assert raised.value.fix == "chronos-export plugin build"
    assert not (tmp_path / "a.plan").exists()


# ---- plugin build ----


def test_headers_that_were_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    monkeypatch.setattr(plugin_build, "USUAL_FOLDERS", (tmp_path,))
    with pytest.raises(MachineError, match=str(tmp_path)) as raised:
        plugin_build.build_plugin(None, tmp_path / "out")
    assert "libnvinfer-headers-dev" in raised.value.fix
    assert "--include-dir" in raised.value.fix
    assert not (tmp_path / "out").exists()


def test_headers_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no NvInferRuntime\.h"):
        plugin_build.build_plugin(tmp_path, tmp_path / "out")
    monkeypatch.setenv("TENSORRT_INCLUDE_DIR", str(tmp_path))
    with pytest.raises(UsageError, match=r"holds no NvInferRuntime\.h"):
        plugin_build.find_headers(None)


def test_headers_are_found_where_packages_put_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    monkeypatch.setattr(plugin_build, "USUAL_FOLDERS", (tmp_path / "no", tmp_path))
    assert plugin_build.find_headers(None) == tmp_path


@pytest.mark.parametrize("tool", ["cmake", "nvcc", "c++"])
def test_a_tool_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: str) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else f"/bin/{name}")
    with pytest.raises(MachineError, match=f"{tool[:3].replace('+', '.')}.* not on PATH"):
        plugin_build.build_plugin(tmp_path, tmp_path / "out")


@pytest.mark.skipif(not shutil.which("nvcc") or not shutil.which("cmake"), reason="needs nvcc and cmake")
def test_headers_of_an_old_version(tmp_path: Path) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    numbers = "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n"
    (tmp_path / "NvInferVersion.h").write_text(numbers)
    with pytest.raises(BuildError, match=r"TensorRT 8\.6; the plugin needs TensorRT"):
        plugin_build.build_plugin(tmp_path, tmp_path / "out", architectures=["90"])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc") or not shutil.which("cmake"), reason="needs nvcc and cmake")
def test_cmake_skips_the_plugin_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(["cmake", "-S", SOURCE, "-B", tmp_path], capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if "TENSORRT_INCLUDE_DIR" in line]
    assert said == ["-- TensorRT plugin: skipped, TENSORRT_INCLUDE_DIR was not given"]
    targets = subprocess.run(
        ["cmake", "--build", tmp_path, "--target", "help"], capture_output=True, text=True, check=True
    )
    assert "chronos_group_attention" in targets.stdout
    assert "trt" not in targets.stdout


# ---- the C++ library ----


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> plugin_build.PluginFiles:
    assert HEADERS
    folder = tmp_path_factory.mktemp("plugin")
    return plugin_build.build_plugin(Path(HEADERS), folder, architectures=["90"])


INCLUDES = [f"-I{SOURCE}", f"-I{SOURCE}/tensorrt", "-isystem", f"{HEADERS}"]
SANITIZE = "-Xcompiler=-fsanitize=address,-fsanitize=undefined"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("harness") / "harness"
    return compile_cpp(output, SANITIZE, *INCLUDES, HERE / "harness.cpp", "-ldl", compiler="nvcc")


@pytest.fixture(scope="module")
def emulated_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unmodified kernel, compiled for the host emulator."""
    output = tmp_path_factory.mktemp("emulated") / "kernel.o"
    source = SOURCE / "group_attention.cu"
    return compile_cpp(output, "-c", "-fPIC", "-Wno-unknown-pragmas", "-xc++", source)


def run_harness(harness: Path, library: Path, how: str) -> subprocess.CompletedProcess[str]:
    # The emulator switches stacks, which AddressSanitizer mentions and does not mind.
    return subprocess.run([harness, library, how], capture_output=True, text=True, check=False, timeout=120)


def link_plugin(output: Path, kernel: Path, plugin: Path, *options: str) -> Path:
    exports = SOURCE / "tensorrt" / "exports.map"
    shared = ["-shared", "-Xcompiler=-fPIC,-fvisibility=hidden", f"-Xlinker=--version-script={exports}"]
    sources = [plugin, SOURCE / "tensorrt" / "creators.cpp", kernel]
    return compile_cpp(output, *shared, *options, *INCLUDES, *sources, compiler="nvcc")


@needs_headers
def test_cpp_plugin_through_tensorrts_interface_with_the_kernel_on_the_host(
    tmp_path: Path, harness: Path, emulated_kernel: Path
) -> None:
    source = SOURCE / "tensorrt" / "plugin.cpp"
    library = link_plugin(tmp_path / "plugin.so", emulated_kernel, source, SANITIZE)
    done = run_harness(harness, library, "host")
    assert (done.returncode, done.stdout) == (0, "0 expectations failed\n"), done.stderr
    assert "runtime error" not in done.stderr


@needs_headers
def test_cpp_plugin_as_published(harness: Path, built: plugin_build.PluginFiles) -> None:
    """On a GPU enqueue runs; without one it fails cleanly, and everything else is the same."""
    done = run_harness(harness, built.tensorrt, "device")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_headers
def test_cpp_library_exports_two_functions_and_links_no_tensorrt(built: plugin_build.PluginFiles) -> None:
    def tool(*command: str | Path) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    symbols = [line.split()[-1] for line in tool("nm", "-D", "--defined-only", built.tensorrt).splitlines()]
    assert sorted(symbols) == ["getCreators", "setLoggerFinder"]
    for library, wanted in ((built.tensorrt, False), (built.kernel, False), (built.dlopen, True)):
        needed = [line for line in tool("readelf", "-d", library).splitlines() if "NEEDED" in line]
        assert any("nvinfer" in line for line in needed) is wanted
        assert not any("cudart" in line or "RUNPATH" in line for line in needed)


MUTANTS = {
    "key is the query": ("params.key = inputs[kKey]", "params.key = inputs[kQuery]"),
    "value is the key": ("params.value = inputs[kValue]", "params.value = inputs[kKey]"),
    "begin is the end": ("inputs[kSegmentBegin])", "inputs[kSegmentEnd])"),
    "mask without its rows": ("params.key_mask_row_stride = tokens", "params.key_mask_row_stride = 0"),
    "rows without their tokens": ("packed{tokens * width, width", "packed{width, width"),
    "one token too few": ("params.tokens = static_cast<int32_t>(tokens)", "params.tokens = tokens - 1"),
    "float16 is bfloat16": ("return CHRONOS_FLOAT16", "return CHRONOS_BFLOAT16"),
    "kernel's answer is lost": (
        "return chronos_group_attention(&params, stream);",
        "chronos_group_attention(&params, stream); return 0;",
    ),
    "output has the mask's type": ("outputs[0] = inputs[kQuery];", "outputs[0] = inputs[kKeyMask];"),
    "any format": ("tensor.format != nvinfer1::TensorFormat::kLINEAR", "false"),
    "mask of bytes": ("tensor.type == DataType::kBOOL", "tensor.type <= DataType::kBOOL"),
    "types need not agree": ("tensor.type == tensors[kQuery].desc.type", "isFloating(tensor.type)"),
    "any head dim": ("dim > 0 && dim <= 128 && dim % 8 == 0", "dim > 0"),
    "rows need not agree": ("!agree(mask.d[0], query.d[0]) || ", ""),
    "unknown extents refused": ("a == b || a == -1 || b == -1", "a == b"),
    "a copy of one head": ("GroupAttention(mNumHeads);", "GroupAttention(1);"),
    "no heads": ("numHeads > 0 ? ", "true ? "),
    "wide field": ("field->type != PluginFieldType::kINT32 || ", ""),
    "two heads fields": (" || field->length != 1", ""),
}


@needs_headers
@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_harness_catches(tmp_path: Path, harness: Path, emulated_kernel: Path, mutant: str) -> None:
    right, wrong = MUTANTS[mutant]
    code = (SOURCE / "tensorrt" / "plugin.cpp").read_text()
    assert right in code
    (tmp_path / "plugin.cpp").write_text(code.replace(right, wrong, 1).replace("../group", "group"))
    lenient = "-Xcompiler=-Wno-error"
    library = link_plugin(tmp_path / "plugin.so", emulated_kernel, tmp_path / "plugin.cpp", lenient)
    assert run_harness(harness, library, "host").returncode != 0


# ---- registries ----


def register(python: str, module: str, how: str, library: Path) -> subprocess.CompletedProcess[str]:
    command = [python, HERE / "registry.py", module, how, library]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@needs_headers
@needs_rtx
def test_cpp_library_in_the_registry_of_tensorrt_rtx(built: plugin_build.PluginFiles) -> None:
    done = register(sys.executable, "tensorrt_rtx", "load", built.tensorrt)
    assert "registered" in done.stdout, done.stderr


@needs_headers
@pytest.mark.skipif(not LEAN, reason="set TENSORRT_LEAN_PYTHONS to interpreters that have tensorrt_lean")
@pytest.mark.parametrize("python", LEAN)
def test_cpp_library_in_the_registry_of_tensorrt_lean(built: plugin_build.PluginFiles, python: str) -> None:
    done = register(python, "tensorrt_lean", "load", built.tensorrt)
    assert "registered" in done.stdout, done.stderr


@needs_headers
@pytest.mark.skipif(not LEAN, reason="set TENSORRT_LEAN_PYTHONS to interpreters that have tensorrt_lean")
def test_dlopen_library_registers_itself_or_fails_aloud(tmp_path: Path) -> None:
    """Full TensorRT cannot be had everywhere; the lean one stands in for it, under its own library name.

    In the registry of the major version it was compiled for it registers; with any other it must not load.
    """
    version = Path(HEADERS or "", "NvInferVersion.h").read_text()
    major = next(line.split()[2] for line in version.splitlines() if "_MAJOR" in line and "#define" in line)
    name = f"libnvinfer_lean.so.{major}"
    options = [f"-DTENSORRT_INCLUDE_DIR={HEADERS}", f"-DTENSORRT_LIBRARY_NAME={name}"]
    configure = ["cmake", "-S", SOURCE, "-B", tmp_path, "-DCMAKE_CUDA_ARCHITECTURES=90", *options]
    target = "chronos_group_attention_trt_dlopen"
    for command in (configure, ["cmake", "--build", tmp_path, "--target", target]):
        subprocess.run(command, capture_output=True, check=True)
    outcomes = {}
    for python in LEAN:
        ask = "import tensorrt_lean; print(tensorrt_lean.__version__.split('.')[0])"
        found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        outcomes[found] = register(python, "tensorrt_lean", "dlopen", tmp_path / plugin_build.DLOPEN_NAME)
    assert major in outcomes
    for found, done in outcomes.items():
        if found == major:
            assert "registered" in done.stdout, done.stderr
        else:
            assert f"{name}: cannot open shared object file" in done.stderr


@needs_headers
@needs_rtx
def test_library_and_twin_give_the_same_plan(built: plugin_build.PluginFiles, tmp_path: Path) -> None:
    """But for a handful of bytes in which TensorRT-RTX's plans now and then differ by themselves."""
    graph = make_graph(tmp_path / "model.onnx")
    plans = []
    for plugin in (None, built.tensorrt):
        info = build_engine(graph, [3, 5], target="tensorrt-rtx", output=tmp_path / "a.plan", plugin=plugin)
        assert info.plugin_layers == 2
        plans.append(info.path.read_bytes())
    twin, library = plans
    assert len(twin) == len(library)
    assert sum(a != b for a, b in zip(twin, library, strict=True)) < 64
    assert twin.count(b"num_heads") == library.count(b"num_heads") > 0


@needs_headers
@needs_rtx
def test_library_refuses_heads_the_kernel_does_not_have(
    built: plugin_build.PluginFiles, tmp_path: Path
) -> None:
    graph = make_graph(tmp_path / "model.onnx", heads=3, head_dim=20)
    with pytest.raises(BuildError, match="configurePlugin"):
        build_engine(graph, [3], target="tensorrt-rtx", output=tmp_path / "a.plan", plugin=built.tensorrt)
