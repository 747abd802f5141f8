"""`xtl study`: a study file becomes a grid, which an engine carries out; its record is written,
and its tables and figures are drawn.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import engines, studies
from adapters_xtl.base.errors import MismatchError, Problems, RequestError, XtlError, clipped
from adapters_xtl.base.extras import need
from adapters_xtl.base.files import explain_denied, write_json
from adapters_xtl.base.machine import gpu
from adapters_xtl.base.typed_json import from_json, to_json
from adapters_xtl.cli.live import LiveView
from adapters_xtl.engines.job import Engine, Job
from adapters_xtl.grid import record
from adapters_xtl.grid.carry_out import carry_out
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Grid
from adapters_xtl.grid.preview import preview
from adapters_xtl.grid.results import Figure
from adapters_xtl.grid.results import Table as StudyTable
from adapters_xtl.grid.study import Study
from adapters_xtl.grid.study_file import make_grid, read_study_file, shipped_files
from adapters_xtl.pages import comparison_tables, figures, study_tables, study_views, tables
from adapters_xtl.pages.page_record import read_study
from adapters_xtl.runs.outcome import from_store
from adapters_xtl.runs.store import is_finished, is_study
from adapters_xtl.runs.stored_runs import is_run
from adapters_xtl.runs.trackers import parse_trackers

__all__ = [
    "answer_of",
    "carry_out_grid",
    "dry_run",
    "listed_studies",
    "notify_choices",
    "study",
    "writable",
]

RECORD = "study.json"
Notify = Callable[[str], None]
Shown = list[Table | str]


def study(
    name: str,
    *,
    set_: Sequence[str],
    engine: str,
    jobs: int,
    engine_options: Mapping[str, str],
    retry_failed: bool,
    preview_only: bool,
    runs: str,
    out: str | None,
    report_to: str,
    command: str,
    notify: Notify,
) -> tuple[dict[str, Any], Shown]:
    """Carries out a study, or prints what it comes to. The payload is its record and `path`."""
    if not preview_only:
        need("a study, whose figures are drawn,", "matplotlib")
    file = read_study_file(name, studies.names(), _axes_of_studies(), set_)
    loaded_study = studies.load(file.study)
    carried_by = engines.load(engine, jobs, engine_options)
    grid = _followed(make_grid(loaded_study, file, runs=runs), report_to)
    _check_device(grid, carried_by.name)
    plans = CellPlans(grid)
    notify_choices(plans, notify)
    if preview_only:
        return dry_run(plans)
    stem = file.path.stem if file.path else loaded_study.name
    label = stem if stem == loaded_study.name else f"{loaded_study.name}-{stem}"
    grid_id = record.grid_id(grid)
    folder = writable(out, Path(runs) / "studies" / f"{label}-{grid_id}", grid_id)
    written = carry_out_grid(
        loaded_study,
        plans,
        carried_by,
        folder,
        command=command,
        heading=file.title or loaded_study.title,
        retry_failed=retry_failed,
        notify=notify,
    )
    write_json(folder / RECORD, written)
    draw(written, folder)
    return {"path": str(folder), **written}, [*study_views.shown(written), f"study: {folder}"]


def _axes_of_studies() -> dict[str, list[str]]:
    """Study → the names of its axes."""
    return {name: [axis.name for axis in studies.load(name).axes] for name in studies.names()}


def _check_device(grid: Grid, engine: str) -> None:
    """RequestError where runs may be carried out on another device than they are planned for here:
    default precision and batches depend on it, and so do the runs' ids.
    """
    if engine != engines.DEFAULT and grid.base.device == "auto" and gpu() is None:
        raise RequestError(
            f"--engine {engine}: no CUDA device is here, but there may be one where the runs are"
            " carried out, and their precision and ids depend on it: give --set device=cpu, or call"
            " this on a machine with such a device"
        )


def _followed(grid: Grid, report_to: str) -> Grid:
    """The grid with trackers that follow its runs. RequestError where one cannot."""
    problems = Problems()
    trackers = parse_trackers(report_to, problems)
    problems.raise_if_any()
    return replace(grid, base=replace(grid.base, trackers=trackers))


def notify_choices(plans: CellPlans, notify: Notify) -> None:
    """Says which backbone, data and device the runs have, and which flags change nothing."""
    plan = record.first_plan(plans)
    if plans.grid.base.parent_overrides and not any(cell.chain for cell in plans.cells):
        notify("--set-parents has no effect: nothing compared here has parents (--on)")
    for line in (plan.notes[0].replace(f" · method {plan.request.method}", ""), *plans.idle):
        notify(line)


def dry_run(plans: CellPlans) -> tuple[dict[str, Any], Shown]:
    """The runs to come."""
    runs_to_come = preview(plans)
    left_out = [f"left out: {task}: {reason}" for task, reason in plans.left_out.items()]
    shown = comparison_tables.ahead(runs_to_come["runs"], runs_to_come["total"])
    return runs_to_come, [*shown, *left_out]


def writable(out: str | None, default: Path, grid_id: str) -> Path:
    """The directory of the study with that id, made now and not after hours of runs. RequestError
    where it cannot be written, is a run's, or is another study's.
    """
    if out == "":
        raise RequestError("--out: is empty; expected a directory")
    folder = Path(out) if out else default
    if any(is_finished(parent) and is_run(parent) for parent in (folder, *folder.parents)):
        raise RequestError(f"--out {folder}: is the directory of a run, which takes no other files")
    if out and is_study(folder):
        _check_same_study(folder, grid_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{'--out' if out else '--runs'} {folder}: cannot be written ({error.strerror})"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RequestError(explain_denied(folder))
    return folder


def _check_same_study(folder: Path, grid_id: str) -> None:
    """RequestError where a directory holds the record of another study than the one of that id, or
    one that cannot be read: writing there would lose it.
    """
    try:
        written = read_study(folder)
    except MismatchError as error:
        raise RequestError(f"--out {folder}: holds a record that is damaged: {error}") from error
    if written.id != grid_id:
        raise RequestError(
            f"--out {folder}: holds another study ({clipped(written.title)}); name a directory of"
            " its own"
        )


def carry_out_grid(
    grid_study: Study,
    plans: CellPlans,
    engine: Engine,
    folder: Path,
    *,
    command: str,
    heading: str,
    retry_failed: bool,
    notify: Notify,
) -> dict[str, Any]:
    """Carries out a grid while a live view shows its jobs."""
    return carry_out(
        grid_study,
        plans,
        engine,
        folder,
        command=command,
        heading=heading,
        retry_failed=retry_failed,
        notify=notify,
        watch=lambda to_do: LiveView(to_do, score_of=lambda job: _score(job, plans)),
    )


def _score(job: Job, plans: CellPlans) -> float | None:
    """The score of a finished job that is a whole request; None for parents, untrained ones and
    analyses.
    """
    if job.module or job.trials or job.analysis is not None:
        return None
    with contextlib.suppress(XtlError, OSError):
        outcome = from_store(plans.plan(job.request), plans.store)
        return None if outcome is None else outcome.metrics.score
    return None


def draw(written: Mapping[str, Any], folder: Path) -> None:
    """Writes the tables and figures of a record into the study's directory."""
    for table in written["tables"]:
        study_tables.save(from_json(StudyTable, table), folder)
    for figure in written["figures"]:
        figures.save(from_json(Figure, figure), folder)


def answer_of(path_or_name: str, runs: str) -> tuple[dict[str, Any], Shown]:
    """What a finished study says: a study's directory, its record, or the newest of that name."""
    path = Path(path_or_name)
    if not path.is_file() and not is_study(path):
        path = _newest(path_or_name, Path(runs) / "studies")
    record = read_study(path)
    answer = None if record.answer is None else to_json(record.answer)
    limits = {"not_for": [], **record.evidence}
    lines = study_views.answer_lines(
        {
            "question": record.question,
            "answer": answer,
            "evidence": limits,
            "no_evidence": record.no_evidence,
        }
    )
    return {"path": str(path), "answer": answer}, list(lines)


def _newest(name: str, folder: Path) -> Path:
    """The newest finished study in `folder` that was started as `xtl study NAME`, with the name of
    a study or of a study file. RequestError where there is none.
    """
    written = {
        path.parent: path.stat().st_mtime
        for path in folder.glob(f"*/{RECORD}")
        if name in _names_of(path.parent)
    }
    if not written:
        raise RequestError(
            f"{clipped(name)}: no study's directory, and no finished study of that name in {folder}"
        )
    return max(written, key=lambda study: written[study])


def _names_of(folder: Path) -> tuple[str, ...]:
    """The names under which `transfer-smoke-<id>` is found: transfer, smoke, transfer-smoke."""
    label = folder.name.rpartition("-")[0]
    names = [name for name in studies.names() if label.startswith(f"{name}-")]
    return (label, *names, *(label.removeprefix(f"{name}-") for name in names))


def listed_studies() -> tuple[dict[str, Any], Shown]:
    """The studies, their axes, and the study files that come with the package."""
    entries = {}
    rows = []
    for name in studies.names():
        loaded = studies.load(name)
        axes = {axis.name: list(axis.values) for axis in loaded.axes}
        entries[name] = {"title": loaded.title, "question": loaded.question, "axes": axes}
        rows.append((name, loaded.question, ", ".join(axes)))
    files = {
        name: read_study_file(name, studies.names(), _axes_of_studies(), ())
        for name in shipped_files()
    }
    file_rows = [(name, file.study, file.title) for name, file in files.items()]
    payload = {
        "studies": entries,
        "files": {name: {"study": file.study, "title": file.title} for name, file in files.items()},
    }
    return payload, [
        tables.listed("studies", ("study", "question", "axes"), rows),
        tables.listed("study files", ("file", "study", "title"), file_rows),
    ]
