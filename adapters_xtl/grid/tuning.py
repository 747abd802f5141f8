"""The tuning trials of a cell: which settings they choose, once all of them have ended.

Each method has the same number of trials. The select split chooses among them, and trials have
seeds of their own, so that no reported number took part in a choice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adapters_xtl.engines.job import Trial
from adapters_xtl.engines.trials import best_trial
from adapters_xtl.grid.cells import Override, Overrides
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.outcome import finished_directory

__all__ = ["chosen_values", "trial_text"]


def chosen_values(
    trials: Sequence[Trial], planner: Planner, failed: Collection[str]
) -> Overrides | None:
    """The settings of the best trial; None where a trial has not ended, or all of them failed.

    `failed`: the keys (task-id) of the trainings that failed.
    """
    for trial in trials:
        for request in trial.requests:
            target = planner.plan(request).target
            if target is None or (
                finished_directory(target, planner.store) is None
                and f"{target.task}-{target.id}" not in failed
            ):
                return None
    best = best_trial(tuple(trials), planner)
    return best.values if best else None


def trial_text(values: Sequence[Override]) -> str:
    """A trial's settings for messages: `lr 0.0003, r 8`."""
    short = {
        key.partition(".")[2]: f"{value:g}" if isinstance(value, float) else value
        for key, value in values
    }
    return ", ".join(f"{name} {value}" for name, value in short.items())
