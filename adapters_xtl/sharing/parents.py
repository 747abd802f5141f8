"""Where the modules are that a module was trained on: runs beside it, the cache, folders, hubs.

A parent is known by the digest of its weights, so whatever is found is the one, or is refused.
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
    """A module's parent where nothing needs to be fetched: a run beside it, or a bundle of the
    cache, with exactly the recorded weights. None where neither is.
    """
    beside = _beside(child, parent)
    if beside is not None and beside.module_sha256 == parent.sha256:
        return beside
    return _cached(parent, notify)


def _beside(child: StoredModule, parent: ParentRecord) -> StoredModule | None:
    """The finished run, in the same store as the child's, that a parent was; its weights are not
    looked at.
    """
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

    A run's parent is the run beside it (`check_lineage` compares the weights before they are used).
    Any other is known by the digest of its weights. It is looked for in the cache, in the folder or
    with the user that the child came from, then where the child's bundle says that it lies.
    MismatchError names the digests of child and parent, what was found instead, and what can be
    done.
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
    looked = f" ({'; '.join(tried)})" if tried else " (no place is known for it)"
    raise MismatchError(
        f"{child.path}: {child.task} (module {child.module_sha256}) was trained on {parent.task}"
        f" with module {parent.sha256}, which is neither beside it nor in the cache nor where it"
        f" was looked for{looked}; pull it from where it is, or have it pushed beside its child:"
        " xtl hub push RUN DEST --with-parents"
    )


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
        if child.run.compose == "stack" and own != below and parent.run.compose != "init":
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
    ] + shared_folder.lying_at(child.path)
    for bundle_there in dict.fromkeys(shared):
        for beside in shared_folder.near(bundle_there, parent.sha256):
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
