"""Every run of a store, finished, partial or damaged, and which run stands on which."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from adapters_xtl import tasks
from adapters_xtl.base.errors import RequestError, clipped, nearest
from adapters_xtl.base.files import explain_denied
from adapters_xtl.runs.records import MANIFEST, SPEC, Metrics, ModuleReference, Spec, read_record
from adapters_xtl.runs.store import NO_TASKS, PARTIAL, RUN_ID, Store
from adapters_xtl.runs.stored_runs import StoredRun, list_runs

__all__ = ["ListedRun", "RunIndex", "open_store", "tree_bytes", "tree_modified"]

State = Literal["finished", "partial", "damaged"]
SHOWN = 8  # runs that a message names


@dataclass(frozen=True)
class ListedRun:
    """A run's directory, as far as it can be read.

    task, id   as the directory is named
    spec       None where spec.json cannot be read
    run        the records of a finished run; None for a partial or a damaged one
    damage     what is wrong with it; "" where nothing is known to be
    """

    task: str
    id: str
    path: Path
    state: State
    spec: Spec | None = None
    run: StoredRun | None = None
    damage: str = ""

    @property
    def name(self) -> str:
        """`xnli/0123456789ab`."""
        return f"{self.task}/{self.id}"

    @property
    def metrics(self) -> Metrics | None:
        return self.run.metrics if self.run is not None else None

    @property
    def parents(self) -> tuple[ModuleReference, ...]:
        """The modules that this run's module was trained on, in order."""
        return self.spec.parents if self.spec is not None else ()

    @property
    def stands_on(self) -> frozenset[str]:
        """Ids of the runs that this one needs: its parents and, for an evaluation, its module."""
        ids = {parent.id for parent in self.parents}
        if self.spec is not None and self.spec.module is not None:
            ids.add(self.spec.module.id)
        return frozenset(ids - {self.id})

    @cached_property
    def bytes(self) -> int:
        """Of all files in the directory."""
        return tree_bytes(self.path)

    @cached_property
    def modified(self) -> float:
        """When the run was finished or, where it is not, last written to: seconds since 1970."""
        manifest = self.path / MANIFEST
        if self.state == "finished":
            return manifest.stat().st_mtime if manifest.is_file() else 0.0
        return tree_modified(self.path)


@dataclass(frozen=True)
class RunIndex:
    """The runs of a store: finished ones newest first, then damaged ones, then partial ones.

    unreadable  directory in which runs may lie that cannot be listed → why
    """

    store: Store
    runs: tuple[ListedRun, ...]
    unreadable: dict[Path, str]

    @classmethod
    def read(cls, store: Store) -> RunIndex:
        """Reads every run's records. RequestError where the store's root cannot be read."""
        readable, damaged = list_runs(store)
        runs = [
            ListedRun(run.path.parent.name, run.path.name, run.path, "finished", run.spec, run)
            for run in readable
        ]
        runs += [
            ListedRun(path.parent.name, path.name, path, "damaged", _spec(path), damage=reason)
            for path, reason in damaged.items()
        ]
        runs += [
            ListedRun(path.parent.name, path.name.removesuffix(PARTIAL), path, "partial", spec)
            for path in store.partial()
            for spec in [_spec(path)]
        ]
        unreadable = {path: explain_denied(path) for path in store.unreadable()}
        if store.root in unreadable:
            raise RequestError(unreadable[store.root])
        return cls(store, tuple(runs), unreadable)

    def find(self, text: str) -> list[ListedRun]:
        """The run that `text` names: its id, the beginning of its id that no other has,
        `task/id` or its directory. Several directories where it is finished and partial at once.

        RequestError where no run or several have such an id.
        """
        task, _, start = self._relative(text).rpartition("/")
        start = start.removesuffix(PARTIAL)
        of_task = [run for run in self.runs if task in ("", run.task)]
        fitting = [run for run in of_task if start and run.id.startswith(start)]
        exact = [run for run in fitting if run.id == start]
        names = list(dict.fromkeys(run.name for run in exact or fitting))
        if not names:
            ids = (run.id for run in self.runs)
            close = nearest(start, ids) if len(self.runs) <= SHOWN or len(start) > 6 else ""
            raise RequestError(
                f"{clipped(text)}: no run of {self.store.root} has an id that begins so{close}"
            )
        if len(names) > 1:
            raise RequestError(f"{clipped(text)}: {len(names)} ids begin so: {listed(names)}")
        return exact or fitting

    def _relative(self, text: str) -> str:
        """A run's directory as `task/id`; any other text as it is."""
        path = Path(os.path.abspath(text))
        if os.path.isdir(path) and path.parent.parent == Path(os.path.abspath(self.store.root)):
            return f"{path.parent.name}/{path.name}"
        return text.rstrip("/")

    def by_id(self, run_id: str) -> ListedRun | None:
        """The finished run with an id, or a damaged or partial one where none is finished."""
        return next((run for run in self.runs if run.id == run_id), None)

    def standing_on(self, run_id: str) -> Iterator[ListedRun]:
        """Modules trained on a run, and evaluations of it."""
        return (run for run in self.runs if run_id in run.stands_on)

    def all_standing_on(self, run_id: str) -> list[ListedRun]:
        """The same, and what stands on those in turn; what is removed first stands first."""
        standing: dict[Path, ListedRun] = {}
        todo = [run_id]
        while todo:
            for run in self.standing_on(todo.pop()):
                if run.path not in standing:
                    standing[run.path] = run
                    todo.append(run.id)
        depth: dict[str, int] = {}

        def below(run: ListedRun) -> int:
            """How many of the found runs lie below a run."""
            if run.id not in depth:
                depth[run.id] = 0
                ids = {other.id: other for other in standing.values()}
                above = [ids[name] for name in run.stands_on if name in ids]
                depth[run.id] = 1 + max(map(below, above), default=0)
            return depth[run.id]

        return sorted(standing.values(), key=below, reverse=True)


def open_store(text: str) -> Store:
    """The store in a directory, which may hold nothing yet. RequestError where it is no store."""
    root, flag = Path(text), f"--runs {clipped(text)}"
    if not os.path.lexists(root):
        raise RequestError(f"{flag}: no such directory (the first run of `xtl recipe` makes it)")
    if not os.path.isdir(root):
        raise RequestError(f"{flag}: not a directory, so no store of runs")
    if any(os.path.isfile(root / record) for record in (SPEC, MANIFEST)):
        raise RequestError(f"{flag}: a run, not a store; the store is {root.absolute().parents[1]}")
    try:
        names = os.listdir(root)
    except PermissionError as error:
        raise RequestError(explain_denied(root)) from error
    if any(RUN_ID.fullmatch(name.removesuffix(PARTIAL)) for name in names):
        raise RequestError(
            f"{flag}: the runs of one task, not a store; the store is {root.absolute().parent}"
        )
    store = Store(root)
    if names and not _holds_runs(store, names):
        raise RequestError(f"{flag}: no store of runs: nothing there was made by `xtl recipe`")
    return store


def _holds_runs(store: Store, names: list[str]) -> bool:
    """Whether a directory that is not empty is a store's, by what lies in it."""
    usual = {*NO_TASKS, "random", "sum", *tasks.names()}
    return (
        not usual.isdisjoint(names)
        or bool(store.partial() or store.without_manifest() or store.unreadable())
        or bool(store.all())
        or any(map(_held_a_run, (store.root / name for name in names)))
    )


def _held_a_run(folder: Path) -> bool:
    """Whether a directory has the lock of a run that was removed, or what a kill left of it: the
    task may be one of own rows, whose name is known to nobody.
    """
    with contextlib.suppress(OSError):
        return any(
            name[0] == "." and RUN_ID.fullmatch(name[1:].partition(".")[0])
            for name in os.listdir(folder)
        )
    return False


def listed(names: list[str]) -> str:
    """Names with commas, the first few of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def tree_bytes(path: Path) -> int:
    """Bytes of all files below a path, links not followed; what cannot be read counts as 0."""
    return sum(size for size, _ in _walk(path))


def tree_modified(path: Path) -> float:
    """The latest time at which anything at or below a path was written, links not followed."""
    return max((modified for _, modified in _walk(path)), default=0.0)


def _walk(path: Path) -> Iterator[tuple[int, float]]:
    """(bytes, time of the last change) of a path and of everything below it."""
    try:
        stat = os.lstat(path)
    except OSError:
        return
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    yield (0 if is_folder else stat.st_size), stat.st_mtime
    if is_folder:
        try:
            names = os.listdir(path)
        except OSError:
            return
        for name in names:
            yield from _walk(path / name)


def _spec(path: Path) -> Spec | None:
    try:
        return read_record(Spec, path / SPEC)
    except RequestError:
        return None
