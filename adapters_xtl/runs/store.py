"""Run directories: `<runs>/<task>/<id>/`. A run is finished when its manifest is there, and the
manifest comes last.

While it works, a run lives in `<id>.partial` under a lock; finished, it gets its manifest and is
renamed. A process killed at any moment leaves the partial directory (with the checkpoints a later
one resumes from) or nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import file_digest, read_json, say_disk_full, write_json

__all__ = ["MANIFEST", "Store", "verify"]

MANIFEST = "manifest.json"
# inside a partial run: checkpoints and other scratch, dropped when the run is finished
WORK = "work"


class Store:
    """The runs under one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, task: str, run_id: str) -> Path:
        return self.root / task / run_id

    def find(self, task: str, run_id: str) -> Path | None:
        """The finished run's directory, or None."""
        path = self.path(task, run_id)
        return path if (path / MANIFEST).is_file() else None

    def all(self) -> list[Path]:
        """Every finished run, newest first."""
        found = [
            path.parent
            for path in self.root.glob(f"*/*/{MANIFEST}")
            if path.parent.parent.name != "failed"
        ]
        return sorted(found, key=lambda path: (path / MANIFEST).stat().st_mtime, reverse=True)

    def by_id(self, run_id: str) -> list[Path]:
        return [path for path in self.all() if path.name == run_id]

    def check_writable(self) -> None:
        """RequestError when runs cannot be written under the root."""
        existing = next(
            path for path in (self.root, *self.root.absolute().parents) if path.exists()
        )
        if not existing.is_dir():
            raise RequestError(f"--runs {self.root}: {existing} is a file, not a directory")
        probe = existing / f".xtl-{os.getpid()}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RequestError(
                f"--runs {self.root}: cannot be written ({error.strerror})"
            ) from error

    @contextlib.contextmanager
    def work(self, task: str, run_id: str, waiting: Callable[[str], None]) -> Iterator[Path]:
        """The partial directory of a run, under its lock: a second process waits, and then finds
        the run finished.
        """
        folder = self.root / task
        with say_disk_full(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = folder / f".{run_id}.lock"
        with _locked(
            lock, lambda: waiting(f"another process works on {task}/{run_id}; waiting for it")
        ):
            partial = folder / f"{run_id}.partial"
            if self.find(task, run_id) is None:
                with say_disk_full(partial):
                    (partial / WORK).mkdir(parents=True, exist_ok=True)
            yield partial
            if not partial.exists():
                lock.unlink(missing_ok=True)

    def commit(self, task: str, run_id: str, *, replace: bool = False) -> Path:
        """Writes the manifest and renames the partial run to its final place."""
        partial, final = self.root / task / f"{run_id}.partial", self.path(task, run_id)
        shutil.rmtree(partial / WORK, ignore_errors=True)
        files = {name: file_digest(partial / name) for name in _files(partial)}
        write_json(partial / MANIFEST, {"files": files})
        if final.exists():
            # a finished run that --force made again, or a directory whose manifest somebody took
            # away
            stale = (
                self.root
                / "failed"
                / f"{task}-{run_id}-{'replaced' if replace else 'incomplete'}-{time.time_ns()}"
            )
            stale.parent.mkdir(parents=True, exist_ok=True)
            os.replace(final, stale)
        os.replace(partial, final)
        _sync(final.parent)
        return final

    def fail(self, task: str, run_id: str, reason: str) -> Path | None:
        """Moves a partial run under `failed/`, with the reason; it is never reused."""
        partial = self.root / task / f"{run_id}.partial"
        if not partial.exists():
            return None
        kept = self.root / "failed" / f"{task}-{run_id}-{time.time_ns()}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, kept)
        with contextlib.suppress(OSError):
            (kept / "error.txt").write_text(reason + "\n", encoding="utf-8")
        return kept


@contextlib.contextmanager
def _locked(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            # the holder before us may have removed the file: then this lock guards nothing
            if lock.exists() and os.path.samestat(lock.stat(), os.fstat(handle)):
                yield
                return
        finally:
            os.close(handle)


def _files(folder: Path) -> list[str]:
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if name != MANIFEST)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(path: Path, only: tuple[str, ...] = ("",)) -> None:
    """Holds the files of a run (those below `only`) against its manifest. MismatchError names the
    first that differs.
    """
    try:
        files: dict[str, str] = read_json(path / MANIFEST)["files"]
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise MismatchError(f"{path}: no readable {MANIFEST}, so not a finished run") from error
    for name, expected in files.items():
        if not name.startswith(only):
            continue
        if not (path / name).is_file():
            raise MismatchError(f"{path / name}: missing, though the manifest names it")
        found = file_digest(path / name)
        if found != expected:
            raise MismatchError(
                f"{path / name}: sha256 {found[:12]}… is not the manifest's {expected[:12]}…"
            )
