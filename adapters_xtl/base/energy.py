"""Energy that the GPU reports, read from NVIDIA's management library (NVML) without a package.

NVML comes with the driver.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["joules"]

LIBRARY = "libnvidia-ml.so.1"


def joules() -> float | None:
    """Joules that the first visible CUDA device has used since its driver was loaded.

    None where it reports none.

    The difference of two readings is what every process on the device used between them. GPUs
    before Volta and MIG slices report nothing. NVML counts devices in PCI order: with unlike GPUs
    set CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    if first in ("", "-1"):
        return None
    try:
        nvml = ctypes.CDLL(LIBRARY)
        if nvml.nvmlInit_v2():
            return None
        try:
            handle, used = ctypes.c_void_p(), ctypes.c_ulonglong()
            if first.isascii() and first.isdecimal():
                failed = nvml.nvmlDeviceGetHandleByIndex_v2(
                    ctypes.c_uint(int(first)), ctypes.byref(handle)
                )
            else:
                failed = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle))
            if failed or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)):
                return None
            return used.value / 1000  # NVML counts millijoules
        finally:
            nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no driver, or one from before this counter
        return None
