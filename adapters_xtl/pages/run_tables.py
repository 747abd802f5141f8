"""Runs of a store on a terminal: a list of them, one of them, what is damaged, what may go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.table import Table

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.pages import tables
from adapters_xtl.runs.damage import CheckedRun
from adapters_xtl.runs.leftovers import Leftover
from adapters_xtl.runs.records import MANIFEST, Manifest, Spec, read_record
from adapters_xtl.runs.run_card import run_facts
from adapters_xtl.runs.run_filters import NONE
from adapters_xtl.runs.run_index import ListedRun, RunIndex

__all__ = ["age", "checks", "leftovers", "one_run", "removals", "runs", "size"]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def size(count: float) -> str:
    """`1.5 MB`, in powers of 1000 as disks have it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"


def age(seconds: float) -> str:
    """`3d`, `5h`, `12m`, `40s`."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _of_spec(text: Callable[[Spec], object]) -> Callable[[ListedRun], str]:
    return lambda run: "" if run.spec is None else str(text(run.spec))


def _stack(spec: Spec) -> str:
    """`mnli>xnli`; of an evaluation `by mnli>xnli`, for its task is another column."""
    stack = spec.stack or spec.backbone.name
    return stack if spec.kind == "training" else f"by {stack}"


# columns that stand in every table, and those that do only where the runs differ in them
_ALWAYS: Mapping[str, Callable[[ListedRun], str]] = {
    "task": lambda run: run.task,
    "id": lambda run: run.id,
    "stack": _of_spec(_stack),
    "method": _of_spec(lambda spec: spec.run.method if spec.run else NONE),
    "seed": _of_spec(lambda spec: spec.run.seed if spec.run else ""),
    "score": lambda run: _two_digits(run.metrics.score if run.metrics else None),
    "seconds": lambda run: (
        f"{run.metrics.train.seconds:,.0f}" if run.metrics and run.metrics.train else ""
    ),
    "bytes": lambda run: size(run.bytes),
    "age": lambda run: age(time.time() - run.modified),
}
_WHERE_DIFFERENT: Mapping[str, Callable[[ListedRun], str]] = {
    "compose": _of_spec(lambda spec: spec.run.compose if spec.run else ""),
    "bits": _of_spec(lambda spec: spec.bits),
    "backbone": _of_spec(lambda spec: spec.backbone.name),
    "data": _of_spec(lambda spec: spec.data),
}
_RIGHT = ("seed", "score", "seconds", "bytes", "age", "bits")


def _two_digits(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def runs(listed: Sequence[ListedRun]) -> list[Table | str]:
    """A table of runs, and a line for each one that is damaged or partial."""
    finished = [run for run in listed if run.state == "finished"]
    shown: list[Table | str] = []
    if finished:
        shown.append(_table(finished))
    shown += [f"damaged: {run.name}: {run.damage}" for run in listed if run.state == "damaged"]
    shown += [
        f"partial: {run.name} ({size(run.bytes)}, written to {age(time.time() - run.modified)} ago;"
        " its request goes on from there)"
        for run in listed
        if run.state == "partial"
    ]
    return shown or ["no runs"]


def _table(finished: Sequence[ListedRun]) -> Table:
    """A table that fits 80 columns where names are short; longer ones go on below."""
    values = {
        name: {text(run) for run in finished} - {""} for name, text in _WHERE_DIFFERENT.items()
    }
    columns = dict(_ALWAYS)
    columns |= {name: _WHERE_DIFFERENT[name] for name in values if len(values[name]) > 1}
    same = {
        name: next(iter(of_column)) for name, of_column in values.items() if len(of_column) == 1
    }
    table = Table(
        title=f"{len(finished)} run{'s' * (len(finished) != 1)}",
        caption=" · ".join(f"{name} {value}" for name, value in same.items()),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        fixed = name in _RIGHT or name == "id"
        table.add_column(
            name,
            justify="right" if name in _RIGHT else "left",
            no_wrap=fixed,
            overflow="fold",
            min_width=None if fixed else len(name),
        )
    for run in finished:
        table.add_row(*(text(run) for text in columns.values()))
    return table


def one_run(
    run: ListedRun, index: RunIndex, command: str, folder_files: Iterable[tuple[str, int]]
) -> list[Table | str]:
    """All that is known of a run: what it is, its scores, what it cost, what it stands on and what
    stands on it, its files, and the command that makes it again.

    folder_files: (name, bytes) of the files in its directory.
    """
    stack = (run.spec.stack or "bare") if run.spec is not None else ""
    shown: list[Table | str] = [f"{run.name}  {stack}".rstrip()]
    facts = [("state", run.state + (f": {run.damage}" if run.damage else ""))]
    if run.state == "finished":
        when = datetime.fromtimestamp(run.modified, UTC)
        facts.append(("finished", f"{when:%Y-%m-%d %H:%M} UTC"))
    if run.spec is not None:
        facts.append(("kind", run.spec.kind))
    if run.run is not None:
        facts += [
            (name, value.replace("`", ""))
            for name, value in run_facts(run.run.spec, run.run.provenance, run.run.metrics)
        ]
        facts += _origin(run)
    facts += _relatives(run, index)
    facts.append(("directory", f"{run.path} ({size(run.bytes)})"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, value)
    shown.append(grid)
    if run.metrics is not None:
        shown += [*tables.result(to_json(run.metrics)), *tables.cost(run.path)]
    shown.append(_files(run, folder_files))
    if command:
        shown.append(f"again: {command}")
    return shown


def _origin(run: ListedRun) -> list[tuple[str, str]]:
    """What provenance.json says of the place where a run was made."""
    assert run.run is not None
    origin, facts = run.run.provenance, []
    if origin.hardware is not None:
        hardware = origin.hardware
        gpu = f", {hardware.gpu.name}" if hardware.gpu is not None else ""
        threads = f", {origin.threads} threads" if origin.threads is not None else ""
        facts.append(("made on", f"{hardware.cpu.name}{gpu}{threads}, {hardware.system}"))
    if origin.versions:
        facts.append(("versions", ", ".join(f"{k} {v}" for k, v in origin.versions.items())))
    if origin.git is not None:
        changed = ", with changes" if origin.git.changed else ""
        facts.append(("commit", f"{origin.git.commit}{changed}"))
    trained = run.metrics.train if run.metrics is not None else None
    if trained is not None and trained.energy_joules is not None:
        facts.append(("energy", f"{trained.energy_joules:,.0f} J, as the GPU reports it"))
    return facts


def _relatives(run: ListedRun, index: RunIndex) -> list[tuple[str, str]]:
    facts = []
    for parent in run.parents:
        stored = index.by_id(parent.id)
        state = "not in this store" if stored is None else stored.state
        facts.append(("parent", f"{parent.task}/{parent.id} ({state})"))
    for child in index.standing_on(run.id):
        what = child.spec.kind if child.spec is not None else "run"
        stack = child.spec.stack if child.spec is not None else ""
        facts.append(("stands on it", f"{child.name} ({what} of {stack})"))
    return facts


def _files(run: ListedRun, folder_files: Iterable[tuple[str, int]]) -> Table:
    try:
        digests = read_record(Manifest, run.path / MANIFEST).files
    except RequestError:
        digests = {}
    table = Table(title="files", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("sha256")
    for name, count in folder_files:
        sha256 = digests.get(name, "")
        table.add_row(name, f"{count:,}", sha256[:12] or ("-" if name == MANIFEST else "none"))
    return table


def checks(checked: Sequence[CheckedRun], unreadable: Mapping[Path, str]) -> list[Table | str]:
    """A line for everything that is wrong, one for each missing parent, and a summary."""
    lines: list[Table | str] = [
        f"damaged: {checked_run.run.name}: {problem}"
        for checked_run in checked
        for problem in checked_run.problems
    ]
    lines += [f"cannot be checked: {reason}" for reason in unreadable.values()]
    lines += [
        f"{checked_run.run.name}: its parent {parent.task}/{parent.id} is not in this store"
        for checked_run in checked
        for parent in checked_run.missing_parents
    ]
    damaged = sum(bool(checked_run.problems) for checked_run in checked)
    read = sum(checked_run.bytes for checked_run in checked)
    lines.append(
        f"{len(checked)} run{'s' * (len(checked) != 1)} checked, {size(read)} read:"
        f" {damaged or 'none'} damaged"
    )
    return lines


def removals(removed: Sequence[ListedRun], *, dry_run: bool) -> list[Table | str]:
    """A line for each run that was removed, or would be."""
    verb = "would remove" if dry_run else "removed"
    lines: list[Table | str] = [
        f"{verb} {run.name} ({run.state}, {size(run.bytes)})" for run in removed
    ]
    return [*lines, f"{size(sum(run.bytes for run in removed))} in all"]


def leftovers(
    found: Sequence[Leftover], kept: Mapping[Path, str], root: Path, *, dry_run: bool
) -> list[Table | str]:
    """What may go, or went, by kind; what stays, with the reason."""
    shown: list[Table | str] = []
    if found:
        table = Table(title="may go" if dry_run else "deleted", title_justify="left")
        table.add_column("what")
        table.add_column("where", overflow="fold")
        table.add_column("bytes", justify="right", no_wrap=True)
        table.add_column("age", justify="right", no_wrap=True)
        for leftover in found:
            place = leftover.path.relative_to(root).as_posix()
            table.add_row(leftover.kind, place, size(leftover.bytes), age(leftover.days * 86400))
        shown.append(table)
    shown += [f"stays: {path.relative_to(root)}: {reason}" for path, reason in kept.items()]
    total = size(sum(leftover.bytes for leftover in found))
    shown.append(f"{total} {'may go' if dry_run else 'freed'}; finished runs stay")
    return shown
