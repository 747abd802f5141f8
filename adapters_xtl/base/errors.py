"""What can go wrong, as one tree, and the words to say it with.

XtlError                 exit code 1: it failed while running ├── RunError             a run could
not be finished (disk full, killed worker, diverged loss) └── RequestError         exit code 2: the
request was wrong; nothing was started, nothing is half-written
    ├── DataError        a source, a file or a row is not what the task declares
    └── MismatchError    weights or files are not the ones a lineage or a manifest names
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "DataError",
    "MismatchError",
    "Problems",
    "RequestError",
    "RunError",
    "XtlError",
    "nearest",
    "out_of_memory",
]


class XtlError(Exception):
    """Base of all our errors. `str(error)` is the one message the user sees."""

    exit_code = 1


class RunError(XtlError):
    """A run started and could not be finished."""


class RequestError(XtlError):
    """The request was wrong."""

    exit_code = 2


class DataError(RequestError):
    """A source, a file or a row is not what the task declares."""


class MismatchError(RequestError):
    """Weights or files are not the ones that a lineage or a manifest names."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'xnli'?"` for the closest choice, or a list of the choices when none is
    close.
    """
    options: Sequence[str] = sorted(choices)
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{lowered[close[0]]}'?"
    if len(options) <= 48:
        return f"; known: {', '.join(options)}" if options else ""
    return ""


class Problems:
    """Collects every problem of one request, so that all are reported at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        if message not in self.messages:
            self.messages.append(message)

    def catch(self, error: XtlError) -> None:
        for line in str(error).split("\n"):
            self.add(line)

    def raise_if_any(self, kind: type[XtlError] = RequestError) -> None:
        if self.messages:
            raise kind("\n".join(self.messages))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, torch's own included, says that the device or the machine has no memory
    left.
    """
    texts = ("DefaultCPUAllocator", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
