"""The GPUs of this machine, asked of NVIDIA's driver itself: no package is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_MAJOR, _MINOR = 75, 76  # attributes of a device: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use.

    Attributes:
        name: As its driver calls it.
        capability: Its compute capability, like "9.0".
        memory: Its bytes, all of them.
    """

    name: str
    capability: str
    memory: int


def gpus() -> list[Gpu]:
    """Return the GPUs of this process, the first one first; none without a driver.

    Source: CUDA driver API, cuDeviceGetCount, cuDeviceGetName, cuDeviceGetAttribute and
    cuDeviceTotalMem.
    """
    cuda, count = _library("libcuda.so.1", "nvcuda.dll"), ctypes.c_int()
    if cuda is None or cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_gpu(cuda, ordinal) for ordinal in range(count.value)]


def device_capability() -> str | None:
    """Return the compute capability of the first GPU, like "9.0"; None if there is no GPU or no driver."""
    found = gpus()
    return found[0].capability if found else None


def device_memory() -> int | None:
    """Return the bytes of memory of the first GPU; None if there is no GPU or no driver."""
    found = gpus()
    return found[0].memory if found else None


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver, like "580.65.06"; None if there is no driver.

    Source: NVML, nvmlSystemGetDriverVersion.
    """
    nvml = _library("libnvidia-ml.so.1", "nvml.dll")
    if nvml is None:
        return None
    text = ctypes.create_string_buffer(80)
    if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, len(text)):
        return None
    nvml.nvmlShutdown()
    return text.value.decode()


def _gpu(cuda: Any, ordinal: int) -> Gpu:
    name, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    memory = ctypes.c_size_t()
    cuda.cuDeviceGetName(name, len(name), ordinal)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, ordinal)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, ordinal)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), ordinal)
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}", memory.value)


def _library(on_linux: str, on_windows: str) -> Any:
    """The driver's library, or None."""
    try:
        return ctypes.CDLL(on_windows if sys.platform == "win32" else on_linux)
    except OSError:
        return None
