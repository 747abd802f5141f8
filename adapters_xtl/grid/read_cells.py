"""Reads the scores of a grid's cells from the store, and the failures of the runs it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters_xtl.base.errors import RequestError, RunError, XtlError
from adapters_xtl.engines.analysis import Analysis, read
from adapters_xtl.engines.failures import Failure
from adapters_xtl.engines.trials import select_score
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.finished_cells import FinishedCell
from adapters_xtl.grid.jobs import CellRun, Jobs, cell_runs
from adapters_xtl.grid.summary import Scored
from adapters_xtl.runs.outcome import finished_directory, from_store
from adapters_xtl.runs.stored_runs import is_run, read_run

__all__ = ["raise_if_nothing_finished", "read_cells"]


def read_cells(
    plans: CellPlans,
    jobs: Jobs,
    failures: Mapping[str, Failure],
    seconds: Mapping[str, float],
) -> tuple[FinishedCell, ...]:
    """What the store has of every cell.

    jobs      the grid's jobs as they were before they were carried out
    failures  key of a job → its failure
    seconds   key of a job that was carried out now → the seconds it took
    """
    finished = {cell.point: FinishedCell(cell) for cell in plans.cells}
    for run, (_, keys) in zip(cell_runs(plans, failures.keys()), jobs.of_run, strict=True):
        cell = finished[run.cell.point]
        if run.kind == "report":
            cell.expected += 1
        failure = _failure(jobs, keys, failures)
        if run.damage:
            failure = Failure("", str(run), run.damage, False, "")
        scored = select = None
        try:
            scored = _scored(plans, run, keys, seconds)
            if scored is not None and run.kind == "trial":
                select = select_score(scored.plan, plans.store)
        except (XtlError, OSError) as error:  # a damaged run, say
            key = keys[-1] if keys else ""
            scored, failure = None, Failure(key, str(run), str(error), False, "")
        if scored is None:
            if failure is not None:
                cell.failures.append(_failure_record(run, failure))
            continue
        if run.cell.analysis is not None and run.kind == "report":
            try:
                scored = replace(scored, analysis=_analysis(plans, run.cell.analysis, scored))
            except (XtlError, OSError) as error:  # a damaged analysis
                failure = Failure("", f"analysis of {run}", str(error), False, "")
            if scored.analysis is None and failure is not None:
                cell.failures.append(_failure_record(run, failure))
        if run.kind == "trial":
            cell.trials.append(
                {
                    "values": dict(run.values),
                    "seed": run.seed,
                    "id": scored.plan.target.id if scored.plan.target else None,
                    "select": select,
                }
            )
        else:
            cell.runs.append(scored)
            if run.trials:
                cell.chosen = run.values
    return tuple(finished.values())


def _scored(
    plans: CellPlans, run: CellRun, keys: Sequence[str], seconds: Mapping[str, float]
) -> Scored | None:
    if run.plan is None:
        return None
    outcome = from_store(run.plan, plans.store)
    if outcome is None:
        return None
    module = finished_directory(run.plan.target, plans.store) if run.plan.target else None
    if module is not None and is_run(module):
        read_run(module)  # its costs stand in the record: MismatchError where it is damaged
    made_now = [seconds[key] for key in keys if key in seconds]
    if made_now:
        outcome = replace(outcome, reused=False, seconds=round(sum(made_now), 3))
    return Scored(run.seed, run.plan, outcome)


def _analysis(plans: CellPlans, analysis: Analysis, scored: Scored) -> Any:
    """What the store has of an analysis of a run's encoder, as the analysis reads it; else None."""
    return read(analysis, scored.plan, plans.planner.lookups, plans.store)


def _failure(jobs: Jobs, keys: Sequence[str], failures: Mapping[str, Failure]) -> Failure | None:
    """The failure because of which a run is missing: its own job's, or that of a job it needs."""
    waiting = list(keys[::-1])
    seen: set[str] = set()
    while waiting:
        key = waiting.pop(0)
        if key in failures:
            return failures[key]
        job = jobs.jobs.get(key)
        if job is not None and key not in seen:
            seen.add(key)
            waiting += job.after
    return None


def _failure_record(run: CellRun, failure: Failure) -> dict[str, Any]:
    cell = run.cell
    return {
        "task": cell.task,
        "method": cell.variant.method,
        "bits": cell.variant.bits,
        "parents": list(cell.chain),
        "point": dict(cell.point),
        "seed": run.seed,
        "kind": run.kind,
        "values": dict(run.values),
        "job": failure.key,
        "error": failure.error,
        "wrong_request": failure.wrong_request,
    }


def raise_if_nothing_finished(cells: Sequence[FinishedCell]) -> None:
    """Raises the failures' messages where runs failed and none ended well: RequestError if each
    failed because the request was wrong, else RunError.
    """
    failures = [failure for cell in cells for failure in cell.failures]
    if not failures or any(cell.runs for cell in cells):
        return
    messages = "\n".join(dict.fromkeys(failure["error"] for failure in failures))
    only_wrong_requests = all(failure["wrong_request"] for failure in failures)
    raise (RequestError if only_wrong_requests else RunError)(messages)
