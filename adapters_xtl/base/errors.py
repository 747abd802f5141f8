"""What can go wrong, as one tree, and the words to say it with.

XtlError                 exit code 1: it failed while running
├── RunError             a run could not be finished (disk full, killed worker, diverged loss)
└── RequestError         exit code 2: the request was wrong; nothing was started or half-written
    ├── DataError        a source, a file or a row is not what the task declares
    └── MismatchError    weights or files are not the ones a lineage or a manifest names
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "DataError",
    "MismatchError",
    "Problems",
    "RequestError",
    "RunError",
    "XtlError",
    "clipped",
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


def clipped(value: object, limit: int = 60) -> str:
    """A value that a user gave, as a message shows it: one line, its middle left out where it is
    longer than `limit` characters.
    """
    text = " ".join(str(value).split())
    if len(text) <= limit:
        return text
    return f"{text[: limit * 2 // 3]}…{text[-limit // 4 :]} ({len(text):,} characters)"


def nearest(name: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'xnli'?"` for the choice closest to `name`, `"; known: a, b"` where none is
    close, and "" where there is nothing to suggest but `name` itself.
    """
    options: Sequence[str] = sorted(set(choices) - {name})
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower()[:200], lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{lowered[close[0]]}'?"
    if len(options) <= 48:
        return f"; known: {', '.join(options)}" if options else ""
    return ""


class Problems:
    """Collects every problem of one stage of a request, so that all are reported at once."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._kinds: set[type[XtlError]] = set()

    def add(self, message: str, kind: type[XtlError] = RequestError) -> None:
        self._kinds.add(kind)
        if message not in self.messages:
            self.messages.append(message)

    def catch(self, error: XtlError) -> None:
        for line in str(error).split("\n"):
            self.add(line, type(error))

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Adds the error that the block raises; what the block would have set stays unset."""
        try:
            yield
        except XtlError as error:
            self.catch(error)

    def raise_if_any(self, kind: type[XtlError] | None = None) -> None:
        """Raises one error with every problem, one a line.

        It is of `kind` or, where every problem came from errors of one kind, of that kind.
        """
        if not self.messages:
            return
        if kind is None:
            kinds = {_named(error_type) for error_type in self._kinds}
            kind = kinds.pop() if len(kinds) == 1 else RequestError
        raise kind("\n".join(self.messages))


def _named(kind: type[XtlError]) -> type[XtlError]:
    """The kind of the tree above that an error is of."""
    tree = (DataError, MismatchError, RequestError, RunError)
    return next((error_type for error_type in tree if issubclass(kind, error_type)), XtlError)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, torch's own included, says that the device or the machine has no memory
    left.
    """
    texts = ("DefaultCPUAllocator", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")
    told = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
