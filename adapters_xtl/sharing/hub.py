"""Bundles by their name: in a directory, in a folder hub (`file:DIR/name[@revision]`) or on a hub
(`user/name[@revision]`).

What is pulled is verified and kept under `<cache>/bundles/<digest>/`; where it came from is noted
beside it, so that parents can be found by the digest of their modules.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import MismatchError, RequestError, XtlError
from adapters_xtl.base.files import explained_os_errors, file_digest, local
from adapters_xtl.base.hub import HubListing, listing, offline
from adapters_xtl.base.untrusted import Refusal, load_json, not_ours, printable
from adapters_xtl.sharing import bundle, bundle_cache, folder_hub, repository
from adapters_xtl.sharing.bundle import Bundle

__all__ = [
    "Pushed",
    "ancestors",
    "describe",
    "facts",
    "find",
    "known_places",
    "locate",
    "module_tag",
    "parent",
    "published_places",
    "push",
]

Notify = Callable[[str], None]
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,96}))?")
_SMALL = (bundle.MANIFEST, bundle.RECORD)


@dataclass(frozen=True)
class Pushed:
    """Where a bundle lies now; `new`: whether the push changed anything there."""

    place: str
    new: bool


def module_tag(module_sha256: str) -> str:
    """The tag by which a module is found on a hub."""
    return f"xtl-module-{module_sha256[:16]}"


def locate(text: str, notify: Notify) -> Path | None:
    """The verified local directory of a bundle, pulled if need be; None when `text` can be neither
    directory nor hub id.
    """
    if text.startswith(folder_hub.PREFIX):
        return _from_folder(text, notify).path
    path = local(text)
    if path.exists():
        return bundle.read(path).path.absolute() if bundle.is_bundle(path) else None
    if _HUB_ID.fullmatch(text) and not text.startswith((".", "/", "~")):
        return _from_hub(text, notify).path
    return None


def find(text: str, notify: Notify) -> Path:
    """`locate`; RequestError where there is nothing."""
    path = locate(text, notify)
    if path is None:
        path = local(text)
        meant = (
            f"; did you mean {folder_hub.PREFIX}{text}?"
            if text and folder_hub.find(path.absolute())
            else ""
        )
        raise RequestError(
            f"'{printable(text)}': no bundle directory and no hub id (user/name or"
            f" file:DIR/name){meant}"
        )
    return path


def parent(record: Mapping[str, Any], of: Bundle, notify: Notify) -> Path:
    """The verified local directory of a parent, by the digest of its module.

    Looks into the cache, then into the hub that the child came from, then where the child says.
    MismatchError names the digests of child and parent, what was found instead, and what can be
    done.
    """
    wanted = str(record["sha256"])
    for note in bundle_cache.notes(wanted):
        found = bundle_cache.cached(note["bundle"], notify)
        if found is not None and found.module_sha256 == wanted:
            return found.path
    tried: list[str] = []
    for place in dict.fromkeys(_places(record, of, tried)):
        try:
            path = locate(place, notify)
            found = bundle.read(path) if path else None
        except XtlError as error:
            tried.append(str(error).splitlines()[0])
            continue
        if found is not None and found.module_sha256 == wanted:
            return found.path
        if found is not None:
            tried.append(f"{place} holds another module, {found.module_sha256}")
    looked = f" ({'; '.join(tried)})" if tried else " (no place is known for it)"
    raise MismatchError(
        f"{of.task} (module {of.module_sha256}) was trained on {record['task']} with module"
        f" {wanted}, which is neither in the cache nor where it was looked for{looked}; pull it"
        " from where it is, or have it pushed beside its child: xtl hub push RUN DEST"
        " --with-parents"
    )


def ancestors(of: Bundle, notify: Notify) -> list[Bundle]:
    """Every parent of a bundle and theirs, each once, in the order of the chain. MismatchError
    where one is missing.
    """
    found: dict[str, Bundle] = {}
    below: list[str] = []
    for record in of.parents:
        each = bundle.read(parent(record, of, notify))
        own = [str(entry["sha256"]) for entry in each.parents]
        if of.record["compose"] == "stack" and own != below and each.record["compose"] != "init":
            raise MismatchError(
                f"{of.task}: its parent {each.task} was trained on {own or 'nothing'}, not on"
                f" {below}"
            )
        found |= {above.digest: above for above in (*ancestors(each, notify), each)}
        below.append(each.module_sha256)
    return list(found.values())


def _places(record: Mapping[str, Any], of: Bundle, tried: list[str]) -> Iterator[str]:
    """Where a parent may lie: the hubs its child came from, then the places its child names."""
    wanted = str(record["sha256"])
    origins = [
        note["place"]
        for note in bundle_cache.notes(of.module_sha256)
        if note["bundle"] == of.digest
    ]
    shelved = [
        f"{folder_hub.PREFIX}{of.path.parent.parent.parent}"
    ]  # where it lies itself, if that is a folder hub
    local = not origins or any(place.startswith(folder_hub.PREFIX) for place in origins)
    for root in dict.fromkeys(_roots([*shelved, *origins])):
        for name, entry in folder_hub.by_module(root, wanted):
            yield f"{folder_hub.PREFIX}{root}/{name}@{entry['revision']}"
    owners = dict.fromkeys(
        place.split("/")[0] for place in origins if not place.startswith(folder_hub.PREFIX)
    )
    for place in record["where"]:
        if local or not place.startswith(
            folder_hub.PREFIX
        ):  # a stranger on a hub names no directory of this machine
            yield place
    yield from (note["place"] for note in bundle_cache.notes(wanted))
    for owner in owners if not offline() else ():
        try:
            yield from repository.search(owner, module_tag(wanted))
        except XtlError as error:
            tried.append(str(error).splitlines()[0])


def _roots(places: list[str]) -> list[Path]:
    found = (
        folder_hub.find(folder_hub.split(place)[0])
        for place in places
        if place.startswith(folder_hub.PREFIX)
    )
    return [each[0] for each in found if each is not None]


def published_places(dest: str, name: str, notify: Notify) -> dict[str, list[str]]:
    """sha256 of a parent's module → where the bundle that `dest` holds now says that it lies; {}
    where it holds none.

    What was published once is said again: else a bundle would differ from itself as soon as a
    second place is known.
    """
    try:
        if dest.startswith(folder_hub.PREFIX):
            hub = folder_hub.find(folder_hub.split(dest)[0])
            dest = f"{folder_hub.PREFIX}{hub[0]}/{hub[1] or name}" if hub else dest
        return {str(each["sha256"]): each["where"] for each in describe(dest, notify)[1]["parents"]}
    except RequestError:
        return {}


def known_places(module_sha256: str, dest: str) -> list[str]:
    """Where a module is known to lie, for a bundle that goes to `dest`: places there, else wherever
    else it can be had.
    """
    if dest.startswith(folder_hub.PREFIX):
        hub = folder_hub.find(folder_hub.split(dest)[0])
        there = folder_hub.by_module(hub[0], module_sha256) if hub else []
        if hub and there:
            return [f"{folder_hub.PREFIX}{hub[0]}/{there[0][0]}@{there[0][1]['revision']}"]
        return sorted({note["place"] for note in bundle_cache.notes(module_sha256)})
    places = {
        note["place"]
        for note in bundle_cache.notes(module_sha256)
        if not note["place"].startswith(folder_hub.PREFIX)
    }
    same = {place for place in places if place.split("/")[0] == dest.split("/")[0]}
    return sorted(same or places)


def push(folder: Path, dest: str, default: str, notify: Notify, *, private: bool = False) -> Pushed:
    """A finished bundle directory to a folder hub or a hub. `default`: its name where `dest` gives
    none.
    """
    found = bundle.read(folder)
    names = bundle.manifest_of(load_json(folder / bundle.MANIFEST))
    files = {name: (folder / name).stat().st_size for name in (*names, bundle.MANIFEST)}
    if dest.startswith(folder_hub.PREFIX):
        path, revision = folder_hub.split(dest)
        if revision:
            raise RequestError(f"{dest}: a push makes its own revision; give the name alone")
        root, name = folder_hub.target(path, default, found.task)
        revision, new = folder_hub.add(
            root,
            name,
            folder,
            digest=found.digest,
            module_sha256=found.module_sha256,
            files=files,
            facts=facts(found),
        )
        place = f"{folder_hub.PREFIX}{root}/{name}@{revision}"
    else:
        match = _HUB_ID.fullmatch(dest)
        if match is None or match[2]:
            raise RequestError(f"{printable(dest)}: push to file:DIR, file:DIR/name or user/name")
        if offline():
            raise RequestError(
                f"{dest}: HF_HUB_OFFLINE is set, so nothing can be pushed there; unset it or use"
                " file:DIR"
            )
        notify(f"pushing {len(files)} files, {sum(files.values()):,} bytes, to {dest}")
        shas = {**names, bundle.MANIFEST: file_digest(folder / bundle.MANIFEST)}
        commit, new = repository.upload(
            match[1], folder, shas, private=private, message=f"{found.task} {found.id}"
        )
        place = f"{match[1]}@{commit}"
    bundle_cache.note(found, place)
    return Pushed(place, new)


def facts(found: Bundle) -> dict[str, Any]:
    """What a listing shows of a bundle."""
    stack = ">".join([*(str(each["task"]) for each in found.parents), found.task])
    return {
        "task": found.task,
        "id": found.id,
        "stack": stack,
        "method": found.record["method"],
        "backbone": found.backbone["name"],
        "fingerprint": found.backbone["fingerprint"],
    }


def describe(text: str, notify: Notify) -> tuple[str, dict[str, Any], dict[str, int]]:
    """(place, bundle.json, name → bytes) of a bundle. Of one on a hub its descriptions are read,
    and no weights.
    """
    if text.startswith(folder_hub.PREFIX):
        hub = folder_hub.find(folder_hub.split(text)[0])
        if hub is not None:
            name, entry = folder_hub.entry(*hub, folder_hub.split(text)[1])
            place = f"{folder_hub.PREFIX}{hub[0]}/{name}@{entry['revision']}"
            return place, _record(folder_hub.folder_of(hub[0], name, entry), place), entry["files"]
    elif _HUB_ID.fullmatch(text) and not local(text).exists() and not offline():
        there = _listing(text)
        with tempfile.TemporaryDirectory() as aside:
            _descriptions(there, Path(aside))
            record = _record(Path(aside), str(there))
        return (
            f"{there.repo}@{there.commit}",
            record,
            {name: file.size for name, file in there.files.items()},
        )
    path = find(text, notify)
    sizes = {
        each.relative_to(path).as_posix(): each.stat().st_size
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }
    return text, dict(bundle.read(path).record), sizes


def _from_folder(text: str, notify: Notify) -> Bundle:
    path, revision = folder_hub.split(text)
    hub = folder_hub.find(path)
    if hub is None:
        if bundle.is_bundle(path) and not revision:
            return bundle.read(path)
        raise RequestError(
            f"{printable(text)}: neither a folder hub (with {folder_hub.INDEX}) nor a bundle"
        )
    name, entry = folder_hub.entry(*hub, revision)
    place = f"{folder_hub.PREFIX}{hub[0]}/{name}@{entry['revision']}"
    known = bundle_cache.cached(entry["digest"], notify)
    if known is not None:
        bundle_cache.note(known, place)
        return known
    _check_names(entry["files"], place)
    notify(f"pulling {place} ({sum(entry['files'].values()):,} bytes)")
    with bundle_cache.partial(f"folder-{entry['digest']}") as partial:
        shutil.rmtree(partial, ignore_errors=True)
        with explained_os_errors(partial):
            folder_hub.copy_files(
                folder_hub.folder_of(hub[0], name, entry), partial, entry["files"]
            )
        found = bundle.read(partial, place)
        if found.digest != entry["digest"]:
            raise MismatchError(
                f"{place}: holds a bundle with digest {found.digest}, not the index's"
                f" {entry['digest']}"
            )
        return bundle_cache.keep(partial, place, notify)


def _listing(text: str) -> HubListing:
    match = _HUB_ID.fullmatch(text)
    assert match is not None
    there = listing(match[1], match[2] or "")
    names = {name: file.size for name, file in there.files.items() if not not_ours(name)}
    if bundle.RECORD not in names:
        raise RequestError(f"{there}: no {bundle.RECORD}, so no bundle")
    _check_names(names, str(there))
    return there


def _check_names(files: Mapping[str, int], where: str) -> None:
    """MismatchError, before anything is fetched, for files that no bundle has. `files`: name →
    bytes.
    """
    reasons = {name: bundle.unwanted(name, size) for name, size in files.items()}
    complaints = [
        f"{where}: {printable(name)}: {reason}" for name, reason in reasons.items() if reason
    ]
    if complaints:
        raise MismatchError("\n".join(complaints[: bundle.SHOWN]))


def _descriptions(there: HubListing, into: Path) -> dict[str, str]:
    """Fetches manifest.json and bundle.json; the manifest's files."""
    for name in _SMALL:
        if name not in there.files:
            raise MismatchError(f"{there}: {name}: missing")
        repository.fetch(there, name, into / name)
    try:
        return bundle.manifest_of(load_json(into / bundle.MANIFEST))
    except Refusal as refusal:
        raise MismatchError(f"{there}: {bundle.MANIFEST}: {refusal}") from refusal


def _record(folder: Path, where: str) -> dict[str, Any]:
    try:
        return bundle.parse_record(load_json(folder / bundle.RECORD, bundle.RECORD_BYTES))
    except Refusal as refusal:
        raise MismatchError(f"{where}: {bundle.RECORD}: {refusal}") from refusal


def _from_hub(text: str, notify: Notify) -> Bundle:
    """Fetches what the cache lacks. A revision that was pulled before is asked for by its commit
    alone.
    """
    match = _HUB_ID.fullmatch(text)
    assert match is not None
    if offline():
        commit, known = bundle_cache.known(match[1], match[2] or "main", notify)
        if known is None:
            raise RequestError(
                f"{text}: HF_HUB_OFFLINE is set and the cache lacks it; unset it, or give"
                " file:DIR/name"
            )
        notify(f"HF_HUB_OFFLINE is set: {match[1]}@{commit[:12]} from the cache")
        return known
    there = _listing(text)
    place = f"{there.repo}@{there.commit}"
    _, found = bundle_cache.known(there.repo, there.commit, notify)
    if found is None:
        with (
            bundle_cache.partial(f"{match[1].replace('/', '--')}@{there.commit}") as partial,
            explained_os_errors(partial),
        ):
            shas = _descriptions(there, partial)
            _record(partial, str(there))
            held = {name: file for name, file in there.files.items() if not not_ours(name)}
            for name in sorted(set(held) ^ {*shas, bundle.MANIFEST}):
                said = (
                    "missing, though the manifest names it"
                    if name in shas
                    else "not in the manifest"
                )
                raise MismatchError(f"{there}: {printable(name)}: {said}")
            for name, sha256 in shas.items():
                announced = held[name].sha256
                if announced is not None and announced != sha256:
                    raise MismatchError(
                        f"{there}: {name}: its sha256 is {announced}, not the manifest's {sha256}"
                    )
            notify(
                f"pulling {there} ({len(held)} files, {sum(file.size for file in held.values()):,}"
                " bytes)"
            )
            for name, sha256 in shas.items():
                repository.fetch(there, name, partial / name, sha256)
            found = bundle_cache.keep(partial, place, notify)
    bundle_cache.note(found, place)
    bundle_cache.remember(
        there.repo, {there.commit, match[2] or "main"}, there.commit, found.digest
    )
    return found
