"""The GPUs as NVIDIA's driver tells them; the driver is a stand-in."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from chronos_export.machine import gpu
from chronos_export.machine.gpu import Gpu

FOUND = [Gpu("NVIDIA H200", "9.0", 141 * 10**9), Gpu("NVIDIA L4", "8.9", 24 * 10**9)]


class Driver:
    """`libcuda` with two GPUs.

    Args:
        status: What every call returns; 0 is success.
    """

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(FOUND)
        return self.status

    def cuDeviceGetName(self, name: Any, size: int, ordinal: int) -> int:  # noqa: N802
        name.value = FOUND[ordinal].name.encode()[: size - 1]
        return self.status

    def cuDeviceGetAttribute(self, number: Any, attribute: int, ordinal: int) -> int:  # noqa: N802
        number._obj.value = int(FOUND[ordinal].capability.split(".")[attribute - 75])
        return self.status

    def cuDeviceTotalMem_v2(self, size: Any, ordinal: int) -> int:  # noqa: N802
        size._obj.value = FOUND[ordinal].memory
        return self.status


def test_gpus_by_name_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert gpu.gpus() == FOUND
    assert gpu.device_capability() == "9.0"
    assert gpu.device_memory() == 141 * 10**9


@pytest.mark.parametrize("status", [100, 999])
def test_a_driver_without_a_gpu(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status))
    assert gpu.gpus() == []
    assert gpu.device_capability() is None
    assert gpu.device_memory() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert gpu.gpus() == []
    assert gpu.driver_version() is None
