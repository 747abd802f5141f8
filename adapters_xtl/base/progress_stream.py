"""Where lines about progress go: stderr, or below the cell of a notebook.

A notebook shows stderr on a red ground, as if something were wrong, and keeps every line of it.
"""

from __future__ import annotations

import sys
from typing import TextIO

__all__ = ["in_notebook", "progress_stream", "rewritten"]

WIDTH = 100  # columns that a rewritten line of a notebook fills, to cover the line before it


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return type(sys.stdout).__module__.partition(".")[0] == "ipykernel"


def progress_stream() -> TextIO:
    """The stream that lines about progress are written to."""
    return sys.stdout if in_notebook() else sys.stderr


def rewritten(text: str) -> str | None:
    """`text` so that it takes the place of the line that is shown; None where lines are only ever
    added (a pipe, a file)."""
    if in_notebook():
        return f"\r{text:<{WIDTH}}"
    return f"\r\x1b[K{text}" if sys.stderr.isatty() else None
