"""Where the modules are that a module was trained on: runs beside it, the cache, folders, hubs.

A parent is identified by the digest of its weights: a candidate with another digest is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, XtlError
from adapters_xtl.base.hub import offline
from adapters_xtl.runs.records import ParentRecord
from adapters_xtl.runs.store import is_finished
from adapters_xtl.runs.stored_runs import StoredModule, is_run, read_run_module
from adapters_xtl.sharing import addresses, bundle, bundle_cache, hub_repository, shared_folder
from adapters_xtl.sharing.bundle import Bundle
from adapters_xtl.sharing.shared_folder import PREFIX, SharedBundle

__all__ = ["ancestors", "parent_on_this_machine", "read_module", "read_parent"]

Notify = Callable[[str], None]


def read_module(path: Path) -> StoredModule:
    """The trained module in a directory of a finished run or of a bundle, verified."""
    return read_run_module(path) if is_run(path) else bundle.read(path).module


def parent_on_this_machine(
    child: StoredModule, parent: ParentRecord, notify: Notify
) -> StoredModule | None:
    """A module's parent if it is on this machine: a run in the child's store, or a bundle of the
    cache, with exactly the recorded weights. None where there is neither.
    """
    beside = _beside(child, parent)
    if beside is not None and beside.module_sha256 == parent.sha256:
        return beside
    return _cached(parent, notify)


def _beside(child: StoredModule, parent: ParentRecord) -> StoredModule | None:
    """The parent's finished run in the child's store, by its id; its weights are not compared."""
    path = child.path.parent.parent / parent.task / parent.id
    return read_run_module(path) if is_run(path) and is_finished(path) else None


def _cached(parent: ParentRecord, notify: Notify) -> StoredModule | None:
    for note in bundle_cache.notes(parent.sha256):
        cached = bundle_cache.cached(note["bundle"], notify)
        if cached is not None and cached.module_sha256 == parent.sha256:
            return cached.module
    return None


def read_parent(child: StoredModule, parent: ParentRecord, notify: Notify) -> StoredModule:
    """A module's parent; pulled if need be.

    The parent of a run is a run in the same store (`check_lineage` compares the weights before they
    are used). The parent of a bundle is identified by the digest of its weights. It is searched for
    in the cache, in the folder or with the hub user that the child came from, then at the places
    that the child's bundle names. MismatchError names the digests of child and parent, the modules
    that were examined, and what the user can do.
    """
    stored = _beside(child, parent) if is_run(child.path) else None
    stored = stored or _cached(parent, notify)
    if stored is not None:
        return stored
    tried: list[str] = []
    for place in dict.fromkeys(_places(child, parent, tried)):
        try:
            path = addresses.locate(place, notify)
            pulled = bundle.read(path) if path else None
        except XtlError as error:
            tried.append(str(error).splitlines()[0])
            continue
        if pulled is not None and pulled.module_sha256 == parent.sha256:
            return pulled.module
        if pulled is not None:
            tried.append(f"{place} holds another module, {pulled.module_sha256}")
    searched = f" ({'; '.join(tried)})" if tried else " (no place is known for it)"
    raise MismatchError(
        f"{child.path}: {child.task} (module {child.module_sha256}) was trained on {parent.task}"
        f" with module {parent.sha256}, which is not in the child's store, not in the cache and at"
        f" no other known place{searched}; pull that module by its address, or have its owner push"
        " both: xtl hub push RUN DEST --with-parents"
    )


# a parent of these compositions was trained on modules that are not below it
STANDS_ALONE = ("init", "sum")


def ancestors(child: Bundle, notify: Notify) -> list[StoredModule]:
    """Every parent of a bundle and theirs, each once, in the order of the chain. MismatchError
    where one is missing, or was itself trained on others than the child's record says.
    """
    ancestor_of_digest: dict[str, StoredModule] = {}
    _add_ancestors(child.module, ancestor_of_digest, notify)
    return list(ancestor_of_digest.values())


def _add_ancestors(
    child: StoredModule, ancestor_of_digest: dict[str, StoredModule], notify: Notify
) -> None:
    below: list[str] = []
    for record in child.parents:
        parent = read_parent(child, record, notify)
        own = [grandparent.sha256 for grandparent in parent.parents]
        if child.run.compose == "stack" and own != below and parent.run.compose not in STANDS_ALONE:
            raise MismatchError(
                f"{child.task}: its parent {parent.task} was trained on {own or 'nothing'}, not on"
                f" {below}"
            )
        _add_ancestors(parent, ancestor_of_digest, notify)
        ancestor_of_digest.setdefault(parent.module_sha256, parent)
        below.append(parent.module_sha256)


def _places(child: StoredModule, parent: ParentRecord, tried: list[str]) -> Iterator[str]:
    """Addresses at which a parent may lie; what could not be asked goes to `tried`."""
    origins = [
        note["place"]
        for note in bundle_cache.notes(child.module_sha256)
        if note["bundle"].startswith(child.id)
    ]
    shared = [
        SharedBundle.at(place) for place in origins if place.startswith(PREFIX)
    ] + shared_folder.bundle_at(child.path)
    for bundle_there in dict.fromkeys(shared):
        for beside in shared_folder.bundles_near(bundle_there, parent.sha256):
            yield beside.place
    yield from _stated_places(child, parent)
    yield from (note["place"] for note in bundle_cache.notes(parent.sha256))
    owners = dict.fromkeys(place.split("/")[0] for place in origins if not place.startswith(PREFIX))
    for owner in owners if not offline() else ():
        try:
            yield from hub_repository.search(owner, hub_repository.module_tag(parent.sha256))
        except XtlError as error:
            tried.append(str(error).splitlines()[0])


def _stated_places(child: StoredModule, parent: ParentRecord) -> tuple[str, ...]:
    """Where the child's bundle says that a parent lies: repositories of a hub."""
    if not bundle.is_bundle(child.path):
        return ()
    record = bundle.read(child.path).record
    return next((stated.where for stated in record.parents if stated.sha256 == parent.sha256), ())
