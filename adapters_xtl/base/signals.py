"""SIGTERM and SIGHUP end a process as Ctrl-C does: what is open is closed, what is done is kept."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = [
    "acknowledge_interrupt",
    "interrupt_on_signals",
    "interrupts_deferred",
    "obey_interrupt",
]

# what Slurm, Docker and cloud machines send before they kill; what a terminal sends when it closes
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
PATIENCE = 10.0  # seconds after which another signal ends the process at once
OBEYED = 1.0  # the same, once the first one is being obeyed; a moment later is the same key press
REPEAT = 5.0  # seconds after which an interrupt that had no effect is raised again
_patience = PATIENCE
_first: tuple[int, float] | None = None  # the first signal that came, and when
_deferred = False  # whether the first signal waits for the work to come to a good place to stop


def interrupt_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    Python drops an exception that is raised in a destructor or a callback of an import, so it is
    raised again until `acknowledge_interrupt` is called. A signal that the parent process had
    ignored (`nohup`) stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _first
    if _first is None:
        _first = number, time.monotonic()
        _repeat_every(REPEAT)
        if _deferred:  # the work within `interrupts_deferred` looks for it
            return
        raise KeyboardInterrupt
    if time.monotonic() - _first[1] > _patience:
        os._exit(128 + number)


def _repeat_every(seconds: float) -> None:
    """Raises the interrupt again every so many seconds; 0: no more. Windows has no such timer:
    there it is raised once.
    """
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _interrupt_again)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _interrupt_again(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def obey_interrupt() -> None:
    """Says that the interrupt has come where what runs is being stopped, which may take seconds.

    It is not raised again, and another signal ends the process at once.
    """
    global _patience
    _patience = OBEYED
    _repeat_every(0)


def acknowledge_interrupt() -> int:
    """Stops the repetition, for the interrupt has come where it ends the process. Returns the exit
    code: 128 and the number of the signal (130, 143 or 129).
    """
    _repeat_every(0)
    return 128 + (signal.SIGINT if _first is None else _first[0])


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """Work that ends at a good place when it is interrupted: it calls what this yields there.

    The function returns whether a signal has come; the work then saves what it must and raises
    KeyboardInterrupt. It has REPEAT seconds to come to such a place, and from there on as long as
    it takes. Where `interrupt_on_signals` was not called, Ctrl-C raises at once, as ever.
    """
    global _deferred

    def interrupted() -> bool:
        if _first is None:
            return False
        _repeat_every(0)
        return True

    before, _deferred = _deferred, True
    try:
        yield interrupted
    finally:
        _deferred = before
        if _first is not None:  # raised again until it is acknowledged
            _repeat_every(REPEAT)
    if _first is not None:
        raise KeyboardInterrupt
