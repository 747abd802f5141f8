"""Trained modules that exist already: found by name, read with the parents they stand on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.registry import NAMED, resolve
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.runs.records import MANIFEST, BackboneRecord, ParentRecord
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored import StoredModule, is_run, read_run_module
from adapters_xtl.sharing import bundle, bundle_cache, hub
from adapters_xtl.sharing.bundle import Bundle

__all__ = ["backbone", "find", "read", "silent", "stored_bundle"]

Notify = Callable[[str], None]


def silent(text: str) -> None:
    """A notify that says nothing."""


def find(text: str, store: Store, notify: Notify = silent) -> Path | None:
    """The directory of a finished run (named by it or by the run's id) or of a verified bundle (its
    directory, `file:…` or a hub id, pulled if need be); None when `text` is none of these.
    """
    path = Path(text)
    try:
        path.exists()
    except (OSError, ValueError):  # too long, or a character that no path has
        return None
    if is_run(path) and (path / MANIFEST).is_file():
        return path.resolve()
    found = store.by_id(text)
    return found[0] if found else hub.locate(text, notify)


def read(path: Path, notify: Notify = silent) -> Module:
    """The module of a finished training run or a bundle, with the parents it was trained on.

    RequestError for an evaluation, or where a run's parent is not beside it; MismatchError where a
    bundle's is not found, or a run is damaged.
    """
    if is_run(path):
        stored = read_run_module(path)
        parents = [read(_beside_or_pulled(stored, parent), notify) for parent in stored.parents]
    else:
        pulled = bundle.read(path)
        stored = stored_bundle(pulled)
        parents = [read(hub.parent(entry, pulled, notify), notify) for entry in pulled.parents]
    return Module(stored.task, stored.run, tuple(parents), stored=stored)


def stored_bundle(verified: Bundle) -> StoredModule:
    """A verified bundle as the module that it holds."""
    names = ("name", "location", "fingerprint", "revision")
    record = {name: verified.backbone[name] for name in names}
    return StoredModule(
        path=verified.path,
        id=verified.digest[:12],
        task=verified.task,
        run=from_json(Run, verified.run),
        backbone=from_json(BackboneRecord, record),
        parents=tuple(from_json(ParentRecord, entry) for entry in verified.parents),
        composition=str(verified.record["composition"]),
    )


def _beside_or_pulled(child: StoredModule, parent: ParentRecord) -> Path:
    """The directory of a run's parent: a run beside it, or a bundle of the cache."""
    beside = child.path.parent.parent / parent.task / parent.id
    if (beside / MANIFEST).is_file():
        return beside
    for note in bundle_cache.notes(parent.sha256):
        cached = bundle_cache.cached(note["bundle"], silent)
        if cached is not None and cached.module_sha256 == parent.sha256:
            return cached.path
    raise RequestError(
        f"{child.path}: its parent {parent.task}/{parent.id} is neither beside it nor in the cache"
    )


def backbone(module: Module, asked: str | None) -> Backbone:
    """The backbone to load a module on: the one that is asked for, else the one on its record."""
    if asked is not None:
        return resolve(asked)
    if module.stored is None:
        raise TypeError(f"{module} was not read from a run or a bundle")
    record = module.stored.backbone
    if record.name in NAMED:
        return NAMED[record.name]
    pinned = f"@{record.revision}" if record.revision else ""
    return resolve(record.location + pinned)
