"""Modules that exist already: found by name, read with the parents they were trained on, and held
to their lineage.

A trained module records the fingerprint of its backbone and the digest of every parent's weights.
Loaded on anything else it would still give numbers, only not its own: so that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.registry import NAMED, resolve
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import folder_digest, read_json
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.runs.store import MANIFEST, Store, verify
from adapters_xtl.sharing import bundle, bundle_cache, hub
from adapters_xtl.sharing.bundle import Bundle

__all__ = ["backbone", "check", "find", "read", "saved", "silent"]

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
    if (path / "spec.json").is_file() and (path / MANIFEST).is_file():
        return path.resolve()
    found = store.by_id(text)
    return found[0] if found else hub.locate(text, notify)


def read(path: Path, notify: Notify = silent) -> Module:
    """The module of a finished training run or a bundle, with the parents it was trained on.

    RequestError for an evaluation, or where a run's parent is not beside it; MismatchError where a
    bundle's is not found, or a run's record is not the one that its manifest names.
    """
    if not (path / "spec.json").is_file():
        return _bundle(bundle.read(path), notify)
    verify(path, only=("spec.json", "provenance.json"))
    spec = read_json(path / "spec.json")
    if spec.get("kind") != "training":
        raise RequestError(f"{path}: an evaluation, not a trained module")
    parents = []
    for entry in spec["parents"]:
        beside = path.parent.parent / entry["task"] / entry["id"]
        if not (beside / MANIFEST).is_file():
            beside = _shelved(path, entry)
        parents.append(read(beside, notify))
    return Module(
        spec["task"],
        _run(spec["run"]),
        tuple(parents),
        existing=path,
        known=path.name,
        backbone=spec["backbone"],
    )


def _bundle(found: Bundle, notify: Notify) -> Module:
    parents = tuple(
        _bundle(bundle.read(hub.parent(entry, found, notify)), notify) for entry in found.parents
    )
    return Module(
        found.task,
        _run(found.run),
        parents,
        existing=found.path,
        known=found.digest[:12],
        backbone=found.backbone,
    )


def _shelved(run: Path, entry: Mapping[str, Any]) -> Path:
    """A run's parent that came as a bundle: in the cache under its own id."""
    shas = {each["id"]: each["sha256"] for each in _recorded(run)["parents"]}
    for note in bundle_cache.notes(shas[entry["id"]]):
        found = bundle_cache.cached(note["bundle"], silent)
        if found is not None and found.module_sha256 == shas[entry["id"]]:
            return found.path
    raise RequestError(
        f"{run}: its parent {entry['task']}/{entry['id']} is neither beside it nor in the cache"
    )


def _run(record: Mapping[str, Any]) -> Run:
    fields = dict(record)
    fields["hyper"] = Hyper(**{**fields["hyper"], "tasks": tuple(fields["hyper"]["tasks"])})
    fields["tasks"] = tuple((name, version) for name, version in fields["tasks"])
    fields["data"] = {name: tuple(shas) for name, shas in fields["data"].items()}
    fields["parents"] = tuple(fields["parents"])
    return Run(**fields)


def backbone(module: Module, asked: str | None) -> Backbone:
    """The backbone to load a module on: the one that is asked for, else the one on its record."""
    if asked is not None:
        return resolve(asked)
    record = module.backbone
    if record["name"] in NAMED:
        return NAMED[record["name"]]
    pinned = f"@{record['revision']}" if record.get("revision") else ""
    return resolve(record["location"] + pinned)


def saved(module: Module, store: Store) -> Path:
    """The directory of a trained module."""
    return module.existing or store.path(module.task, module.id)


def check(module: Module, store: Store, fingerprint: str, *, allow: bool, notify: Notify) -> None:
    """Holds a trained module, and every parent below it, against what it was trained on.

    MismatchError names both digests; with `allow` it is said instead of raised. A file of the
    module itself that is not the one its manifest names is an error in any case.
    """
    path = saved(module, store)
    if (path / "spec.json").is_file():  # a bundle was verified when it was read
        verify(path, only=("module/", "head/"))
    recorded = _recorded(path)
    problems = []
    if recorded["backbone"] != fingerprint:
        problems.append(
            f"{path}: trained on a backbone with fingerprint {recorded['backbone'][:12]}, but this"
            f" one has {fingerprint[:12]}"
        )
    for entry, parent in zip(recorded["parents"], module.parents, strict=True):
        found = folder_digest(saved(parent, store) / "module")
        if entry["sha256"] != found:
            problems.append(
                f"{path}: trained on {entry['task']} weights {entry['sha256'][:12]}, but "
                f"{saved(parent, store)} holds {found[:12]}"
            )
    if problems and not allow:
        raise MismatchError("\n".join([*problems, "--allow-mismatch loads it all the same"]))
    for problem in problems:
        notify(f"{problem} (allowed)")
    for parent in module.parents:
        check(parent, store, fingerprint, allow=allow, notify=notify)


def _recorded(path: Path) -> dict[str, Any]:
    if not (path / "spec.json").is_file():
        known = bundle.read(path)
        return {"backbone": known.run["backbone"], "parents": list(known.parents)}
    found: dict[str, Any] = read_json(path / "provenance.json")["lineage"]
    return found
