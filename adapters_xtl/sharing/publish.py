"""Packs modules as bundles and pushes them, with their parents, to a folder or a hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError, nearest
from adapters_xtl.base.files import file_digest, folder_bytes, local
from adapters_xtl.base.hub import offline
from adapters_xtl.base.untrusted import load_json, printable
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredModule, StoredRun, is_run, read_run
from adapters_xtl.sharing import (
    addresses,
    bundle,
    bundle_cache,
    hub_repository,
    module_lookup,
    pack,
    shared_folder,
)
from adapters_xtl.sharing.bundle import Bundle
from adapters_xtl.sharing.bundle_record import PLACES
from adapters_xtl.sharing.parents import parent_on_this_machine
from adapters_xtl.sharing.shared_folder import PREFIX

__all__ = ["Pushed", "find_shareable", "places_of_parent", "push", "share"]

Notify = Callable[[str], None]
Shareable = StoredRun | Bundle


@dataclass(frozen=True)
class Pushed:
    """A bundle that was pushed.

    place  its address at the destination
    new    whether the push changed anything there
    bytes  of all its files
    """

    bundle: Bundle
    place: str
    new: bool
    bytes: int


def find_shareable(text: str, store: Store, notify: Notify) -> Shareable:
    """The bundle or the training run that a directory, an id or an address names. An evaluation
    stands for the run whose module it scored.
    """
    path: Path | None = local(text)
    if path is None or not bundle.is_bundle(path):
        path = module_lookup.find(text, store, notify)
    if path is None:
        ids = [run.name for run in store.all()]
        raise RequestError(
            f"'{printable(text)}': no finished run directory, no run id and no"
            f" bundle{nearest(text, ids)}"
        )
    return pack.training_run(path) if is_run(path) else bundle.read(path)


def share(
    source: Shareable,
    dest: str,
    *,
    with_parents: bool,
    private: bool = False,
    licence: str = "",
    rows: str = "",
    notify: Notify,
) -> list[Pushed]:
    """Pushes a run or a bundle; what was pushed, its parents first, itself last.

    `with_parents`: also every parent that the destination lacks, each under its own name in the
    same folder or with the same user of the hub.
    """
    _check_destination(dest)
    name = pack.default_name(source.module)
    pushed: list[Pushed] = []
    if with_parents:
        _share_parents(source.module, dest, name, pushed, private=private, notify=notify)
    last = _share_one(
        source, dest, name, private=private, licence=licence, rows=rows, notify=notify
    )
    return [*pushed, last]


def _share_parents(
    child: StoredModule,
    dest: str,
    name: str,
    pushed: list[Pushed],
    *,
    private: bool,
    notify: Notify,
) -> None:
    """Pushes the parents, the lowest first. `dest` and `name`: of the bundle they stand below."""
    for record in child.parents:
        parent = parent_on_this_machine(child, record, notify)
        if parent is None:
            raise MismatchError(
                f"{child.path}: its parent {record.task} ({record.id}, module {record.sha256}) is"
                " neither in its store nor in the cache, so it cannot be pushed; `xtl hub pull` it"
                " first"
            )
        _share_parents(parent, dest, name, pushed, private=private, notify=notify)
        if any(done.bundle.module_sha256 == record.sha256 for done in pushed):
            continue
        shared_place = _place_beside(dest, name, record.sha256)
        if shared_place.startswith(PREFIX):
            continue  # the folder has it
        own = pack.default_name(parent)
        target = shared_place.split("@")[0] or _parent_destination(dest, name, own)
        source = read_run(parent.path) if is_run(parent.path) else bundle.read(parent.path)
        pushed.append(_share_one(source, target, own, private=private, notify=notify))


def _share_one(
    source: Shareable,
    dest: str,
    name: str,
    *,
    private: bool,
    licence: str = "",
    rows: str = "",
    notify: Notify,
) -> Pushed:
    """Pushes one bundle, made first where `source` is a run."""
    if isinstance(source, Bundle):
        flags = [flag for flag, value in (("--licence", licence), ("--rows", rows)) if value]
        if flags:
            raise RequestError(
                f"{' and '.join(flags)}: {source.path} is a bundle, shared as it is; push its run"
                " instead"
            )
        return push(source, dest, name, notify, private=private)
    parents = source.module.parents
    published = _published_places(dest, name, notify) if parents else {}
    with tempfile.TemporaryDirectory(prefix="xtl-bundle-") as temporary:
        pack.pack(
            source,
            Path(temporary),
            where=lambda sha256: published.get(sha256) or places_of_parent(sha256, dest),
            licence=pack.check_licence(licence),
            rows=rows,
        )
        packed = bundle.read(Path(temporary))
        if licence and packed.record.made_from:
            notify(f"licence {licence}, as you say; {'; '.join(packed.record.made_from)}")
        pushed = push(packed, dest, name, notify, private=private)
    for parent in pushed.bundle.record.parents:
        if not parent.where and not _is_near(pushed.place, parent.sha256):
            notify(
                f"its parent {parent.task} is not shared, as far as this machine knows, so whoever"
                " pulls this bundle may not find it: push it too, with --with-parents"
            )
    return pushed


def _is_near(place: str, module_sha256: str) -> bool:
    """Whether the parent lies in or beside the folder of the bundle at `place`, where a pull
    searches by itself.
    """
    if not place.startswith(PREFIX):
        return False
    shared = shared_folder.SharedBundle.at(place)
    return next(shared_folder.bundles_near(shared, module_sha256), None) is not None


def _check_destination(dest: str) -> None:
    """RequestError unless `dest` is an address that a bundle can be pushed to."""
    if dest.startswith(PREFIX):
        shared_folder.destination(dest, "")
        return
    match = addresses.hub_id(dest)
    if match is None or match[1]:
        raise RequestError(f"{printable(dest)}: push to {PREFIX}DIR, {PREFIX}DIR/NAME or user/name")
    if offline():
        raise RequestError(
            f"{dest}: HF_HUB_OFFLINE is set, so nothing can be pushed there; unset it or use"
            f" {PREFIX}DIR"
        )


def push(source: Bundle, dest: str, name: str, notify: Notify, *, private: bool = False) -> Pushed:
    """Pushes a finished bundle to a folder or a hub. `name`: its name in a folder."""
    _check_destination(dest)
    folder = source.path
    names = bundle.manifest_of(load_json(folder / bundle.MANIFEST))
    files = {file: (folder / file).stat().st_size for file in (*names, bundle.MANIFEST)}
    if dest.startswith(PREFIX):
        shared, new = shared_folder.add(
            shared_folder.destination(dest, name), name, folder, digest=source.digest, files=files
        )
        place = shared.place
    else:
        notify(f"pushing {len(files)} files, {sum(files.values()):,} bytes, to {dest}")
        shas = {**names, bundle.MANIFEST: file_digest(folder / bundle.MANIFEST)}
        commit, new = hub_repository.upload(
            dest, folder, shas, private=private, message=f"{source.task} {source.record.id}"
        )
        place = f"{dest}@{commit}"
    bundle_cache.note(source, place)
    return Pushed(source, place, new, folder_bytes(folder))


def _parent_destination(dest: str, name: str, parent: str) -> str:
    """The destination of a parent that is pushed together with the bundle `name`: the same folder,
    or the same user of the hub. `parent`: the parent's name.
    """
    if dest.startswith(PREFIX):
        return f"{PREFIX}{shared_folder.destination(dest, name)}"
    return f"{dest.split('/')[0]}/{parent}"


def _place_beside(dest: str, name: str, module_sha256: str) -> str:
    """The place of a module in the folder, or with the user of the hub, that `dest` names; "" where
    none is known.
    """
    if dest.startswith(PREFIX):
        shared = shared_folder.by_module(shared_folder.destination(dest, name), module_sha256)
        return shared[0].place if shared else ""
    places = places_of_parent(module_sha256, dest)
    owner = dest.split("/")[0]
    return next((place for place in places if place.split("/")[0] == owner), "")


def places_of_parent(module_sha256: str, dest: str) -> list[str]:
    """Repositories of a hub that hold a module, as far as this cache knows.

    Those of the user that `dest` names if there are any, else all; at most `PLACES`. Directories
    are left out: the receiver of a bundle cannot reach directories of this machine, and a pull
    searches the bundle's own folder by itself.
    """
    notes = bundle_cache.notes(module_sha256)
    places = {note["place"] for note in notes if not note["place"].startswith(PREFIX)}
    same = {place for place in places if place.split("/")[0] == dest.split("/")[0]}
    return sorted(same or places)[:PLACES]


def _published_places(dest: str, name: str, notify: Notify) -> dict[str, Sequence[str]]:
    """sha256 of a parent's module → its places, as recorded in the bundle that `dest` holds now;
    {} where it holds none.

    A new push repeats these places. Otherwise an unchanged module would be pushed as another bundle
    as soon as a second place of its parent is known.
    """
    if dest.startswith(PREFIX):
        dest = f"{PREFIX}{shared_folder.destination(dest, name) / name}"
    try:
        record = addresses.describe(dest, notify)[1]
    except RequestError:
        return {}
    return {parent.sha256: parent.where for parent in record.parents}
