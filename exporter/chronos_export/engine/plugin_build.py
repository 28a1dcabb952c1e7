"""`chronos-export plugin build`: compile the kernel and the TensorRT plugin on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.machine.compiled import KERNEL_NAME, PLUGIN_NAME
from chronos_export.progress import Report, ignore, stage

DLOPEN_NAME = "libchronos_group_attention_trt_dlopen.so"
_HEADER = "NvInferRuntime.h"
_PACKAGE = Path(__file__).parents[1]
USUAL_FOLDERS = (
    Path("/usr/include"),
    Path("/usr/include/x86_64-linux-gnu"),
    Path("/usr/include/aarch64-linux-gnu"),
    Path("/usr/local/tensorrt/include"),
    Path("/opt/tensorrt/include"),
)
_WHERE_FROM = (
    "install the headers: `apt-get install libnvinfer-headers-dev` from NVIDIA's CUDA repository, or the"
    " folder include/ of the TensorRT archive, or of the public repository NVIDIA/TensorRT at the tag of your"
    " version (10.13 or later); then give --include-dir or set TENSORRT_INCLUDE_DIR"
)
_KERNEL_ALONE = f"no TensorRT headers, so the kernel alone, for accelerate(); for engines, {_WHERE_FROM}"


@dataclass(frozen=True)
class PluginFiles:
    """The libraries built.

    Args:
        kernel: The kernel behind one C function, for PyTorch.
        tensorrt: The plugin for TensorRT's registry, of any version; None without TensorRT's headers.
        dlopen: The plugin that registers itself when opened, for one major version; None as well.
    """

    kernel: Path
    tensorrt: Path | None
    dlopen: Path | None


def build_plugin(
    include_dir: Path | None,
    output: Path,
    *,
    architectures: Sequence[str] = (),
    report: Report = ignore,
) -> PluginFiles:
    """Compile into `output`.

    Args:
        include_dir: Folder of NvInferRuntime.h; None looks where it usually is, and without it compiles the
            kernel alone.
        output: Folder for the libraries; made if it is missing, an earlier build in it is replaced.
        architectures: CUDA architectures as CMake names them, "90" or "80-real"; if empty, all that
            the kernel is made for.
        report: Called with the events of the stage "plugin".

    Raises:
        UsageError: `include_dir` was given and holds no TensorRT headers.
        MachineError: No CMake or no CUDA compiler.
        BuildError: It does not compile; ends with what the compiler said.
    """
    headers = find_headers(include_dir)
    for tool, package in (("cmake", "cmake"), ("nvcc", "the CUDA toolkit"), ("c++", "g++")):
        if shutil.which(tool) is None:
            raise MachineError(f"{tool} is not on PATH, so nothing can be compiled", fix=f"install {package}")
    with stage("plugin", report) as running, tempfile.TemporaryDirectory(prefix="chronos-plugin-") as folder:
        if headers:
            running.step(0.0, f"headers: {headers}")
        else:
            running.step(message=_KERNEL_ALONE)
        options = [f"-DTENSORRT_INCLUDE_DIR={headers or ''}"]
        if architectures:
            options.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}")
        _run(["cmake", "-S", str(source_dir()), "-B", folder, *options])
        running.step(0.1, "compiling")
        _run(["cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1)])
        return PluginFiles(
            kernel=_publish(Path(folder, KERNEL_NAME), output),
            tensorrt=_publish(Path(folder, PLUGIN_NAME), output) if headers else None,
            dlopen=_publish(Path(folder, DLOPEN_NAME), output) if headers else None,
        )


def find_headers(include_dir: Path | None) -> Path | None:
    """The folder of TensorRT's headers: as given, in TENSORRT_INCLUDE_DIR, or where packages put them.

    Raises:
        UsageError: One was given, and they are not in it.
    """
    asked = include_dir or (Path(given) if (given := os.environ.get("TENSORRT_INCLUDE_DIR")) else None)
    if asked:
        if not (asked / _HEADER).is_file():
            raise UsageError(
                f"{asked} holds no {_HEADER}", allowed="TensorRT's include folder", fix=_WHERE_FROM
            )
        return asked.absolute()
    return next((folder for folder in USUAL_FOLDERS if (folder / _HEADER).is_file()), None)


def source_dir() -> Path:
    """The plugin's sources: in the installed package, or in the checkout it runs from."""
    candidates = (_PACKAGE / "plugin_source", _PACKAGE.parents[1] / "plugins" / "group_attention")
    for folder in candidates:
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise MachineError(
        "this installation brings no plugin sources",
        fix="install chronos-export again, from a checkout or from the wheel that was built of one",
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed:\n{done.stdout[-3000:].strip()}")


def _publish(built: Path, folder: Path) -> Path:
    """Replace in one step: a running process may have the old library mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{built.name}.{os.getpid()}"
    shutil.copy2(built, fresh)
    return fresh.replace(folder / built.name)
