"""Locks between processes, held on files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from adapters_xtl.base.files import explained_os_errors

__all__ = ["available", "locked", "try_locked"]


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock on the file `path`, which is made with the permissions that the umask gives.

    `waiting` is called once where another process holds it. The lock is free again when the block
    ends, or the process, however it ends. The file stays, unless the holder removes it.
    """
    lock = FileLock(path)
    with explained_os_errors(path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Holds the lock on the file `path` where it is free; False where another process holds it."""
    lock, free = FileLock(path), True
    with explained_os_errors(path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            free = False
    try:
        yield free
    finally:
        if free:
            lock.release()


def available(path: Path) -> bool:
    """Whether nobody holds the lock on the file `path` at this moment."""
    with try_locked(path) as free:
        return free
