"""A study from its grid to its record: plans, jobs, an engine, and the cells read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from adapters_xtl.backbones import embedded
from adapters_xtl.engines.failures import Failure, Failures
from adapters_xtl.engines.job import Engine, Event, Job
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.jobs import Jobs, jobs_of
from adapters_xtl.grid.read_cells import raise_if_nothing_finished, read_cells
from adapters_xtl.grid.record import first_plan, make_record
from adapters_xtl.grid.study import Study

__all__ = ["carry_out", "runnable"]

Notify = Callable[[str], None]


class View(Protocol):
    """What shows the events of jobs while they are carried out."""

    def report(self, event: Event) -> None: ...


def carry_out(
    study: Study,
    plans: CellPlans,
    engine: Engine,
    folder: Path,
    *,
    command: str,
    heading: str,
    retry_failed: bool,
    notify: Notify,
    watch: Callable[[Sequence[Job]], AbstractContextManager[View]],
) -> dict[str, Any]:
    """Carries out what the store lacks of a study, and returns its record.

    folder        the study's directory: the failures of its runs are kept there
    retry_failed  runs that failed before are tried again; otherwise they are shown as failed
    watch         a context manager for the jobs to do, whose value reports each event as it comes

    Runs that failed stand in the record by name. Where none ended well, RequestError or RunError.
    """
    started = time.monotonic()
    if first_plan(plans).backbone.source in ("embedded", "random"):
        embedded.prepare(notify)
    kept = Failures(folder)
    failed_before: Mapping[str, Failure] = {} if retry_failed else kept.all()
    jobs = jobs_of(plans, failed_before.keys())
    to_do = runnable(jobs, failed_before)
    notify(_work_ahead(jobs, to_do))
    seconds: dict[str, float] = {}
    if to_do:
        with watch(to_do) as view:

            def record_seconds(event: Event) -> None:
                if event.state == "done":
                    seconds[event.key] = event.seconds
                view.report(event)

            engine.carry_out(to_do, folder, record_seconds)
    cells = read_cells(plans, jobs, kept.all(), seconds)
    raise_if_nothing_finished(cells)
    record = make_record(study, plans, cells, command=command, heading=heading)
    record["seconds"] = round(time.monotonic() - started, 3)
    return record


def _work_ahead(jobs: Jobs, to_do: Sequence[Job]) -> str:
    in_store = sum(not keys for _, keys in jobs.of_run) - jobs.damaged
    text = (
        f"{len(jobs.of_run)} scored runs, {in_store} of them in the store; {len(to_do)} jobs to do"
    )
    if jobs.damaged:
        text += f", {jobs.damaged} that are damaged in the store or need one that is"
    if failed := len(jobs.jobs) - len(to_do):
        text += f", {failed} that failed before or need one that did (--retry-failed)"
    return text


def runnable(jobs: Jobs, failed: Mapping[str, Failure]) -> list[Job]:
    """The jobs that can be done: those that did not fail before and need none that did."""
    left_out = set(failed)
    possible = []
    for job in jobs.jobs.values():  # parents stand before their children
        if job.key in left_out or left_out.intersection(job.after):
            left_out.add(job.key)
        else:
            possible.append(job)
    return possible
