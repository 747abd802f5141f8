"""What failed, interrupted and killed runs left in a store, none of which is a finished run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import explain_denied
from adapters_xtl.base.locks import try_locked
from adapters_xtl.runs.records import MANIFEST
from adapters_xtl.runs.removal import REMOVED, check_deletable, delete
from adapters_xtl.runs.run_index import tree_bytes, tree_modified
from adapters_xtl.runs.store import (
    ANALYSES,
    FAILED,
    PARTIAL,
    RUN_ID,
    WORK,
    Store,
    lock_path,
    verify,
)

__all__ = ["Leftover", "clear", "find_leftovers"]

SECONDS_A_DAY = 86400.0
Kind = Literal["failed run", "partial run", "scratch", "half removed", "lock"]


@dataclass(frozen=True)
class Leftover:
    """Something that may go.

    failed run    a run that failed or was replaced, kept under failed/
    partial run   an interrupted run; its request would go on from its newest checkpoint
    scratch       checkpoints of a run that was finished
    half removed  a run whose removal was interrupted
    lock          a lock that no process holds
    """

    path: Path
    kind: Kind
    bytes: int
    days: float  # since anything in it was written
    lock: Path | None = None  # held while it is deleted


def find_leftovers(store: Store, older_than: float) -> tuple[list[Leftover], dict[Path, str]]:
    """What may go, and what else looks like it but stays, with the reason.

    Partial runs go where nothing was written to them for `older_than` days and no process holds
    their lock.
    """
    leftovers: list[Leftover] = []
    kept = {folder: explain_denied(folder) for folder in store.unreadable()}
    for path in _entries(store.root / FAILED):
        leftovers.append(_leftover(path, "failed run"))
    for folder in (*store.task_folders(), store.root / ANALYSES):
        for path in _entries(folder):
            entry = _in_task_folder(store, path)
            if entry is None:
                continue
            reason = _reason_to_keep(entry, older_than)
            if reason:
                kept[path] = reason
            else:
                leftovers.append(entry)
    return leftovers, kept


def clear(leftover: Leftover) -> str:
    """Deletes something that may go. Returns why it stays; "" where it is gone."""
    try:
        check_deletable(leftover.path)
        if leftover.lock is None:
            delete(leftover.path)
            return ""
        with try_locked(leftover.lock) as free:
            if not free:
                return "a process works on it"
            if leftover.path != leftover.lock:
                delete(leftover.path)
            leftover.lock.unlink(missing_ok=True)
    except RequestError as error:
        return str(error)
    return ""


def _in_task_folder(store: Store, path: Path) -> Leftover | None:
    """A leftover beside the runs of a task, by its name."""
    task, name = path.parent.name, path.name
    if REMOVED in name and name.startswith("."):
        return _leftover(path, "half removed")
    run_id, dot, _ = name.lstrip(".").rpartition(".")
    if not dot or not RUN_ID.fullmatch(run_id):
        return None
    lock, partial = lock_path(store.root, task, run_id), path.parent / f"{run_id}{PARTIAL}"
    if path == partial and path.is_dir():
        return _leftover(path, "partial run", lock)
    if partial.exists():
        return None  # what belongs to a partial run goes with it
    if name == f".{run_id}.{WORK}":
        return _leftover(path, "scratch", lock)
    return _leftover(path, "lock", lock) if path == lock else None


def _reason_to_keep(leftover: Leftover, older_than: float) -> str:
    if leftover.kind == "partial run" and leftover.days < older_than:
        return f"written to {leftover.days:.1f} days ago; its request goes on from there"
    if leftover.kind == "partial run" and (leftover.path / MANIFEST).is_file():
        try:
            verify(leftover.path)
        except RequestError:
            pass
        else:
            return "finished but for its name; its request makes it a run"
    if leftover.lock is not None and leftover.lock.exists():
        try:
            with try_locked(leftover.lock) as free:
                return "" if free else "a process works on it"
        except (RequestError, MismatchError):
            return explain_denied(leftover.lock)
    return ""


def _entries(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        yield folder / name


def _leftover(path: Path, kind: Kind, lock: Path | None = None) -> Leftover:
    days = (time.time() - tree_modified(path)) / SECONDS_A_DAY
    return Leftover(path, kind, tree_bytes(path), days, lock)
