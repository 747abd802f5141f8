"""The directory of an export: written aside, and renamed once it is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import apply_umask, explained_os_errors

__all__ = ["check_output", "new_directory"]


def check_output(path: Path) -> None:
    """RequestError unless `path` can become a new directory: there is nothing, or an empty one."""
    if path.is_dir() and any(path.iterdir()):
        raise RequestError(f"{path}: not empty; name a new directory")
    if os.path.lexists(path) and not path.is_dir():
        raise RequestError(f"{path}: a file; name a new directory")


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory beside `path` that takes its place when the block is done; nothing is left of it
    when the block fails.
    """
    path = path.absolute()
    check_output(path)
    aside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    with explained_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
            yield aside
            apply_umask(aside)
            if path.is_dir():
                path.rmdir()
            os.rename(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
