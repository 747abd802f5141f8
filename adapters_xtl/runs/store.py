"""Run directories, `<runs>/<task>/<id>/`: a run is finished when it has its manifest and its name.

A run that is being made lies in `<id>.partial/`, under the lock `.<id>.lock`. Its manifest is
written last, and then the directory is renamed. A process that is killed at any moment leaves
nothing, the finished run, or a partial one with the checkpoints from which the next call resumes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import (
    apply_umask,
    explain_denied,
    explained_os_errors,
    file_digest,
    sync,
)
from adapters_xtl.base.locks import available, locked
from adapters_xtl.runs.records import MANIFEST, Manifest, read_record, write_record

__all__ = [
    "ANALYSES",
    "FAILED",
    "PARTIAL",
    "RUN_ID",
    "WORK",
    "RunInProgress",
    "Store",
    "is_finished",
    "is_study",
    "lock_path",
    "verify",
]

PARTIAL = ".partial"  # ends the directory's name of a run that is not finished
WORK = "work"  # inside a partial run: checkpoints and other scratch, no part of the finished run
RUN_ID = re.compile(r"[0-9a-f]{12,64}")
FAILED = "failed"  # under the root, beside the tasks: runs that are kept but never used
ANALYSES = "analyses"  # under the root, beside the tasks: what was computed of finished runs
# under the root, beside the tasks: what studies wrote, and trackers that followed trainings
NO_TASKS = (FAILED, ANALYSES, "studies", "compare", "tensorboard", "wandb")
STUDY_RECORDS = ("study.json", "comparison.json")


@dataclass(frozen=True)
class RunInProgress:
    """A run under its lock. `partial`: the directory to write into; `finished`: the run's final
    directory where another process, or one before, has finished it.
    """

    partial: Path
    finished: Path | None


def is_finished(path: Path) -> bool:
    """Whether a directory is a finished run's, by its name and its manifest."""
    return path.suffix != PARTIAL and os.path.isfile(path / MANIFEST)


def is_study(path: Path) -> bool:
    """Whether a directory is that of a study or a comparison, by its record."""
    return any(os.path.isfile(path / name) for name in STUDY_RECORDS)


def lock_path(root: Path, task: str, run_id: str) -> Path:
    """The file on which whoever makes or removes a run holds a lock."""
    return root / task / f".{run_id}.lock"


class Store:
    """The runs under one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, task: str, run_id: str) -> Path:
        return self.root / task / run_id

    def find(self, task: str, run_id: str) -> Path | None:
        """The finished run's directory, or None."""
        path = self.path(task, run_id)
        return path if is_finished(path) else None

    def all(self) -> list[Path]:
        """Every finished run, newest first. Damaged ones are among them: see `read_run`."""
        runs = [path for path in self._directories() if is_finished(path)]
        return sorted(runs, key=lambda path: _modified(path / MANIFEST), reverse=True)

    def without_manifest(self) -> list[Path]:
        """Directories of runs that lost their manifest; they count as absent."""
        named = (path for path in self._directories() if RUN_ID.fullmatch(path.name))
        return sorted(path for path in named if not is_finished(path))

    def partial(self) -> list[Path]:
        """Directories of runs that are being made, or were interrupted."""
        named = (path for folder in self.task_folders() for path in _subfolders(folder))
        return sorted(
            path for path in named if path.suffix == PARTIAL and RUN_ID.fullmatch(path.stem)
        )

    def unreadable(self) -> list[Path]:
        """Directories of the store in which runs may lie that cannot be listed."""
        return [
            folder
            for folder in (self.root, *self.task_folders())
            if not os.access(folder, os.R_OK | os.X_OK)
        ]

    def task_folders(self) -> list[Path]:
        """The directories under the root in which runs may lie."""
        return [folder for folder in _subfolders(self.root) if folder.name not in NO_TASKS]

    def _directories(self) -> Iterator[Path]:
        """Directories below those of the tasks, but for partial runs, studies and scratch."""
        for folder in self.task_folders():
            for path in _subfolders(folder):
                if path.suffix != PARTIAL and not is_study(path):
                    yield path

    def by_id(self, run_id: str) -> list[Path]:
        """The directories of the run; where none of them is finished, those that lost their
        manifest, for whoever reads one to be told.
        """
        finished = [path for path in self.all() if path.name == run_id]
        return finished or [path for path in self.without_manifest() if path.name == run_id]

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
        except PermissionError as error:
            raise RequestError(f"--runs {self.root}: {explain_denied(existing)}") from error
        except OSError as error:
            raise RequestError(
                f"--runs {self.root}: cannot be written ({error.strerror})"
            ) from error

    @contextlib.contextmanager
    def work(
        self, task: str, run_id: str, notify: Callable[[str], None], *, replace: bool = False
    ) -> Iterator[RunInProgress]:
        """The partial directory of a run, held under the run's lock. It contains work/ and nothing
        else: whatever a killed process left beside it is removed.

        Where another process works on the run, this waits, and then the run is finished. Where a
        process was killed while it committed the run, the commit is finished first. `replace`: the
        run is made again although it is finished.
        """
        folder = self.root / task
        with explained_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = lock_path(self.root, task, run_id)
        partial = folder / f"{run_id}{PARTIAL}"
        with locked(lock, lambda: notify(f"another process works on {task}/{run_id}; waiting")):
            with explained_os_errors(partial):
                committed = self._finish_commit(task, run_id)
                finished = self.find(task, run_id) if committed or not replace else None
                if finished is None:
                    (partial / WORK).mkdir(parents=True, exist_ok=True)
                    _remove_all_but(partial, WORK)
            yield RunInProgress(partial, finished)
            if not partial.exists():
                lock.unlink(missing_ok=True)

    def in_progress(self, task: str, run_id: str) -> bool:
        """Whether another process works on a run now."""
        lock = lock_path(self.root, task, run_id)
        return lock.exists() and not available(lock)

    def commit(self, task: str, run_id: str) -> Path:
        """Makes a partial run the finished one. Killed at any moment, it leaves a partial run from
        which `work` goes on, or the finished run.
        """
        partial = self.root / task / f"{run_id}{PARTIAL}"
        with explained_os_errors(partial):
            apply_umask(partial)
            names = _files(partial)
            for name in names:
                sync(partial / name)
            files = {name: file_digest(partial / name) for name in names}
            write_record(partial / MANIFEST, Manifest(files))
            return self._publish(task, run_id)

    def _publish(self, task: str, run_id: str) -> Path:
        """Renames a partial run that has its manifest. Its work/ is moved out first and deleted
        last, so that a finished run never holds one.
        """
        partial, final = self.root / task / f"{run_id}{PARTIAL}", self.path(task, run_id)
        scratch = self.root / task / f".{run_id}.{WORK}"
        if (partial / WORK).exists():
            shutil.rmtree(scratch, ignore_errors=True)
            os.replace(partial / WORK, scratch)
        if final.exists():
            # a finished run that --force made again, or one whose manifest somebody took away
            kind = "replaced" if (final / MANIFEST).is_file() else "incomplete"
            stale = self.root / FAILED / f"{task}-{run_id}-{kind}-{time.time_ns()}"
            stale.parent.mkdir(parents=True, exist_ok=True)
            os.replace(final, stale)
        os.replace(partial, final)
        sync(final.parent)
        shutil.rmtree(scratch, ignore_errors=True)
        return final

    def _finish_commit(self, task: str, run_id: str) -> bool:
        """Does what a killed `commit` did not: publishes a partial run whose manifest is right, and
        deletes the work/ of a finished one. Returns whether there was anything to do.
        """
        partial = self.root / task / f"{run_id}{PARTIAL}"
        scratch = self.root / task / f".{run_id}.{WORK}"
        if (partial / MANIFEST).is_file():
            try:
                verify(partial)
            except MismatchError:
                (partial / MANIFEST).unlink()
                if scratch.exists() and not (partial / WORK).exists():
                    os.replace(scratch, partial / WORK)
            else:
                self._publish(task, run_id)
                return True
        interrupted = scratch.exists() and self.find(task, run_id) is not None
        shutil.rmtree(scratch, ignore_errors=True)
        return interrupted

    def fail(self, task: str, run_id: str, reason: str) -> Path | None:
        """Moves a partial run under `failed/`, with the reason in error.txt. It is never used."""
        partial = self.root / task / f"{run_id}{PARTIAL}"
        if not partial.exists():
            return None
        kept = self.root / FAILED / f"{task}-{run_id}-{time.time_ns()}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, kept)
        with contextlib.suppress(OSError):
            (kept / "error.txt").write_text(reason + "\n", encoding="utf-8")
        return kept


def _subfolders(folder: Path) -> list[Path]:
    """The directories in a directory, sorted, but for hidden ones; none where it may not be listed.

    A name that a terminal could not show is none of ours. Links to directories are followed, links
    that lead nowhere or in a circle are not.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        folder / name
        for name in names
        if not name.startswith(".") and name.isprintable() and os.path.isdir(folder / name)
    ]


def _modified(path: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 where that cannot be read."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _files(folder: Path) -> list[str]:
    """Names of a partial run's files, relative to it, without its manifest and work/."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = (name for name in names if name.parts[0] not in (MANIFEST, WORK))
    return sorted(name.as_posix() for name in kept)


def _remove_all_but(folder: Path, kept: str) -> None:
    for path in folder.iterdir():
        if path.name == kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def verify(path: Path, only: tuple[str, ...] = ("",)) -> None:
    """Compares the files of a run, those whose names begin with one of `only`, with its manifest.

    MismatchError names the first that is missing or differs.
    """
    for name, expected in read_record(Manifest, path / MANIFEST).files.items():
        if not name.startswith(only):
            continue
        if not (path / name).is_file():
            raise MismatchError(f"{path / name}: missing, though the manifest names it")
        sha256 = file_digest(path / name)
        if sha256 != expected:
            raise MismatchError(
                f"{path / name}: sha256 {sha256[:12]}… is not the manifest's {expected[:12]}…"
            )
