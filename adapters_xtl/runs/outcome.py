"""The finished run that answers a plan, looked up in the store. No heavy library is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import RunError
from adapters_xtl.runs.records import Metrics
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import StoredRun, is_run, read_run

__all__ = ["Outcome", "from_store", "finished_directory", "outcome"]


@dataclass(frozen=True)
class Outcome:
    """The finished run that answers a request.

    reused   whether the store had it, or another process made it while this one waited
    seconds  that this call took for it; 0 where the store had it
    """

    id: str
    path: Path
    reused: bool
    seconds: float
    metrics: Metrics

    @property
    def score(self) -> float:
        """Mean of the tasks' headline metrics, 0 to 100. RunError where nothing was scored."""
        if self.metrics.score is None:
            raise RunError(f"{self.path}: an untrained or imported module, which has no scores")
        return self.metrics.score


def finished_directory(module: Module, store: Store) -> Path | None:
    """The finished directory of a module's run, or None."""
    return module.stored.path if module.stored else store.find(module.task, module.id)


def from_store(plan: Plan, store: Store) -> Outcome | None:
    """The finished run that answers the plan: the target's own where it scored what is asked, else
    an evaluation. None where the store has neither. Where nothing is to be scored, it is the
    target's own.

    MismatchError where that run is damaged.
    """
    path = finished_directory(plan.target, store) if plan.inline and plan.target else None
    run = read_run(path) if path is not None and is_run(path) else None
    if not plan.evaluation.files:
        return None if run is None else outcome(run, reused=True, seconds=0.0)
    scored = run.spec.evaluation if run is not None else None
    if scored is None or scored.id != plan.evaluation.id:
        path = store.find(plan.task, plan.evaluation.id)
        run = read_run(path) if path is not None else None
    return None if run is None else outcome(run, reused=True, seconds=0.0)


def outcome(run: StoredRun, *, reused: bool, seconds: float) -> Outcome:
    """The outcome of a request that a finished run answers."""
    return Outcome(run.spec.id, run.path, reused, seconds, run.metrics)
