"""Arguments of the Python functions, checked as the command line checks its flags.

Each function returns the value in the form that a flag gives it; what is of another type is added
to `problems`, one line by the argument's name.
"""

from __future__ import annotations

import math
import os
from typing import Any

from adapters_xtl.base.errors import Problems, clipped

__all__ = ["files", "module_text", "number", "switch", "text", "texts"]


def text(name: str, value: Any, problems: Problems, *, path: bool = False) -> str | None:
    """A text, or None where it was not given. `path`: a path may stand for it."""
    if value is None or isinstance(value, str):
        return value
    if path and isinstance(value, os.PathLike):
        return str(os.fspath(value))
    problems.add(f"{name}={_shown(value)}: takes a text{' or a path' if path else ''}")
    return None


def texts(name: str, value: Any, problems: Problems) -> str | None:
    """A text, or a list of them as one text with commas; None where it was not given."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if value is None or isinstance(value, str):
        return value
    problems.add(f"{name}={_shown(value)}: takes a text or a list of texts")
    return None


def files(name: str, value: Any, problems: Problems) -> tuple[str, ...]:
    """Files or patterns: one, or a list of them."""
    several = value if isinstance(value, (list, tuple)) else [value]
    if all(isinstance(item, (str, os.PathLike)) for item in several):
        return tuple(str(os.fspath(item)) for item in several)
    problems.add(f"{name}={_shown(value)}: takes a file, a pattern or a list of them")
    return ()


def module_text(name: str, value: Any, problems: Problems) -> str:
    """What names a module: a text, a path, or whatever is path-like (a run, a pulled bundle)."""
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        with problems.catching():  # a run of the bare backbone has no module
            return str(os.fspath(value))
        return ""
    problems.add(f"{name}={_shown(value)}: takes a task, a run, a directory, a run id or a hub id")
    return ""


def number(
    name: str, value: Any, problems: Problems, *, whole: bool = False, default: Any = None
) -> Any:
    """A finite number, `whole` or not; `default` where it is none, or was not given."""
    if value is None:
        return default
    fits = isinstance(value, int) or (not whole and isinstance(value, float))
    if not fits or isinstance(value, bool) or not math.isfinite(value):
        problems.add(f"{name}={_shown(value)}: takes a {'whole ' * whole}number")
        return default
    return value


def switch(name: str, value: Any, problems: Problems) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        problems.add(f"{name}={_shown(value)}: takes True or False")
    return value is True


def _shown(value: Any) -> str:
    return clipped(repr(value))
