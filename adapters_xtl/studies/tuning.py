"""Tuning trials of a comparison: their select scores, and which trial a cell takes.

Each method has the same number of trials. The select split chooses among them, and trials have
seeds of their own, so that no reported number took part in a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.studies.cells import Override, Overrides, Tuning

__all__ = ["best", "select_score", "trial_text"]


def select_score(planned: Plan, store: Store) -> float:
    """The plan's finished training: its score on the select split, which chose the checkpoint."""
    assert planned.target is not None
    path = finished_directory(planned.target, store)
    assert path is not None
    trained = read_run(path).metrics.train
    assert trained is not None
    return trained.select.score


def best(tuning: Tuning, method: str, scores: Mapping[int, Sequence[float]]) -> Overrides | None:
    """The trial with the highest mean of its select scores; one that lacks a seed does not count;
    ties go to the first.
    """
    mean_of = {
        number: sum(by_seed) / len(by_seed)
        for number, by_seed in scores.items()
        if len(by_seed) == len(tuning.seeds)
    }
    if not mean_of:
        return None
    return tuning.trials[method][max(mean_of, key=lambda number: (mean_of[number], -number))]


def trial_text(values: Sequence[Override]) -> str:
    """A trial's settings for messages: `lr 0.0003, r 8`."""
    short = {
        key.partition(".")[2]: f"{value:g}" if isinstance(value, float) else value
        for key, value in values
    }
    return ", ".join(f"{name} {value}" for name, value in short.items())
