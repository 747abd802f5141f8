"""Finds a trained module by path, run id or address, and reads it together with its parents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.registry import NAMED, resolve
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredModule, is_run
from adapters_xtl.sharing import addresses
from adapters_xtl.sharing.parents import read_module, read_parent

__all__ = ["backbone", "find", "read", "silent"]

Notify = Callable[[str], None]


def silent(text: str) -> None:
    """A notify that says nothing."""


def find(text: str, store: Store, notify: Notify = silent) -> Path | None:
    """The directory of a run (named by it or by the run's id) or of a verified bundle (its
    directory, `file:…` or a hub id, pulled if need be); None when `text` is none of these. Whether
    the run is finished and whole is seen when it is read.
    """
    path = Path(text)
    try:
        path.exists()
    except (OSError, ValueError):  # too long, or a character that no path has
        return None
    if is_run(path):
        return path.resolve()
    stored_paths = store.by_id(text)
    return stored_paths[0] if stored_paths else addresses.locate(text, notify)


def read(path: Path, notify: Notify = silent) -> Module:
    """The module of a finished training run or a bundle, with the parents it was trained on.

    RequestError for an evaluation; MismatchError where a parent is not found, or a run is damaged.
    """
    return _planned(read_module(path), notify)


def _planned(stored: StoredModule, notify: Notify) -> Module:
    parents = (read_parent(stored, parent, notify) for parent in stored.parents)
    below = tuple(_planned(parent, notify) for parent in parents)
    return Module(stored.task, stored.run, below, stored=stored)


def backbone(module: Module, requested: str | None) -> Backbone:
    """The backbone to load a module on: the one requested, else the one on the module's record."""
    if requested is not None:
        return resolve(requested)
    if module.stored is None:
        raise TypeError(f"{module} was not read from a run or a bundle")
    record = module.stored.backbone
    if record.name in NAMED:
        return NAMED[record.name]
    pinned = f"@{record.revision}" if record.revision else ""
    return resolve(record.location + pinned)
