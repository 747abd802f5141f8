"""The largest resident memory of this process since a moment that the caller chooses (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

__all__ = ["peak_resident_bytes", "release_freed_memory", "reset_peak_resident"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # man 5 proc: sets VmHWM back to what is resident now


def release_freed_memory() -> None:
    """Gives the system back what the C library keeps of freed memory, so that what a process did
    before does not count in the next peak. Nothing happens where the library cannot (glibc can).
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_resident() -> None:
    """Makes `peak_resident_bytes` start anew. Where the system cannot, it stays the peak since the
    process began.
    """
    with contextlib.suppress(OSError):  # no Linux, or /proc is read-only
        _CLEAR.write_text(_RESET_PEAK)


def peak_resident_bytes() -> int:
    """Bytes: the largest resident size since `reset_peak_resident`, or since the process began."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil  # comes with peft

        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB
