"""The cache of verified bundles: `<cache>/bundles/<digest>/`, and notes of where they came from.

places/<module sha256>/*.json     {"place", "bundle"}: where a module was pulled from or pushed to;
                                  "hub": the address of the hub that a repository is on
refs/<user--name>/*.json          {"commit", "bundle"} of a hub's revision, for when there is no
network partial/                          what is being fetched; an interrupted pull goes on there
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, XtlError
from adapters_xtl.base.files import cache_dir, digest, explained_os_errors, read_json, write_json
from adapters_xtl.base.hub import endpoint
from adapters_xtl.base.locks import locked
from adapters_xtl.sharing import bundle
from adapters_xtl.sharing.bundle import Bundle

__all__ = [
    "cached",
    "cached_digests",
    "cached_revision",
    "keep",
    "note",
    "notes",
    "partial",
    "remember",
]

Notify = Callable[[str], None]


def _root() -> Path:
    return cache_dir() / "bundles"


def cached(name: str, notify: Notify) -> Bundle | None:
    """A bundle by its digest, verified again. One that was changed since it was pulled is put away,
    and said so.
    """
    path = _root() / name
    if not path.is_dir():
        return None
    try:
        kept_bundle = bundle.read(path)
        if kept_bundle.digest == name:
            return kept_bundle
        difference = f"its digest is {kept_bundle.digest}"
    except XtlError as error:
        difference = str(error).splitlines()[0]
    notify(f"the cached bundle {name[:12]} was changed and is not used: {difference}")
    os.rename(path, Path(tempfile.mkdtemp(dir=_root(), prefix=".changed-")) / name)
    return None


def cached_digests() -> list[str]:
    """Digests of all bundles in the cache."""
    return sorted(path.name for path in _root().glob("[0-9a-f]*") if len(path.name) == 64)


def keep(fetched: Path, place: str, notify: Notify) -> Bundle:
    """Verifies a directory of fetched files and moves it into the cache; MismatchError, and nothing
    kept, if it fails.
    """
    verified = bundle.read(fetched, place)
    if cached(verified.digest, notify) is None:
        with contextlib.suppress(OSError):  # another process may have put the same one there by now
            os.rename(fetched, _root() / verified.digest)
    shutil.rmtree(fetched, ignore_errors=True)
    note(verified, place)
    return bundle.read(_root() / verified.digest)


def notes(module_sha256: str) -> list[dict[str, str]]:
    """[{"place", "bundle"}] of every place where a module was pulled from or pushed to: folders,
    and repositories of the hub that is spoken to now (another hub's may have the same names).
    """
    noted = [
        read_json(path) for path in sorted((_root() / "places" / module_sha256).glob("*.json"))
    ]
    return [value for value in noted if value.get("hub", "") == _hub_of(value["place"])]


def _hub_of(place: str) -> str:
    """The hub that a place is on now; "" for a folder."""
    return "" if place.startswith("file:") else endpoint()


def note(received: Bundle, place: str) -> None:
    """Records that the bundle's module lies at `place`."""
    value = {"place": place, "bundle": received.digest}
    if hub := _hub_of(place):
        value["hub"] = hub
    path = _root() / "places" / received.module_sha256 / f"{digest(value)[:16]}.json"
    if not path.is_file():
        write_json(path, value)


def _ref(repo: str, revision: str) -> Path:
    return _root() / "refs" / repo.replace("/", "--") / f"{digest(revision)[:16]}.json"


def cached_revision(repo: str, revision: str, notify: Notify) -> tuple[str, Bundle | None]:
    """(commit, bundle) that a hub's revision stood for when it was last pulled.

    ("", None) where it never was; the bundle is None where the cache lacks it now.
    """
    path = _ref(repo, revision)
    if not path.is_file():
        return "", None
    ref = read_json(path)
    return str(ref["commit"]), cached(ref["bundle"], notify)


def remember(repo: str, revisions: Iterable[str], commit: str, name: str) -> None:
    for revision in revisions:
        write_json(_ref(repo, revision), {"commit": commit, "bundle": name})


@contextlib.contextmanager
def partial(name: str) -> Iterator[Path]:
    """A directory for files that are being fetched, held under a lock.

    It stays after an interruption, so that fetching resumes; a MismatchError removes it.
    """
    folder = _root() / "partial" / name
    with explained_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{name}.lock")):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except MismatchError:
            shutil.rmtree(folder, ignore_errors=True)  # a resumed download would be refused again
            raise
