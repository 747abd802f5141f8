"""A folder as a hub: a shared drive with bundles under names and revisions, and an index of them.

    <root>/index.json                          {"bundles": {name: [entry, …]}}, the newest entry
    last <root>/bundles/<name>/<revision>/          a bundle; the revision is the beginning of its
    digest

A bundle is written aside and renamed; the index is read, changed and replaced under a lock, so that
pushes at the same time all end up in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import MismatchError, RequestError, nearest
from adapters_xtl.base.files import explained_os_errors, file_digest, local, write_json
from adapters_xtl.base.locks import locked
from adapters_xtl.base.untrusted import Refusal, load_json, open_regular, safe_name

__all__ = [
    "INDEX",
    "PREFIX",
    "add",
    "by_module",
    "copy_files",
    "entries",
    "entry",
    "find",
    "folder_of",
    "split",
    "target",
    "writable",
]

PREFIX, INDEX, LOCK = "file:", "index.json", ".xtl-hub.lock"
INDEX_BYTES = 64 << 20
REVISION = 12
_HEX = re.compile(r"[0-9a-f]{64}")
_UNFIT = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENAMETOOLONG,
)


def split(text: str) -> tuple[Path, str]:
    """`file:PATH[@revision]` → (absolute path, revision or "")."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{4,64})", text.removeprefix(PREFIX))
    path, revision = (found[1], found[2]) if found else (text.removeprefix(PREFIX), "")
    if not path:
        raise RequestError(f"{text}: names no directory; {PREFIX}. is this one")
    return local(path).absolute(), revision


def find(path: Path) -> tuple[Path, str] | None:
    """(root, name) of a path in a folder hub; name "" for the root itself; None where there is no
    hub.
    """
    for root, name in ((path, ""), (path.parent, path.name)):
        if any((root / each).is_file() for each in (INDEX, LOCK)):  # the lock is there first
            return root, name
    return None


def target(path: Path, default: str, task: str) -> tuple[Path, str]:
    """(root, name) that a push to `file:PATH` means: PATH is a hub, or a name in the one above it.

    Where neither is a hub yet, PATH becomes one, unless it does not exist and either the directory
    above it is empty or absent too, or its last part begins with the task's name: then that is the
    name, in a hub made of the one above.
    """
    found = find(path)
    if found is not None:
        return found[0], found[1] or default
    if path.is_file() or path.parent.is_file():
        raise RequestError(f"{PREFIX}{path}: a file, not a directory")
    named = path.name == task or path.name.startswith(f"{task}-")
    fresh = not path.parent.is_dir() or not any(path.parent.iterdir())
    if not path.exists() and (named or fresh):
        return path.parent, path.name
    return path, default


def entries(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The index: name → entries, oldest first. MismatchError where it is malformed."""
    if not (root / INDEX).is_file():
        return {}
    try:
        value = load_json(root / INDEX, INDEX_BYTES)
        named = value.get("bundles") if isinstance(value, dict) else None
        if not isinstance(named, dict) or not all(
            safe_name(name)
            and isinstance(revisions, list)
            and revisions
            and all(map(_is_entry, revisions))
            for name, revisions in named.items()
        ):
            raise Refusal("malformed")
    except Refusal as refusal:
        raise MismatchError(f"{PREFIX}{root}: {INDEX}: {refusal}") from refusal
    return named


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(
            isinstance(value.get(name), str) and _HEX.fullmatch(value[name])
            for name in ("digest", "module_sha256")
        )
        and isinstance(value.get("revision"), str)
        and value["digest"].startswith(value["revision"])
        and len(value["revision"]) >= REVISION
        and isinstance(value.get("facts"), dict)
        and isinstance(value.get("files"), dict)
        and all(type(size) is int for size in value["files"].values())
    )


def entry(root: Path, name: str, revision: str) -> tuple[str, dict[str, Any]]:
    """(name, entry) of a bundle; name "" stands for the only one there is, revision "" for the
    newest.
    """
    known = entries(root)
    if not name:
        if len(known) != 1:
            said = (
                f"one of {', '.join(f'{PREFIX}{root}/{each}' for each in sorted(known))}"
                if known
                else "it is empty"
            )
            raise RequestError(f"{PREFIX}{root}: which bundle? {said}")
        name = next(iter(known))
    if name not in known:
        raise RequestError(f"{PREFIX}{root}: no bundle '{name}'{nearest(name, known)}")
    fits = [each for each in known[name] if each["digest"].startswith(revision)]
    if not fits:
        revisions = [each["revision"] for each in known[name]]
        raise RequestError(
            f"{PREFIX}{root}/{name}: no revision '{revision}'{nearest(revision, revisions)}"
        )
    if len({each["digest"] for each in fits}) > 1 and revision:
        raise RequestError(
            f"{PREFIX}{root}/{name}: revision '{revision}' fits several; give more digits"
        )
    return name, fits[-1]


def by_module(root: Path, module_sha256: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, entry) of every bundle with this module, oldest first."""
    return [
        (name, each)
        for name, revisions in entries(root).items()
        for each in revisions
        if each["module_sha256"] == module_sha256
    ]


def folder_of(root: Path, name: str, found: Mapping[str, Any]) -> Path:
    return root / "bundles" / name / str(found["revision"])


def add(
    root: Path,
    name: str,
    source: Path,
    *,
    digest: str,
    module_sha256: str,
    files: Mapping[str, int],
    facts: Mapping[str, Any],
) -> tuple[str, bool]:
    """(revision, whether anything changed): the bundle in `source` as the newest of a name. `facts`
    are for listings.
    """
    if not safe_name(name):
        raise RequestError(f"{PREFIX}{root}/{name}: a name has letters, digits, '-', '_' and '.'")
    found = {
        "revision": digest[:REVISION],
        "digest": digest,
        "module_sha256": module_sha256,
        "files": dict(files),
        "facts": dict(facts),
    }
    final = folder_of(root, name, found)
    with writable(f"{PREFIX}{root}"):
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / LOCK):
            known = entries(root)
            final.parent.mkdir(parents=True, exist_ok=True)
            revisions = known.setdefault(name, [])
            whole = all(_same(source / each, final / each) for each in files)
            if whole and revisions and revisions[-1]["digest"] == digest:
                return str(found["revision"]), False
            for stale in final.parent.glob(
                ".aside-*"
            ):  # of pushes that were killed: nobody else writes under the lock
                shutil.rmtree(stale, ignore_errors=True)
            if not whole:
                aside, old = (
                    final.parent / f".aside-{os.getpid()}-{word}" for word in ("new", "old")
                )
                copy_files(source, aside, files)
                if final.exists():
                    os.rename(final, old)
                os.rename(aside, final)
                shutil.rmtree(old, ignore_errors=True)
            revisions.append(found)
            write_json(root / INDEX, {"bundles": known})
    return str(found["revision"]), True


def copy_files(source: Path, into: Path, files: Mapping[str, int]) -> None:
    """Copies named files, as many bytes as announced; MismatchError for a link, no file, or one of
    another size.
    """
    for name, size in files.items():
        path, out = source / name, into / name
        if any((source / each).is_symlink() for each in Path(name).parents):
            raise MismatchError(f"{path}: in a directory that is a symbolic link")
        try:
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size != size:
                    raise MismatchError(f"{path}: not the {size:,} bytes that were announced")
                out.parent.mkdir(parents=True, exist_ok=True)
                with out.open("wb") as copy:
                    left = size
                    while left and (chunk := file.read(min(left, 1 << 20))):
                        copy.write(chunk)
                        left -= len(chunk)
                    copy.flush()
                    os.fsync(copy.fileno())
        except Refusal as refusal:
            raise MismatchError(f"{path}: {refusal}") from refusal


def _same(left: Path, right: Path) -> bool:
    return right.is_file() and file_digest(left) == file_digest(right)


@contextlib.contextmanager
def writable(where: str) -> Iterator[None]:
    """Turns what keeps a place from being written to into one line; RequestError where another
    place would do.
    """
    try:
        with explained_os_errors(Path(where)):
            yield
    except OSError as error:
        if error.errno not in _UNFIT:
            raise
        raise RequestError(f"{where}: cannot be written ({error.strerror})") from error
