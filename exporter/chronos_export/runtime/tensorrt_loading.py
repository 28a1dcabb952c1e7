"""A plan file -> a deserialized engine, if everything it was built for is what is here.

Deserializing runs code, and TensorRT's own refusals are opaque, so every reason to refuse is found before.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.hashing import hash_file
from chronos_export.errors import IntegrityError, MachineError
from chronos_export.machine import tensorrt_plugin as trt_plugin
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.gpu import device_capability, driver_version
from chronos_export.machine.tensorrt import import_tensorrt, require_installed


@dataclass(frozen=True)
class LoadedEngine:
    """An engine and what must live as long as it does.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        engine: Its ICudaEngine.
        info: What it was built for.
        keep: The runtime and the plugin.
    """

    trt: Any
    engine: Any
    info: EngineInfo
    keep: tuple[object, ...] = ()

    @property
    def scratch_bytes(self) -> int:
        """Memory of the GPU that a call takes at most."""
        return int(self.engine.device_memory_size_v2)


def load_engine(info: EngineInfo, digest: str, plugin: Path | None, rebuild: str) -> LoadedEngine:
    """Deserialize a plan.

    Args:
        info: What the plan was built for.
        digest: sha256 of the plan, from a place that is trusted.
        plugin: The compiled plugin library; the twin in Python builds engines but cannot run them.
        rebuild: The command that builds the plan anew, for error messages.

    Raises:
        IntegrityError: The file is missing or is not the file that was built. Nothing of it was used.
        MachineError: Another TensorRT, GPU or plugin library, an older driver; names both sides.
    """
    plan = _read_checked(info.path, digest, rebuild)
    check_here(info, plugin, rebuild)
    trt = import_tensorrt(info.runtime)
    check_version(info, trt, rebuild)
    held = trt_plugin.register(trt, plugin) if info.attention == "plugin" else None
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise MachineError(f"{info.runtime} {trt.__version__} refuses {info.path}", fix=rebuild)
    return LoadedEngine(trt, engine, info, (runtime, held))


def check_version(info: EngineInfo, trt: Any, rebuild: str) -> None:
    """Hold the module `trt` against the version that built the plan.

    Raises:
        MachineError: It is another; names both.
    """
    if trt.__version__ != info.tensorrt_version:
        raise MachineError(
            f"{info.path} was built by {info.runtime} {info.tensorrt_version};"
            f" installed is {trt.__version__}",
            fix=rebuild,
        )


def check_here(info: EngineInfo, plugin: Path | None, rebuild: str) -> None:
    """Compare all that can be compared without TensorRT; arguments as `load_engine`.

    Raises:
        MachineError: Another GPU or plugin library, or an older driver; names both sides.
    """
    capability, driver = device_capability(), driver_version()
    if capability not in info.compute_capabilities:
        raise MachineError(
            f"{info.path} runs on compute capability {', '.join(info.compute_capabilities)},"
            f" and this machine has {capability or 'no GPU'}",
            fix=rebuild if capability else "load the artifact with onnxruntime instead",
        )
    if info.driver and driver and _numbers(driver) < _numbers(info.driver):
        raise MachineError(
            f"{info.path} was built under driver {info.driver}; this machine has the older {driver}",
            fix=rebuild,
        )
    if info.attention != "plugin":
        return
    if plugin is None:
        raise MachineError(
            f"{info.path} needs the compiled plugin, and no plugin library was given",
            fix="chronos-export plugin build",
        )
    if info.plugin_sha256 and info.plugin_sha256 != (found := hash_file(plugin).sha256):
        raise MachineError(
            f"{info.path} was built with the plugin of sha256 {info.plugin_sha256}; {plugin} has {found}",
            fix=rebuild,
        )


def why_not_here(info: EngineInfo) -> str:
    """Return why this machine cannot run an engine, in one line, or ""."""
    try:
        require_installed(info.runtime)
        check_here(info, plugin_library(), "")
        check_version(info, import_tensorrt(info.runtime), "")
    except MachineError as error:
        return error.summary.replace(f"{info.path} ", "it ")
    return "" if importlib.util.find_spec("torch") else "PyTorch, which holds its memory, is not installed"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _read_checked(path: Path, digest: str, rebuild: str) -> bytes:
    """The bytes that were hashed are the bytes that are used: the file is read once."""
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"the engine {path} cannot be read: {error.strerror}", fix=rebuild) from error
    found = sha256(plan).hexdigest()
    if found != digest:
        raise IntegrityError(
            f"{path} is not the engine that was built: its sha256 is {found}", allowed=digest, fix=rebuild
        )
    return plan
