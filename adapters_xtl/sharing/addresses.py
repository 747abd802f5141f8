"""Bundles by their address: a directory, `file:DIR/name[@revision]`, or `user/name[@revision]`.

What is pulled is verified and kept under `<cache>/bundles/<digest>/`; where it came from is noted
beside it, so that parents can be found by the digest of their modules.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, explained_os_errors, local
from adapters_xtl.base.hub import HubListing, listing, offline
from adapters_xtl.base.untrusted import Refusal, load_json, not_ours, printable
from adapters_xtl.sharing import bundle, bundle_cache, hub_repository, shared_folder
from adapters_xtl.sharing.bundle import Bundle
from adapters_xtl.sharing.bundle_record import RECORD, BundleRecord, record_of
from adapters_xtl.sharing.shared_folder import PREFIX, SharedBundle

__all__ = ["describe", "find", "hub_id", "locate"]

Notify = Callable[[str], None]
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,96}))?")
_DESCRIPTIONS = (bundle.MANIFEST, RECORD)


def hub_id(text: str) -> tuple[str, str] | None:
    """`user/name[@revision]` → (repository, revision or ""); None for any other text."""
    match = _HUB_ID.fullmatch(text)
    return (match[1], match[2] or "") if match else None


def locate(text: str, notify: Notify) -> Path | None:
    """The verified local directory of a bundle, pulled if need be; None when `text` can be neither
    a directory with a bundle nor a hub id.
    """
    if text.startswith(PREFIX):
        return _from_folder(text, notify).path
    path = local(text)
    if path.exists():
        return bundle.read(path).path.absolute() if bundle.is_bundle(path) else None
    if hub_id(text) and not text.startswith((".", "/", "~")):
        return _from_hub(text, notify).path
    return None


def find(text: str, notify: Notify) -> Path:
    """As `locate`, but RequestError where the address names no bundle."""
    path = locate(text, notify)
    if path is None:
        folder = local(text).absolute()
        nearby_folders = text and folder.is_dir() and shared_folder.named_folders(folder, 2)
        hint = f"; did you mean {PREFIX}{printable(text)}?" if nearby_folders else ""
        raise RequestError(
            f"'{printable(text)}': no bundle directory and no hub id (user/name or"
            f" {PREFIX}DIR/name){hint}"
        )
    return path


def describe(text: str, notify: Notify) -> tuple[str, BundleRecord, dict[str, int]]:
    """(place, bundle.json, file name → bytes) of a bundle.

    Of a bundle in a folder or on a hub only manifest.json and bundle.json are read, no weights.
    """
    if text.startswith(PREFIX) and not bundle.is_bundle(shared_folder.address(text)[0]):
        shared = shared_folder.find(text)
        return shared.place, record_of(shared.path, shared.place), _sizes(shared.path)
    if not text.startswith(PREFIX) and hub_id(text) and not local(text).exists() and not offline():
        listed = _listing(text)
        with tempfile.TemporaryDirectory() as temporary:
            _fetch_descriptions(listed, Path(temporary))
            record = record_of(Path(temporary), str(listed))
        sizes = {name: file.size for name, file in listed.files.items()}
        return f"{listed.repo}@{listed.commit}", record, sizes
    path = find(text, notify)
    return text, bundle.read(path).record, _sizes(path)


def _sizes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _check_names(files: Mapping[str, int], where: str) -> None:
    """MismatchError, before anything is fetched, for files that do not belong in a bundle.

    `files`: name → bytes.
    """
    reasons = {name: bundle.unwanted(name, size) for name, size in files.items()}
    complaints = [
        f"{where}: {printable(name)}: {reason}" for name, reason in reasons.items() if reason
    ]
    if complaints:
        raise MismatchError("\n".join(complaints[: bundle.SHOWN]))


def _manifest(folder: Path, where: str) -> dict[str, str]:
    try:
        return bundle.manifest_of(load_json(folder / bundle.MANIFEST))
    except Refusal as refusal:
        raise MismatchError(f"{where}: {bundle.MANIFEST}: {refusal}") from refusal


def _from_folder(text: str, notify: Notify) -> Bundle:
    """Copies what the cache lacks."""
    path, revision = shared_folder.address(text)
    if bundle.is_bundle(path) and not revision:
        return bundle.read(path)
    shared = shared_folder.find(text)
    files = _manifest(shared.path, shared.place)
    name = digest(files)
    if not name.startswith(shared.revision):
        raise MismatchError(
            f"{shared.place}: holds a bundle with digest {name}, not the revision that was pushed"
        )
    cached = bundle_cache.cached(name, notify)
    if cached is not None:
        bundle_cache.note(cached, shared.place)
        return cached
    return _copy_to_cache(shared, name, [*files, bundle.MANIFEST], notify)


def _copy_to_cache(shared: SharedBundle, name: str, files: list[str], notify: Notify) -> Bundle:
    sizes = {}
    for file in files:
        try:
            sizes[file] = (shared.path / file).lstat().st_size
        except OSError as error:
            raise MismatchError(
                f"{shared.place}: {printable(file)}: cannot be read ({error.strerror})"
            ) from error
    _check_names(sizes, shared.place)
    notify(f"pulling {shared.place} ({sum(sizes.values()):,} bytes)")
    with bundle_cache.partial(f"folder-{name}") as partial:
        shutil.rmtree(partial, ignore_errors=True)
        with explained_os_errors(partial):
            shared_folder.copy_files(shared.path, partial, sizes)
        if bundle.read(partial, shared.place).digest != name:
            raise MismatchError(f"{shared.place}: changed while it was pulled; pull it again")
        return bundle_cache.keep(partial, shared.place, notify)


def _listing(text: str) -> HubListing:
    """The files of a hub's repository. RequestError where it holds no bundle, MismatchError where
    it holds more than one may.
    """
    match = hub_id(text)
    assert match is not None
    listed = listing(*match)
    names = {name: file.size for name, file in listed.files.items() if not not_ours(name)}
    if RECORD not in names:
        raise RequestError(f"{listed}: no {RECORD}, so no bundle")
    _check_names(names, str(listed))
    return listed


def _fetch_descriptions(listed: HubListing, into: Path) -> dict[str, str]:
    """Fetches manifest.json and bundle.json; returns the manifest's files, name → sha256."""
    for name in _DESCRIPTIONS:
        if name not in listed.files:
            raise MismatchError(f"{listed}: {name}: missing")
        hub_repository.fetch(listed, name, into / name)
    return _manifest(into, str(listed))


def _from_hub(text: str, notify: Notify) -> Bundle:
    """Fetches what the cache lacks. A revision that was pulled before is asked for by its commit
    alone.
    """
    match = hub_id(text)
    assert match is not None
    repo, revision = match[0], match[1] or "main"
    if offline():
        commit, cached = bundle_cache.cached_revision(repo, revision, notify)
        if cached is None:
            raise RequestError(
                f"{text}: HF_HUB_OFFLINE is set and the cache lacks it; unset it, or give"
                f" {PREFIX}DIR/name"
            )
        notify(f"HF_HUB_OFFLINE is set: {repo}@{commit[:12]} from the cache")
        return cached
    listed = _listing(text)
    place = f"{listed.repo}@{listed.commit}"
    _, pulled = bundle_cache.cached_revision(listed.repo, listed.commit, notify)
    if pulled is None:
        with (
            bundle_cache.partial(f"{repo.replace('/', '--')}@{listed.commit}") as partial,
            explained_os_errors(partial),
        ):
            _fetch_all(listed, partial, notify)
            pulled = bundle_cache.keep(partial, place, notify)
    bundle_cache.note(pulled, place)
    bundle_cache.remember(listed.repo, {listed.commit, revision}, listed.commit, pulled.digest)
    return pulled


def _fetch_all(listed: HubListing, partial: Path, notify: Notify) -> None:
    """Fetches every file that the manifest names. MismatchError, before any weights are fetched,
    where repository and manifest differ.
    """
    shas = _fetch_descriptions(listed, partial)
    record_of(partial, str(listed))
    held = {name: file for name, file in listed.files.items() if not not_ours(name)}
    for name in sorted(set(held) ^ {*shas, bundle.MANIFEST}):
        reason = "missing, though the manifest names it" if name in shas else "not in the manifest"
        raise MismatchError(f"{listed}: {printable(name)}: {reason}")
    for name, sha256 in shas.items():
        announced = held[name].sha256
        if announced is not None and announced != sha256:
            raise MismatchError(
                f"{listed}: {name}: its sha256 is {announced}, not the manifest's {sha256}"
            )
    total = sum(file.size for file in held.values())
    notify(f"pulling {listed} ({len(held)} files, {total:,} bytes)")
    for name, sha256 in shas.items():
        hub_repository.fetch(listed, name, partial / name, sha256)
