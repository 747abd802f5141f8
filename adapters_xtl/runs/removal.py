"""Runs taken out of a store: moved aside under their lock, then deleted.

A run that is killed away while it is removed is either still whole or no run any more: what is left
of it is hidden, and `leftovers` finds it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.base.files import explain_denied, explained_os_errors
from adapters_xtl.base.locks import try_locked
from adapters_xtl.runs.run_index import ListedRun, RunIndex, listed
from adapters_xtl.runs.store import PARTIAL, WORK, Store, lock_path

__all__ = ["REMOVED", "check_deletable", "delete", "remove", "runs_to_remove"]

REMOVED = ".removed-"  # inside the hidden name of what was moved aside to be deleted


def runs_to_remove(
    index: RunIndex, texts: Sequence[str], *, with_children: bool
) -> list[ListedRun]:
    """The runs that `texts` name, in the order in which they are removed: what stands on another
    before that one.

    With `with_children` the modules trained on them and the evaluations of them are removed as
    well; without, RequestError names those. It names every other problem, too.
    """
    problems, named = Problems(), []
    for text in texts:
        with problems.catching():
            named += index.find(text)
    named_paths = {run.path for run in named}
    children: dict[Path, ListedRun] = {}
    for run in named:
        standing = {child.path: child for child in index.all_standing_on(run.id)}
        others = [child.name for path, child in standing.items() if path not in named_paths]
        if others and not with_children:
            count = f"{len(others)} run{'s stand' if len(others) > 1 else ' stands'} on it"
            problems.add(
                f"{run.name}: {count} ({listed(others)}); --with-children removes them too"
            )
        children |= standing
    begun = [
        run.name
        for run in index.runs
        if run.spec is None and index.store.in_progress(run.task, run.id)
    ]
    if begun:
        problems.add(
            f"{listed(begun)}: another process has just begun it, perhaps on these; try again"
        )
    problems.raise_if_any()
    wanted = {run.path: run for run in [*children.values(), *named]}
    return sorted(wanted.values(), key=lambda run: len(index.all_standing_on(run.id)))


def remove(
    store: Store, wanted: Callable[[], Sequence[ListedRun]], done: Callable[[ListedRun], None]
) -> list[ListedRun]:
    """Removes the runs that `wanted` gives and returns them; `done` is called after each.

    All of them are locked before the first goes, and `wanted` is asked again then. RequestError,
    and nothing is removed, where another process works on one or one may not be deleted.
    """
    runs, problems = wanted(), Problems()
    with contextlib.ExitStack() as locks:
        held: list[Path] = []
        for task, run_id in dict.fromkeys((run.task, run.id) for run in runs):
            lock = lock_path(store.root, task, run_id)
            with problems.catching():
                if locks.enter_context(try_locked(lock)):
                    held.append(lock)
                else:
                    problems.add(f"{task}/{run_id}: another process works on it")
        for run in runs if not problems.messages else ():
            with problems.catching():
                check_deletable(run.path)
        if not problems.messages and {run.path for run in wanted()} != {run.path for run in runs}:
            problems.add("other processes changed what stands on these runs; nothing was removed")
        if not problems.messages:
            for run in runs:
                _ = run.bytes  # counted while it is there
                delete(run.path)
                delete(run.path.with_name(f".{run.id}.{WORK}"))
                done(run)
        for lock in held:
            if not lock.with_name(f"{lock.name[1:].removesuffix('.lock')}{PARTIAL}").exists():
                lock.unlink(missing_ok=True)
    problems.raise_if_any()
    return list(runs)


def check_deletable(path: Path) -> None:
    """RequestError where something at or below a path may not be deleted."""
    folders = [path.parent]
    if path.is_dir() and not path.is_symlink():
        folders += [Path(folder) for folder, _, _ in os.walk(path, onerror=_raise_denied)]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RequestError(explain_denied(folder))


def _raise_denied(error: OSError) -> None:
    raise RequestError(explain_denied(Path(os.fsdecode(error.filename)))) from error


def delete(path: Path) -> None:
    """Deletes a file, a link or a directory that may be a run's: first it gets a hidden name, under
    which nothing takes it for a run.
    """
    if not os.path.lexists(path):
        return
    aside = path
    if REMOVED not in path.name:
        aside = path.with_name(f".{path.name.lstrip('.')}{REMOVED}{time.time_ns()}")
    with explained_os_errors(path):
        if aside != path:
            os.replace(path, aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
