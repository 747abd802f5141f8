"""SIGTERM and SIGHUP end a process as Ctrl-C does: what is open is closed, what is done is kept."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

__all__ = ["interrupt_exit_code", "interrupt_on_signals"]

# what Slurm, Docker and cloud machines send before they kill; a terminal that is closed
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10.0  # seconds after which another signal ends the process at once
_first: tuple[int, float] | None = None  # the first signal that came, and when


def interrupt_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, once.

    A signal that the parent process had ignored (`nohup`) stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _first
    if _first is None:
        _first = number, time.monotonic()
        raise KeyboardInterrupt
    if time.monotonic() - _first[1] > PATIENCE:
        os._exit(128 + number)


def interrupt_exit_code() -> int:
    """128 and the number of the signal that interrupted this process: 130, 143 or 129."""
    return 128 + (signal.SIGINT if _first is None else _first[0])
