"""`chronos-export plugin build`: where headers are looked for, and what is said when something is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chronos_export.cli.main import main
from chronos_export.engine import plugin_build
from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.machine.compiled import KERNEL_NAME, PLUGIN_NAME, kernel_library, plugin_library
from tests.helpers.cpp import SOURCE

pytestmark = pytest.mark.usefixtures("own_signals")


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


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What CMake was asked for. Its part is played: it writes what it would with these headers, or none."""
    asked: list[list[str]] = []

    def play(command: list[str]) -> None:
        asked.append(command)
        if command[1] == "--build":
            with_headers = "-DTENSORRT_INCLUDE_DIR=" not in asked[-2]
            names = (KERNEL_NAME, PLUGIN_NAME, plugin_build.DLOPEN_NAME) if with_headers else (KERNEL_NAME,)
            for name in names:
                Path(command[2], name).write_text(name)

    monkeypatch.setattr(plugin_build, "_run", play)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(plugin_build, "USUAL_FOLDERS", (tmp_path / "usual",))
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path / "plugins"))
    return asked


def plugin_build_command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plugin", "build", *arguments])
    assert caught.value.code == 0


def test_the_command_builds_to_where_plugins_are_looked_for(
    commands: list[list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "NvInferRuntime.h").touch()
    plugin_build_command("--include-dir", str(tmp_path), "--arch", "80,90")
    configure, _ = commands
    assert configure[2] == str(SOURCE)
    assert configure[-2:] == [f"-DTENSORRT_INCLUDE_DIR={tmp_path}", "-DCMAKE_CUDA_ARCHITECTURES=80;90"]
    assert (plugin_library(), kernel_library()) == (
        tmp_path / "plugins" / PLUGIN_NAME,
        tmp_path / "plugins" / KERNEL_NAME,
    )
    said = capfd.readouterr().out
    for name in (KERNEL_NAME, PLUGIN_NAME, plugin_build.DLOPEN_NAME):
        assert (tmp_path / "plugins" / name).read_text() == name
        assert str(tmp_path / "plugins" / name) in said


def test_without_headers_the_kernel_alone_is_built(
    commands: list[list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """PyTorch needs no TensorRT for it; who wants an engine is told what is missing."""
    plugin_build_command()
    assert len(commands) == 2
    assert (plugin_library(), kernel_library()) == (None, tmp_path / "plugins" / KERNEL_NAME)
    said = capfd.readouterr()
    assert KERNEL_NAME in said.out and PLUGIN_NAME not in said.out
    assert "no TensorRT headers, so the kernel alone" in said.err
    assert "apt-get install libnvinfer-headers-dev" in said.err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc") or not shutil.which("cmake"), reason="needs nvcc and cmake")
def test_cmake_skips_the_plugin_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(["cmake", "-S", SOURCE, "-B", tmp_path], capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if "TENSORRT_INCLUDE_DIR" in line]
    assert said == ["-- TensorRT plugin: skipped, TENSORRT_INCLUDE_DIR was not given"]
    targets = subprocess.run(
        ["cmake", "--build", tmp_path, "--runtime", "help"], capture_output=True, text=True, check=True
    )
    assert "chronos_group_attention" in targets.stdout
    assert "trt" not in targets.stdout
