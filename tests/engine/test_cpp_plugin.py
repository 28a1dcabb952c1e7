"""The C++ plugin, compiled here: through TensorRT's interface, and in the registries of three TensorRTs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export.engine import plugin_build
from chronos_export.engine.building import build_engine
from chronos_export.errors import BuildError
from tests.helpers.cpp import HEADERS, HERE, LEAN, SOURCE, compile_cpp, needs_headers
from tests.helpers.engines import make_graph, needs_rtx


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
    "a copy of one head": ("GroupAttention(mNumHeads, mAllowTf32);", "GroupAttention(1, mAllowTf32);"),
    "a copy without tf32": ("GroupAttention(mNumHeads, mAllowTf32);", "GroupAttention(mNumHeads, 0);"),
    "tf32 is not handed on": ("params.allow_tf32 = mAllowTf32;", ""),
    "tf32 unless it is refused": ("readField(fields, kAllowTf32, 0)", "readField(fields, kAllowTf32, 1)"),
    "any leave": ("(allowTf32 == 0 || allowTf32 == 1)", "allowTf32 >= 0"),
    "no heads": ("numHeads > 0 && ", "numHeads != -1 && "),
    "wide field": ("field.type != PluginFieldType::kINT32 || ", ""),
    "two heads fields": (" || field.length != 1", ""),
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
    assert done.returncode == 0, done.stderr  # nothing crashes when the process ends, either
    assert "registered" in done.stdout


@needs_headers
@pytest.mark.skipif(not LEAN, reason="set TENSORRT_LEAN_PYTHONS to interpreters that have tensorrt_lean")
@pytest.mark.parametrize("python", LEAN)
def test_cpp_library_in_the_registry_of_tensorrt_lean(built: plugin_build.PluginFiles, python: str) -> None:
    done = register(python, "tensorrt_lean", "load", built.tensorrt)
    assert done.returncode == 0, done.stderr  # nothing crashes when the process ends, either
    assert "registered" in done.stdout


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
    runtime = "chronos_group_attention_trt_dlopen"
    for command in (configure, ["cmake", "--build", tmp_path, "--runtime", runtime]):
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
        info = build_engine(graph, [3, 5], runtime="tensorrt-rtx", output=tmp_path / "a.plan", plugin=plugin)
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
        build_engine(graph, [3], runtime="tensorrt-rtx", output=tmp_path / "a.plan", plugin=built.tensorrt)
