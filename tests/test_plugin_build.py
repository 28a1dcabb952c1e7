"""`chronos-export plugin build`: where headers are looked for, and what is said when something is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chronos_export import plugin_build
from chronos_export.cli import main
from chronos_export.compiled import KERNEL_NAME, PLUGIN_NAME, kernel_library, plugin_library
from chronos_export.errors import BuildError, MachineError, UsageError
from cpp import SOURCE

pytestmark = pytest.mark.usefixtures("own_signals")


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


def test_the_command_builds_to_where_plugins_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CMake's part is played: it writes what it is asked for."""
    commands: list[list[str]] = []

    def play(command: list[str]) -> None:
        commands.append(command)
        if command[1] == "--build":
            for name in (KERNEL_NAME, PLUGIN_NAME, plugin_build.DLOPEN_NAME):
                Path(command[2], name).write_text(name)

    monkeypatch.setattr(plugin_build, "_run", play)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path / "plugins"))
    (tmp_path / "NvInferRuntime.h").touch()
    with pytest.raises(SystemExit) as caught:
        main(["plugin", "build", "--include-dir", str(tmp_path), "--arch", "80,90"])
    assert caught.value.code == 0
    configure, _ = commands
    assert configure[2] == str(SOURCE)
    assert configure[-2:] == [f"-DTENSORRT_INCLUDE_DIR={tmp_path}", "-DCMAKE_CUDA_ARCHITECTURES=80;90"]
    assert (plugin_library(), kernel_library()) == (
        tmp_path / "plugins" / PLUGIN_NAME,
        tmp_path / "plugins" / KERNEL_NAME,
    )
    said = capsys.readouterr().out
    for name in (KERNEL_NAME, PLUGIN_NAME, plugin_build.DLOPEN_NAME):
        assert (tmp_path / "plugins" / name).read_text() == name
        assert str(tmp_path / "plugins" / name) in said


def test_the_command_says_where_headers_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TENSORRT_INCLUDE_DIR", raising=False)
    monkeypatch.setattr(plugin_build, "USUAL_FOLDERS", (tmp_path,))
    with pytest.raises(SystemExit) as caught:
        main(["plugin", "build"])
    assert caught.value.code == 3
    assert "apt-get install libnvinfer-headers-dev" in capsys.readouterr().err


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
