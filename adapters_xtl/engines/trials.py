"""Which trial a tuned job takes: the request that it then comes to."""

from __future__ import annotations

from dataclasses import replace

from adapters_xtl.base.errors import RunError
from adapters_xtl.engines.job import Job, Trial
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run

__all__ = ["best_trial", "resolved_request", "select_score"]


def resolved_request(job: Job, planner: Planner) -> Request:
    """The job's request with the settings of its best trial, as the store has the trials now; the
    request itself where the job has no trials.

    RunError where no trial has all its trainings in the store.
    """
    if not job.trials:
        return job.request
    trial = best_trial(job.trials, planner)
    if trial is None:
        raise RunError(f"{job.title}: none of its {len(job.trials)} tuning trials is finished")
    return replace(job.request, overrides=(*job.request.overrides, *trial.values))


def best_trial(trials: tuple[Trial, ...], planner: Planner) -> Trial | None:
    """The trial with the highest mean of its trainings' select scores; ties go to the first.

    A trial of which the store lacks a training does not count. None where none counts.
    """
    means: dict[int, float] = {}
    for number, trial in enumerate(trials):
        scores = [select_score(planner.plan(request), planner.store) for request in trial.requests]
        finished = [score for score in scores if score is not None]
        if finished and len(finished) == len(scores):
            means[number] = sum(finished) / len(finished)
    if not means:
        return None
    return trials[max(means, key=lambda number: (means[number], -number))]


def select_score(plan: Plan, store: Store) -> float | None:
    """The score that a finished training had on the select split, which chose its checkpoint.

    None where the store lacks the training. MismatchError where its run is damaged.
    """
    if plan.target is None or (path := finished_directory(plan.target, store)) is None:
        return None
    trained = read_run(path).metrics.train
    return None if trained is None else trained.select.score
