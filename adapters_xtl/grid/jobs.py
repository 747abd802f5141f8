"""The runs of a grid as jobs for an engine: what the store lacks, each run once, parents first."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import digest
from adapters_xtl.engines.job import Job, Trial
from adapters_xtl.grid import cost_forecast
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Cell, Overrides
from adapters_xtl.grid.tuning import chosen_values, trial_text
from adapters_xtl.runs.outcome import finished_directory, from_store
from adapters_xtl.runs.request import Module, Plan, Request
from adapters_xtl.runs.store import ANALYSES

__all__ = ["CellRun", "Jobs", "cell_runs", "jobs_of"]


@dataclass(frozen=True)
class CellRun:
    """One run of a cell: a tuning trial, or a run that is reported.

    values   the settings that a trial tries; of a reported run, those that the trials chose
    request  None where the trials that choose its settings have not all ended
    plan     of the request
    trials   the trials that choose the settings of a reported run
    damage   why they cannot choose: the run of one of them is damaged in the store; "" otherwise
    """

    cell: Cell
    kind: Literal["trial", "report"]
    seed: int
    values: Overrides
    request: Request | None
    plan: Plan | None
    trials: tuple[Trial, ...] = ()
    damage: str = ""

    def __str__(self) -> str:
        trial = f", trial {trial_text(self.values)}" if self.kind == "trial" else ""
        return f"{self.cell}{trial}, seed {self.seed}"


def cell_runs(plans: CellPlans, failed: Collection[str] = ()) -> Iterator[CellRun]:
    """Every run of every cell, in the order of the cells, the trials of a cell before its reported
    runs. Nothing is run. `failed`: keys of jobs that failed and are not tried again.
    """
    tuning = plans.grid.tuning
    for cell in plans.cells:
        chosen: Overrides | None = ()
        damage = ""
        trials: tuple[Trial, ...] = ()
        if tuning and plans.trials(cell):
            trials = tuple(
                Trial(values, tuple(plans.trial(cell, seed, values) for seed in tuning.seeds))
                for values in plans.trials(cell)
            )
            for trial in trials:
                for seed, request in zip(tuning.seeds, trial.requests, strict=True):
                    plan = plans.plan(request)
                    yield CellRun(cell, "trial", seed, trial.values, request, plan)
            try:
                chosen = chosen_values(trials, plans.planner, failed)
            except (XtlError, OSError) as error:
                chosen, damage = None, str(error)
        for seed in plans.seeds(cell):
            if chosen is None:
                yield CellRun(cell, "report", seed, (), None, None, trials, damage)
            else:
                request = plans.request(cell, seed, chosen)
                yield CellRun(cell, "report", seed, chosen, request, plans.plan(request), trials)


@dataclass
class Jobs:
    """The jobs of a grid, parents before children; `of_run`: for each run of a cell the keys of the
    jobs that make it, its own last, () where the store has all of it. `damaged`: how many runs
    of cells the store has in a damaged state, or cannot be made because a trial is.
    """

    plans: CellPlans
    jobs: dict[str, Job] = field(default_factory=dict)
    of_run: list[tuple[CellRun, tuple[str, ...]]] = field(default_factory=list)
    damaged: int = 0
    _evaluations: dict[str, str] = field(default_factory=dict)  # key → evaluation of its training

    def add(self, run: CellRun, before: tuple[str, ...]) -> tuple[str, ...]:
        """Adds the jobs of a run that the store lacks. `before`: the keys of its trials' jobs."""
        if run.damage:
            self.damaged += 1
            return ()
        if run.plan is None or run.request is None:
            keys = self._add_tuned(run, before)
        else:
            keys = self._add_planned(run, run.plan, run.request)
        return (*keys, *self._add_analysis(run, keys))

    def _add_planned(self, run: CellRun, plan: Plan, request: Request) -> tuple[str, ...]:
        keys: list[str] = []
        key_of_module: dict[str, str] = {}
        for module in plan.modules:
            if finished_directory(module, self.plans.store) is not None:
                continue
            own = plan.inline and module is plan.target
            key = self._add_training(plan, module, run, request, own=own)
            key_of_module[module.id] = key
            keys.append(key)
        target_key = key_of_module.get(plan.target.id, "") if plan.target else ""
        scored = self._evaluations.get(target_key) == plan.evaluation.id if target_key else False
        state = "lacking" if target_key else self._state(plan)
        if state == "damaged" and not keys:
            self.damaged += 1
        if not scored and state == "lacking":
            # the module is scored on rows that its own training run does not score
            key = f"{plan.task}-{plan.evaluation.id}"
            if key not in self.jobs:
                after = (target_key,) if target_key else tuple(key_of_module.values())
                self.jobs[key] = Job(key, f"scores of {run}", request, after=after)
            keys.append(key)
        return tuple(keys)

    def _add_training(
        self, plan: Plan, module: Module, run: CellRun, request: Request, *, own: bool
    ) -> str:
        """Adds the training of a module that the store lacks, and returns its key; a module that
        several runs need is trained by one job. `own`: the request is scored by this very run.
        """
        key = f"{module.task}-{module.id}"
        if key in self.jobs:
            return key
        parents = (f"{parent.task}-{parent.id}" for parent in module.parents)
        trial = f", trial {trial_text(run.values)}" if own and run.kind == "trial" else ""
        self.jobs[key] = Job(
            key,
            f"{module}, {module.run.method}{trial}, seed {module.run.seed}",
            request,
            "" if own else module.id,
            after=tuple(parent for parent in parents if parent in self.jobs),
            memory=self._memory(plan, module.id),
        )
        self._evaluations[key] = module.evaluation.id if module.evaluation else ""
        return key

    def _state(self, plan: Plan) -> Literal["finished", "damaged", "lacking"]:
        """What the store has of the scores of a plan. Nothing is made in place of a damaged run:
        the cells that need it fail, and say so.
        """
        try:
            return "lacking" if from_store(plan, self.plans.store) is None else "finished"
        except (XtlError, OSError):
            return "damaged"

    def _add_tuned(self, run: CellRun, before: tuple[str, ...]) -> tuple[str, ...]:
        """Adds the job of a reported run whose settings its trials have yet to choose."""
        request = self.plans.request(run.cell, run.seed)
        plan = self.plans.plan(request)
        parents: list[str] = []
        for module in plan.modules:
            if module is plan.target or finished_directory(module, self.plans.store) is not None:
                continue
            parents.append(self._add_training(plan, module, run, request, own=False))
        identity = [repr(request), *(repr(trial) for trial in run.trials)]
        key = f"{run.cell.task}-tuned-{digest(identity)[:12]}"
        memory = self._memory(plan, plan.target.id) if plan.target else 0
        self.jobs[key] = Job(
            key, f"{run}, tuned", request, "", run.trials, tuple(parents), before, memory
        )
        return (*before, *parents, key)

    def _add_analysis(self, run: CellRun, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Adds the analysis of a reported run where the store lacks it. `keys`: of the jobs that
        make the run, its own last.
        """
        analysis = run.cell.analysis
        if analysis is None or run.kind != "report":
            return ()
        if run.plan is None:
            key, request = f"analysis-of-{keys[-1]}", self.plans.request(run.cell, run.seed)
        elif not keys and self._state(run.plan) == "damaged":
            return ()  # the run's own failure says why
        else:
            assert run.request is not None
            analysis_id, request = self.plans.analysis_id(analysis, run.plan), run.request
            if self.plans.store.find(ANALYSES, analysis_id) is not None:
                return ()
            key = f"analysis-{analysis_id}"
        trials = run.trials if run.plan is None else ()
        if key not in self.jobs:
            title, after = f"analysis of {run}", keys[-1:]
            self.jobs[key] = Job(key, title, request, "", trials, after, analysis=analysis)
        return (key,)

    def _memory(self, plan: Plan, module_id: str) -> int:
        module = next(module for module in plan.modules if module.id == module_id)
        return cost_forecast.peak_bytes(plan, module) if module.run.tasks else 0


def jobs_of(plans: CellPlans, failed: Collection[str] = ()) -> Jobs:
    """The jobs of every run of the grid that the store lacks.

    `failed`: keys of jobs that failed and are not tried again. They are among the jobs all the
    same; see `carry_out.runnable`.
    """
    jobs = Jobs(plans)
    trial_keys: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = {}  # by the cell's point
    for run in cell_runs(plans, failed):
        keys = jobs.add(run, trial_keys.get(run.cell.point, ()))
        if run.kind == "trial":
            trial_keys[run.cell.point] = (*trial_keys.get(run.cell.point, ()), *keys)
        jobs.of_run.append((run, keys))
    return jobs
