"""Runs the cells of a comparison, each run in a process of its own, after their tuning trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError, RunError, XtlError
from adapters_xtl.base.machine import gpu
from adapters_xtl.runs.outcome import Outcome, finished_directory, from_store
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.studies import separate_process
from adapters_xtl.studies.cell_plans import CellPlans
from adapters_xtl.studies.cells import Cell, Override, Overrides, Tuning
from adapters_xtl.studies.summary import Scored
from adapters_xtl.studies.tuning import best, select_score, trial_text

__all__ = ["Done", "Worker"]

Notify = Callable[[str], None]


@dataclass
class Done:
    """A cell's finished runs, the tuning trials before them, and the runs that failed."""

    cell: Cell
    runs: list[Scored] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: Overrides | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Runs the cells of one comparison, as `plans` has planned them."""

    def __init__(self, plans: CellPlans, notify: Notify) -> None:
        self.plans, self.store, self.notify = plans, plans.store, notify
        # run id → error of a module whose training failed: it is not tried again for its children
        self.failed_modules: dict[str, str] = {}

    def run(self, cell: Cell) -> Done:
        """Tunes and runs a cell; a run that fails is noted, and the others go on."""
        done = Done(cell)
        tuning = self.plans.comparison.tuning
        if tuning and cell.trains:
            self._tune(cell, tuning, done)
            if done.chosen is None:
                return done
        for seed in self.plans.seeds(cell):
            try:
                done.runs.append(self._execute(cell, seed, done.chosen or ()))
            except (XtlError, OSError) as error:
                done.failures.append(_failure(cell, seed, "report", (), error))
                self.notify(f"{cell}, seed {seed} failed: {error}")
        return done

    def _execute(self, cell: Cell, seed: int, extra: Sequence[Override]) -> Scored:
        self._ready(cell, seed)
        planned, outcome = self.answer(self.plans.steps(cell, seed, extra)[-1])
        origin = " (from the store)" if outcome.reused else ""
        self.notify(f"{cell}, seed {seed}: {outcome.score:.2f}{origin}")
        return Scored(seed, planned, outcome)

    def _ready(self, cell: Cell, seed: int) -> None:
        """Runs the steps before a cell's own, each of which names the run of the one before."""
        for number in range(len(self.plans.steps(cell, seed)) - 1):
            self.answer(self.plans.steps(cell, seed)[number])

    def answer(self, request: Request) -> tuple[Plan, Outcome]:
        """The plan and its finished run, which the store had or has now."""
        started = time.monotonic()
        planned = self.plans.plan(request)
        if (stored := from_store(planned, self.store)) is not None:
            return planned, stored
        if planned.backbone.source in ("embedded", "random"):
            embedded.prepare(self.notify)
        for module in planned.modules:
            if module.id in self.failed_modules:
                raise RunError(self.failed_modules[module.id])
        try:
            separate_process.execute(request, preload=gpu() is None)
        except RunError as error:
            unfinished = (
                module
                for module in planned.modules
                if finished_directory(module, self.store) is None
            )
            if (failed := next(unfinished, None)) is not None:
                self.failed_modules[failed.id] = str(error)
            raise
        if (finished := from_store(planned, self.store)) is None:
            raise RunError(f"{planned.task}: the run ended, but its directory is not in the store")
        return planned, replace(
            finished, reused=False, seconds=round(time.monotonic() - started, 3)
        )

    def _tune(self, cell: Cell, tuning: Tuning, done: Done) -> None:
        """Runs every trial and takes the one with the best select score (mean over the tuning
        seeds; ties: the first).
        """
        means: dict[int, list[float]] = {}
        for number, values in enumerate(tuning.trials[cell.variant.method]):
            for seed in tuning.seeds:
                try:
                    self._ready(cell, seed)
                    planned, outcome = self.answer(self.plans.trial(cell, seed, values))
                except (XtlError, OSError) as error:
                    done.failures.append(_failure(cell, seed, "trial", values, error))
                    self.notify(f"{cell}, trial {trial_text(values)} failed: {error}")
                    continue
                select = select_score(planned, self.store)
                assert planned.target is not None
                done.trials.append(
                    {
                        "values": dict(values),
                        "seed": seed,
                        "id": planned.target.id,
                        "select": select,
                    }
                )
                means.setdefault(number, []).append(select)
                self.notify(
                    f"{cell}, trial {trial_text(values)}, seed {seed}: select {select:.2f}"
                    f"{' (from the store)' if outcome.reused else ''}"
                )
        done.chosen = best(tuning, cell.variant.method, means)


def _failure(
    cell: Cell, seed: int, kind: str, values: Sequence[Override], error: Exception
) -> dict[str, Any]:
    return {
        "task": cell.task,
        "method": cell.variant.method,
        "bits": cell.variant.bits,
        "parents": list(cell.chain),
        "seed": seed,
        "kind": kind,
        "values": dict(values),
        "error": str(error),
        "wrong_request": isinstance(error, RequestError),
    }
