"""A folder with bundles, such as a directory on a shared drive: `file:DIR` or `file:DIR/NAME`.

    <folder>/<bundle's name>/revisions.json    {"revisions": […]}: the newest last
    <folder>/<bundle's name>/<revision>/       a bundle; the first 12 hex digits of its digest

As a destination, `file:PATH` is the folder PATH. The bundle lies in it under its own name (task,
parents, method, backbone, e.g. `xnli-on-mnli-lora-xlmr-large`). A PATH that ends in that name is
the folder above it, so that the place of a bundle is also its destination.

As a source, `file:PATH[@REVISION]` is the bundle at PATH or, where none is, the one below it: all
that was pushed to `file:DIR/NAME` is found from `file:DIR`, too. Where several bundles lie below
PATH, it is the one that no other of them was trained on.

Pushes to different names share no file. Pushes to one name take turns under a lock. A bundle is
written to a temporary directory and renamed; it is part of the folder once revisions.json lists it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError, XtlError, nearest
from adapters_xtl.base.files import explained_os_errors, file_digest, local, write_json
from adapters_xtl.base.locks import locked
from adapters_xtl.base.untrusted import Refusal, load_json, open_regular, printable, safe_name
from adapters_xtl.sharing import bundle
from adapters_xtl.sharing.bundle_record import record_of

__all__ = [
    "PREFIX",
    "SharedBundle",
    "add",
    "address",
    "by_module",
    "copy_files",
    "destination",
    "find",
    "bundle_at",
    "named_folders",
    "no_bundle_error",
    "bundles_near",
    "revisions",
    "writable",
]

PREFIX = "file:"
REVISIONS, LOCK = "revisions.json", ".xtl.lock"
REVISION = 12  # hex digits
DEPTH = 5  # directories between a folder and the bundles that are found from it
DIRECTORIES = 20_000  # that are looked into
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


@dataclass(frozen=True)
class SharedBundle:
    """One bundle in a folder. `path`: its directory, `<folder>/<name>/<revision>`."""

    path: Path

    @classmethod
    def at(cls, place: str) -> SharedBundle:
        """The bundle that a `place` names."""
        named, revision = address(place)
        return cls(named / revision)

    @property
    def revision(self) -> str:
        return self.path.name

    @property
    def folder(self) -> Path:
        """The folder that it was pushed to."""
        return self.path.parent.parent

    @property
    def place(self) -> str:
        """Its address, which stays true when newer revisions come."""
        return f"{PREFIX}{self.path.parent}@{self.revision}"


def address(text: str) -> tuple[Path, str]:
    """`file:PATH[@REVISION]` → (absolute path, revision or "")."""
    match = re.fullmatch(r"(.+)@([0-9a-f]{4,64})", text.removeprefix(PREFIX))
    path, revision = (match[1], match[2]) if match else (text.removeprefix(PREFIX), "")
    if not path:
        raise RequestError(f"{text}: names no directory; write {PREFIX}. for the current one")
    return local(path).absolute(), revision


def destination(text: str, name: str) -> Path:
    """The folder that a push of the bundle called `name` to `file:PATH` means; asks no disk."""
    path, revision = address(text)
    if revision:
        raise RequestError(f"{text}: a push makes its own revision; give the name alone")
    return path.parent if path.name == name else path


def revisions(named: Path) -> list[SharedBundle]:
    """The bundles of `<folder>/<name>`, oldest first; MismatchError where its record is damaged."""
    if not (named / REVISIONS).is_file():
        return []
    try:
        value = load_json(named / REVISIONS)
        listed = value.get("revisions") if isinstance(value, dict) else None
        if not isinstance(listed, list) or not all(map(_is_revision, listed)):
            raise Refusal("malformed")
    except Refusal as refusal:
        raise MismatchError(f"{PREFIX}{named}: {REVISIONS}: {refusal}") from refusal
    return [SharedBundle(named / revision) for revision in listed]


def bundle_at(path: Path) -> list[SharedBundle]:
    """[the bundle] if `path` is the directory of a bundle in a shared folder, else []."""
    return [SharedBundle(path)] if (path.parent / REVISIONS).is_file() else []


def _is_revision(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{REVISION}}}", value) is not None


def named_folders(path: Path, depth: int = DEPTH) -> list[Path]:
    """Every `<folder>/<name>` that is `path` or lies below it, sorted.

    Directories that are hidden, links, or not readable are passed over. RequestError where there
    are more than `DIRECTORIES`.
    """
    folders: list[Path] = []
    level, seen = [path], 0
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            if any(entry.name == REVISIONS for entry in entries):
                folders.append(folder)
            below += [
                folder / entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
                and not entry.name.startswith(".")
                and not _is_revision(entry.name)
            ]
        level, seen = below, seen + len(below)
        if seen > DIRECTORIES:
            raise RequestError(
                f"{PREFIX}{path}: more than {DIRECTORIES:,} directories below it; name one further"
                " down"
            )
    return sorted(folders)


def find(text: str) -> SharedBundle:
    """The bundle that `file:PATH[@REVISION]` names as a source. RequestError where there is none,
    or several fit.
    """
    path, revision = address(text)
    own = revisions(path)
    names = [path] if own else named_folders(path)
    if not names:
        raise no_bundle_error(path)
    candidates = {named: _newest(revisions(named), revision) for named in names}
    fitting = [shared for shared in candidates.values() if shared is not None]
    if not fitting:
        listed = [shared.revision for named in names for shared in revisions(named)]
        raise RequestError(f"{PREFIX}{path}: no revision '{revision}'{nearest(revision, listed)}")
    uppermost = fitting if len(fitting) == 1 else _uppermost(fitting)
    if len(uppermost) != 1:
        choices = ", ".join(f"{PREFIX}{shared.path.parent}" for shared in uppermost[:12])
        more = f" and {len(uppermost) - 12} more" if len(uppermost) > 12 else ""
        raise RequestError(f"{PREFIX}{path}: which bundle? one of {choices}{more}")
    return uppermost[0]


def _newest(pushed: list[SharedBundle], revision: str) -> SharedBundle | None:
    """The newest bundle whose revision begins with `revision`; RequestError where several digests
    begin so.
    """
    fitting = [shared for shared in pushed if shared.revision.startswith(revision[:REVISION])]
    if revision and len({shared.revision for shared in fitting}) > 1:
        raise RequestError(
            f"{PREFIX}{fitting[0].path.parent}: revision '{revision}' fits several; give more"
            " digits"
        )
    return fitting[-1] if fitting else None


def _uppermost(candidates: list[SharedBundle]) -> list[SharedBundle]:
    """The bundles that are no parent of another candidate; all where a record cannot be read."""
    try:
        records = {shared: record_of(shared.path, shared.place) for shared in candidates}
    except XtlError:
        return candidates
    below = {parent.sha256 for record in records.values() for parent in record.parents}
    return [shared for shared in candidates if records[shared].module_sha256 not in below]


def no_bundle_error(path: Path) -> RequestError:
    """The error for a path that neither is a bundle nor has one below it."""
    if (path / "index.json").is_file() and (path / "bundles").is_dir():
        return RequestError(
            f"{PREFIX}{path}: a folder of an older version of adapters_xtl (index.json), which this"
            " one does not read; push the bundles anew"
        )
    siblings = [named.name for named in named_folders(path.parent, 1) if named != path.parent]
    hint = nearest(path.name, siblings) if siblings else ""
    return RequestError(f"{printable(f'{PREFIX}{path}', 200)}: no bundle lies there{hint}")


def by_module(folder: Path, module_sha256: str, depth: int = DEPTH) -> list[SharedBundle]:
    """Every bundle at or below `folder` that holds this module; damaged ones are passed over."""
    matches = []
    try:
        names = named_folders(folder, depth)
    except RequestError:
        return []
    for named in names:
        with contextlib.suppress(XtlError):
            for shared in revisions(named):
                with contextlib.suppress(XtlError):
                    record = record_of(shared.path, shared.place)
                    if record.module_sha256 == module_sha256:
                        matches.append(shared)
    return matches


def bundles_near(shared: SharedBundle, module_sha256: str) -> Iterator[SharedBundle]:
    """Bundles with this module where a child's parent is looked for: in the folder of the child,
    then in the folders beside that one.
    """
    yield from by_module(shared.folder, module_sha256)
    yield from by_module(shared.folder.parent, module_sha256, depth=2)


def add(
    folder: Path, name: str, source: Path, *, digest: str, files: Mapping[str, int]
) -> tuple[SharedBundle, bool]:
    """Puts the bundle in `source` into a folder as the newest of its name.

    `files`: name → bytes. Returns the bundle there, and whether anything changed.
    """
    if not safe_name(name):
        raise RequestError(f"{PREFIX}{folder}/{name}: a name has letters, digits, '-', '_' and '.'")
    named = folder / name
    shared = SharedBundle(named / digest[:REVISION])
    for above in (named, *named.parents):
        if bundle.is_bundle(above):
            raise RequestError(f"{PREFIX}{folder}: lies inside of the bundle {above}")
        if above.exists() and not above.is_dir():
            raise RequestError(f"{PREFIX}{folder}: {above} is a file, not a directory")
    with writable(f"{PREFIX}{folder}"):
        named.mkdir(parents=True, exist_ok=True)
        with locked(named / LOCK):
            earlier = [pushed.revision for pushed in revisions(named)]
            is_intact = all(_same(source / file, shared.path / file) for file in files)
            if is_intact and earlier and earlier[-1] == shared.revision:
                return shared, False
            # what pushes left that were killed: nobody else writes here under the lock
            for stale in named.glob(".aside-*"):
                shutil.rmtree(stale, ignore_errors=True)
            if not is_intact:
                new, old = named / ".aside-new", named / ".aside-old"
                copy_files(source, new, files)
                if shared.path.exists():
                    os.rename(shared.path, old)
                os.rename(new, shared.path)
                shutil.rmtree(old, ignore_errors=True)
            order = [*(name for name in earlier if name != shared.revision), shared.revision]
            write_json(named / REVISIONS, {"revisions": order})
    return shared, True


def copy_files(source: Path, into: Path, files: Mapping[str, int]) -> None:
    """Copies named files, as many bytes as announced.

    MismatchError for a link, for what is no file, and for a file of another size.
    """
    for name, size in files.items():
        path, out = source / name, into / name
        if any((source / above).is_symlink() for above in Path(name).parents):
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
