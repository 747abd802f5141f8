"""Canonical JSON, digests of values and files, and writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.untrusted import printable

__all__ = [
    "apply_umask",
    "atomic_write",
    "cache_dir",
    "canonical",
    "current_umask",
    "digest",
    "explain_denied",
    "explained_os_errors",
    "explained_save_errors",
    "file_digest",
    "folder_bytes",
    "folder_digest",
    "link_or_copy",
    "local",
    "public_files",
    "read_json",
    "read_regular",
    "says_disk_is_full",
    "symlink_or_copy",
    "sync",
    "write_json",
]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError(f"{value} has no canonical JSON form")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("canonical JSON takes string keys only")
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, 3.0 written as 3. TypeError on any
    other type or NaN.
    """
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (64 hex digits) of the canonical JSON of `value`."""
    # half a character, which argv may hold, is refused where it is named
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


@cache
def public_files(*folders: str) -> tuple[str, ...]:
    """Names, without `.py`, of the Python files of folders that do not begin with `_`, sorted. The
    same folders are listed once a process.
    """
    stems = (path.stem for folder in folders for path in Path(folder).glob("*.py"))
    return tuple(sorted(stem for stem in stems if not stem.startswith("_")))


def cache_dir() -> Path:
    """The directory for what can be made again: $XTL_CACHE, else ~/.cache/adapters_xtl."""
    root = os.environ.get("XTL_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"),
        "adapters_xtl",
    )
    return Path(root)


def file_digest(path: Path, *, remember: bool = False) -> str:
    """sha256 of a file's bytes. `remember` keeps it in the cache under the file's path, size and
    mtime.
    """
    note: Path | None = None
    if remember:
        stat = path.stat()
        place = str(path.resolve()).encode("utf-8", "backslashreplace").decode()
        key = digest([place, stat.st_size, stat.st_mtime_ns])
        note = cache_dir() / "digests" / key[:2] / key
        with contextlib.suppress(OSError):
            return note.read_text()
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    if note is not None:
        with contextlib.suppress(OSError, RunError):
            atomic_write(note, value)
    return value


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a directory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def folder_digest(folder: Path) -> str:
    """sha256 over the names and sha256 of a directory's files."""
    return digest(
        {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    )


def local(text: str) -> Path:
    """The path that a text means. RequestError where it can be none: `~nobody/x`, a name that is
    too long.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"{printable(text)}: no path ({str(reason).rstrip('.').lower()})"
        ) from error
    return path


@contextlib.contextmanager
def explained_os_errors(path: Path) -> Iterator[None]:
    """Turns a full disk and a refused permission into one line that names the place.

    RunError for the disk, RequestError for the permission; other errors pass.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"the disk is full: could not write {place}") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise RequestError(explain_denied(Path(os.fsdecode(place)))) from error
        raise


@contextlib.contextmanager
def explained_save_errors(path: Path) -> Iterator[None]:
    """Like `explained_os_errors`, also where a library raises an error of its own for a full disk
    or quota and repeats the system's words.
    """
    with explained_os_errors(path):
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            if says_disk_is_full(str(error)):
                raise OSError(errno.ENOSPC, "No space left on device", str(path)) from error
            raise


def says_disk_is_full(text: str) -> bool:
    """Whether an error's text has the system's words for a full disk or a full quota."""
    return "No space left on device" in text or "Disk quota exceeded" in text


def explain_denied(place: Path) -> str:
    """One line on a place that may not be used: whose it is, and what lets others use it."""
    existing = place
    with contextlib.suppress(OSError):
        while not os.path.lexists(existing) and existing != existing.parent:
            existing = existing.parent
        if os.access(existing, os.R_OK) and _is_read_only(existing):
            return f"{place}: lies on a read-only file system; choose another place"
    with contextlib.suppress(OSError, KeyError, NotImplementedError):  # the last: Windows
        owner = existing.owner()
        return (
            f"{place}: permission denied; {existing} belongs to {owner}, who can share it"
            f" (chmod -R g+rwX {existing}, and umask 002 from then on), or choose another place"
        )
    return f"{place}: permission denied; choose another place, or have its owner share it"


def _is_read_only(place: Path) -> bool:
    if not hasattr(os, "statvfs"):  # Windows
        return False
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def apply_umask(folder: Path) -> None:
    """Gives every file and directory of ours below `folder` the permissions that the umask gives.

    Libraries write some for the owner alone (safetensors, tempfile).
    """
    if not hasattr(os, "geteuid"):  # Windows: permissions are inherited from the folder
        return
    umask = current_umask()
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink() or path.stat().st_uid != os.geteuid():
            continue
        if path.is_dir():
            path.chmod((path.stat().st_mode & 0o7000) | (0o777 & ~umask))
        else:
            path.chmod(0o666 & ~umask)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Writes aside, flushes to disk, renames: a reader sees the old file or the new one, never a
    part.
    """
    data = content.encode() if isinstance(content, str) else content
    with explained_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise


def sync(path: Path) -> None:
    """Flushes a file or a directory to disk; on Windows, which opens no directory, a file."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: str, target: str) -> str:
    """Makes `target` the same file as `source`, or a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def symlink_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a link to `source`; where a user may make none (Windows), as `link_or_copy`
    does.
    """
    try:
        target.symlink_to(source)
    except OSError:
        link_or_copy(str(source), str(target))


def write_json(path: Path, value: Any) -> None:
    """Readable JSON (two spaces, keys in the given order), written atomically."""
    atomic_write(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(read_regular(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file; of one that is longer than `most`, the first `most` + 1.

    OSError for a fifo, a device or a directory: reading some of them would never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        return file.read() if most is None else file.read(most + 1)
