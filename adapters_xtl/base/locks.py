"""Locks between processes, held on files."""

from __future__ import annotations

import contextlib
import os
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
    lock = _acquired(path, blocking=False)
    if lock is None:
        waiting()
        lock = _acquired(path, blocking=True)
        assert lock is not None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Holds the lock on the file `path` where it is free; False where another process holds it."""
    lock = _acquired(path, blocking=False)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def available(path: Path) -> bool:
    """Whether nobody holds the lock on the file `path` at this moment."""
    with try_locked(path) as free:
        return free


def _acquired(path: Path, *, blocking: bool) -> FileLock | None:
    """The lock, held; None where another process holds it and this one is not to wait."""
    with explained_os_errors(path):
        while True:
            lock = FileLock(path)
            try:
                lock.acquire(blocking=blocking)
            except Timeout:
                return None
            if _is_held_on(lock, path):
                return lock
            lock.release()


def _is_held_on(lock: FileLock, path: Path) -> bool:
    """Whether the file that is locked is the one at `path`.

    Its holder may have removed it while this process waited. The next one makes a new file, and
    would hold a lock on that at the same time.
    """
    handle = lock._context.lock_file_fd
    if handle is None:  # a file system without locks, where the file's existence is the lock
        return True
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
