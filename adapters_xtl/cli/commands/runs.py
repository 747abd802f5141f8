"""What `xtl runs` does: the runs of a store listed, shown, removed, checked and cleared up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.progress_lines import ProgressLine
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.base.untrusted import printable
from adapters_xtl.pages import run_tables
from adapters_xtl.runs.analyses import damaged_analyses
from adapters_xtl.runs.damage import CheckedRun, check_run
from adapters_xtl.runs.leftovers import Leftover, clear, find_leftovers
from adapters_xtl.runs.remake_command import remake_command
from adapters_xtl.runs.removal import remove, runs_to_remove
from adapters_xtl.runs.run_filters import select
from adapters_xtl.runs.run_index import ListedRun, RunIndex, open_store

__all__ = ["check_runs", "collect_garbage", "list_runs", "remove_runs", "show_run"]

Shown = list[Table | str]
PROGRESS_SECONDS = 10.0  # between lines that say how far a check is


def list_runs(filters: Sequence[str], runs: str) -> tuple[dict[str, Any], Shown]:
    """The runs of a store that fit every filter; a damaged one is named with what is wrong."""
    index = RunIndex.read(open_store(runs))
    chosen = select(index, filters)
    shown: Shown = [*run_tables.runs(chosen), *index.unreadable.values()]
    return {
        "runs": [_entry(run) for run in chosen if run.state != "partial"],
        "partial": [_entry(run) for run in chosen if run.state == "partial"],
        "unreadable": _by_path(index.unreadable),
    }, shown


def show_run(text: str, runs: str) -> tuple[dict[str, Any], Shown]:
    """One run, by its id or the beginning of it. RequestError where several or none have it."""
    index = RunIndex.read(open_store(runs))
    run = index.find(text)[0]
    command = remake_command(run.spec, runs) if run.spec is not None else ""
    files = _files(run.path)
    payload = {
        **_entry(run),
        "spec": to_json(run.spec) if run.spec is not None else None,
        "metrics": to_json(run.metrics) if run.metrics is not None else None,
        "provenance": to_json(run.run.provenance) if run.run is not None else None,
        "parent_runs": [
            {
                "task": parent.task,
                "id": parent.id,
                "path": str(stored.path) if (stored := index.by_id(parent.id)) else None,
            }
            for parent in run.parents
        ],
        "children": [_reference(child) for child in index.standing_on(run.id)],
        "files": [{"name": name, "bytes": size} for name, size in files],
        "command": command or None,
    }
    return payload, run_tables.one_run(run, index, command, files)


def remove_runs(
    texts: Sequence[str], runs: str, *, with_children: bool, dry_run: bool
) -> tuple[dict[str, Any], Shown]:
    """Removes runs, or says what would go. See `runs_to_remove` for what is refused."""
    store = open_store(runs)

    def wanted() -> list[ListedRun]:
        return runs_to_remove(RunIndex.read(store), texts, with_children=with_children)

    removed = wanted() if dry_run else remove(store, wanted, lambda run: None)
    payload = {
        "dry_run": dry_run,
        "removed": [{**_reference(run), "bytes": run.bytes} for run in removed],
        "bytes": sum(run.bytes for run in removed),
    }
    return payload, run_tables.removals(removed, dry_run=dry_run)


def check_runs(filters: Sequence[str], runs: str) -> tuple[dict[str, Any], Shown]:
    """Checks the finished and damaged runs that fit every filter, file by file; without a filter
    the analyses of runs too.
    """
    store = open_store(runs)
    index = RunIndex.read(store)
    chosen = [run for run in select(index, filters) if run.state != "partial"]
    checked: list[CheckedRun] = []
    progress, shown = ProgressLine(PROGRESS_SECONDS), False
    for run in chosen:
        checked.append(check_run(run, index))
        if progress.due:
            progress.show(_how_far(checked, len(chosen)))
            shown = True
    if shown:
        progress.show(_how_far(checked, len(chosen)), last=True)
    payload = {
        "checked": len(checked),
        "bytes": sum(checked_run.bytes for checked_run in checked),
        "damaged": [
            {**_reference(checked_run.run), "problems": list(checked_run.problems)}
            for checked_run in checked
            if checked_run.problems
        ],
        "missing_parents": [
            {**_reference(checked_run.run), "parent": to_json(parent)}
            for checked_run in checked
            for parent in checked_run.missing_parents
        ],
        "unreadable": _by_path(index.unreadable),
    }
    damaged_ones = {} if filters else damaged_analyses(store)
    payload["damaged_analyses"] = _by_path(damaged_ones)
    lines = [f"damaged: {problem}" for problem in damaged_ones.values()]
    return payload, [*lines, *run_tables.checks(checked, index.unreadable)]


def _how_far(checked: Sequence[CheckedRun], runs: int) -> str:
    read = run_tables.size(sum(checked_run.bytes for checked_run in checked))
    return f"{len(checked)} of {runs} runs checked, {read} read"


def collect_garbage(runs: str, *, older_than: float, dry_run: bool) -> tuple[dict[str, Any], Shown]:
    """Deletes leftovers, or says what may go. What cannot be deleted stays, with the reason."""
    if older_than < 0:
        raise RequestError(f"--older-than {older_than:g}: takes days from 0 on")
    store = open_store(runs)
    leftovers, kept = find_leftovers(store, older_than)
    gone: list[Leftover] = []
    for leftover in leftovers:
        reason = "" if dry_run else clear(leftover)
        if reason:
            kept[leftover.path] = reason
        else:
            gone.append(leftover)
    payload = {
        "dry_run": dry_run,
        "leftovers": [
            {
                "kind": leftover.kind,
                "path": str(leftover.path),
                "bytes": leftover.bytes,
                "days": round(leftover.days, 3),
            }
            for leftover in gone
        ],
        "kept": _by_path(kept),
        "bytes": sum(leftover.bytes for leftover in gone),
    }
    return payload, run_tables.leftovers(gone, kept, store.root, dry_run=dry_run)


def _reference(run: ListedRun) -> dict[str, Any]:
    return {"task": run.task, "id": run.id, "path": str(run.path)}


def _entry(run: ListedRun) -> dict[str, Any]:
    """A run as `--json` has it. A damaged one has `damaged`, the reason, and what can be read."""
    entry: dict[str, Any] = {
        **_reference(run),
        "state": run.state,
        "bytes": run.bytes,
        "modified": datetime.fromtimestamp(run.modified, UTC).isoformat(timespec="seconds"),
    }
    if run.damage:
        entry["damaged"] = run.damage
    spec, metrics = run.spec, run.metrics
    if spec is not None:
        entry |= {
            "kind": spec.kind,
            "stack": spec.stack,
            "parents": [parent.task for parent in spec.parents],
            "method": spec.run.method if spec.run is not None else None,
            "compose": (spec.run.compose or None) if spec.run is not None else None,
            "seed": spec.run.seed if spec.run is not None else None,
            "bits": spec.bits,
            "backbone": spec.backbone.name,
            "data": spec.data,
        }
    if metrics is not None:
        entry["score"] = metrics.score
        entry["seconds"] = metrics.train.seconds if metrics.train is not None else None
    return entry


def _by_path(reasons: dict[Path, str]) -> list[dict[str, str]]:
    return [{"path": str(path), "reason": reason} for path, reason in reasons.items()]


def _files(folder: Path) -> list[tuple[str, int]]:
    """(name for a terminal, bytes) of all files below a directory, links not followed."""
    paths = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return sorted(
        (printable(path.relative_to(folder).as_posix(), 200), os.lstat(path).st_size)
        for path in paths
    )
