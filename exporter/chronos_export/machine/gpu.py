"""The GPU of this machine, asked of NVIDIA's driver itself: no package is needed."""

from __future__ import annotations

import ctypes


def device_capability() -> str | None:
    """Compute capability of the first GPU, like "9.0"; None if there is no GPU or no driver.

    Source: CUDA driver API, cuDeviceGetAttribute, attributes 75 and 76.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    numbers = []
    for attribute in (75, 76):
        number = ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, 0):
            return None
        numbers.append(str(number.value))
    return ".".join(numbers)


def driver_version() -> str | None:
    """Version of NVIDIA's driver, like "580.65.06"; None if there is no driver.

    Source: NVML, nvmlSystemGetDriverVersion.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    text = ctypes.create_string_buffer(80)
    if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, len(text)):
        return None
    nvml.nvmlShutdown()
    return text.value.decode()
