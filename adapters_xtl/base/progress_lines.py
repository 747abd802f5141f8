"""Lines about progress that replace each other: shown here, or sent to who watches this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from adapters_xtl.base.progress_stream import progress_stream, rewritten

__all__ = ["ProgressLine", "send_progress_to"]

_EVERY = 0.5  # seconds between two lines where the next one replaces the last
_receiver: Callable[[str], None] | None = None


def send_progress_to(receiver: Callable[[str], None] | None) -> None:
    """From now on this process calls `receiver` with each line; None: it prints them."""
    global _receiver
    _receiver = receiver


class ProgressLine:
    """One line that changes while something goes on.

    On a terminal and in a notebook it is rewritten, at most twice a second. Elsewhere a new one is
    printed every `unwatched` seconds (None: none at all). A receiver gets it twice a second.
    """

    def __init__(self, unwatched: float | None) -> None:
        self._last_shown = time.monotonic()
        self._rewrites = rewritten("") is not None
        self._every = _EVERY if self._rewrites or _receiver else unwatched

    @property
    def due(self) -> bool:
        """Whether the line may be shown again."""
        return self._every is not None and time.monotonic() - self._last_shown >= self._every

    def show(self, text: str, *, last: bool = False) -> None:
        """Shows the line. `last`: it stays, and what comes next is another line."""
        self._last_shown = time.monotonic()
        if _receiver is not None:
            _receiver(text)
        elif self._every is not None:
            end = "\n" if last or not self._rewrites else ""
            print(rewritten(text) or text, end=end, file=progress_stream(), flush=True)
