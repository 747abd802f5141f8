"""A comparison: methods × bits × parents × seeds on the same tasks, planned first, then run, then
summed up.

Cells are trained and scored like any recipe, so the store answers what it has and parents are
trained once. With a tuning grid each cell gets the same number of trials; the select split chooses
among them, and trials have seeds of their own, so that no reported number took part in a choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import Problems, RequestError, RunError, XtlError
from adapters_xtl.base.machine import gpu
from adapters_xtl.planning.modules import SELF
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.outcome import Outcome, finished_directory, from_store
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.studies import separate_process
from adapters_xtl.studies.cell_settings import (
    check_overrides,
    effective,
    own_members,
    parents_members,
)
from adapters_xtl.studies.cells import Cell, Comparison, Override, Overrides, Tuning, Variant
from adapters_xtl.studies.equal_settings import EqualSettings
from adapters_xtl.studies.summary import Scored

__all__ = ["Done", "Worker", "best"]

Notify = Callable[[str], None]


@dataclass
class Done:
    """What a cell came to: its finished runs, the trials before them, and what failed."""

    cell: Cell
    runs: list[Scored] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: Overrides | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)


class Worker:
    """Plans and runs the cells of one comparison."""

    def __init__(self, comparison: Comparison, notify: Notify) -> None:
        self.comparison, self.notify = comparison, notify
        self.store = Store(Path(comparison.base.runs))
        self.planner = Planner(self.store)
        self.equal_settings = EqualSettings(comparison, self.plan)
        self.left_out: dict[str, str] = {}
        # id → error of a parent that failed once: it is not tried again for each of its children
        self.broken: dict[str, str] = {}

    def plan(self, asked: Request) -> Plan:
        """The plan of a request; the same request is planned once."""
        return self.planner.plan(asked)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, planned once to see that it is possible. RequestError with every problem of
        every cell.
        """
        asked = self.comparison
        problems = Problems()
        found: list[Cell] = []
        for task in asked.tasks:
            own, cells = Problems(), list[Cell]()
            for chain in asked.chains:
                for variant in asked.variants:
                    try:
                        cells.append(self._cell(task, variant, chain))
                    except XtlError as error:
                        own.catch(_of_method(error, variant.method))
            if own.messages and asked.skip_lacking and self._lacks(task):
                self.left_out[task] = own.messages[0]
                continue
            for message in own.messages:
                problems.add(message)
            found += cells
        check_overrides(self.comparison, found, problems)
        problems.raise_if_any()
        if not found:
            raise RequestError(
                "nothing to compare: "
                + "; ".join(f"{task}: {why}" for task, why in self.left_out.items())
            )
        # where nothing trains, settings of a training are a mistake, and not passed over
        ignored = not any(cell.trains for cell in found)
        for cell in found:
            try:
                self._check(replace(cell, trains=cell.trains or ignored))
            except XtlError as error:
                problems.catch(_of_method(error, cell.variant.method))
        problems.raise_if_any()
        return tuple(found)

    def _check(self, cell: Cell) -> None:
        """Plans a cell with all its settings, and with those of every trial."""
        tuning = self.comparison.tuning
        for extra in ((), *(tuning.trials[cell.variant.method] if tuning and cell.trains else ())):
            *before, own = self.steps(cell, self.comparison.seeds[0], extra)
            for asked in (replace(own, on=()), before[0]) if before else (own,):
                self.plan(asked)

    def _lacks(self, task: str) -> bool:
        """Whether the source has not the rows of a task at all, whatever the method."""
        try:
            self.plan(replace(self.comparison.base, task=task, on=(), compose=None, overrides=()))
        except XtlError:
            return True
        return False

    def _cell(self, task: str, variant: Variant, chain: tuple[str, ...]) -> Cell:
        plain, known = Cell(task, variant, chain), tasks.load(task)
        first, *more = self.steps(plain, self.comparison.seeds[0])
        planned = self.plan(first)
        given = not more and (planned.target is None or planned.target.stored is not None)
        plain = replace(plain, bare=planned.target is None, there=given)
        trained = known.train_from or (task if known.trainable else "")
        if not trained:
            return plain
        if more:  # the last step's parents may not be there yet
            last = self._task(chain[-1], plain)
            return replace(plain, trains=trained == task or trained != last)
        alone = self.plan(replace(first, task=trained, languages=None, split=None))
        assert alone.target is not None and planned.target is not None
        return replace(plain, trains=alone.target.id == planned.target.id)

    @property
    def idle(self) -> tuple[str, ...]:
        """What was asked for and changes nothing in any cell, one line each."""
        seed = self.comparison.seeds[0]
        lines = [self.plan(self.steps(cell, seed)[0]).idle for cell in self.cells]
        return tuple(line for line in lines[0] if all(line in others for others in lines))

    # --- requests

    def _request(self, cell: Cell, seed: int, extra: Sequence[Override] = ()) -> Request:
        base, method = self.comparison.base, cell.variant.method
        equal = self.equal_settings.of(cell.task, method) if cell.trains else ()
        parents = tuple(cell.task if name == SELF else name for name in cell.chain)
        parents_equal = self.equal_settings.of_parents(parents, method)
        overrides, parent_overrides = self._overrides(cell)
        return replace(
            base,
            task=cell.task,
            method=method,
            bits=cell.variant.bits,
            on=cell.chain,
            seed=seed,
            compose=base.compose if len(methods.load(method).compositions) > 1 else None,
            overrides=(*effective((*equal, *overrides), own_members(cell)), *extra),
            parent_overrides=effective((*parents_equal, *parent_overrides), parents_members(cell)),
        )

    def _overrides(self, cell: Cell) -> tuple[Overrides, Overrides]:
        """What the request sets for a cell's own training, and for that of its parents."""
        base, method = self.comparison.base, cell.variant.method
        own = (*base.overrides, *self.comparison.own.get(method, ()))
        return (
            tuple(pair for pair in own if cell.trains or pair[0].startswith("eval.")),
            (*base.parent_overrides, *self.comparison.own_parents.get(method, ())),
        )

    def steps(self, cell: Cell, seed: int, extra: Sequence[Override] = ()) -> list[Request]:
        """The requests of one run, in order; the last is the cell's own.

        One, but where a child starts as a copy (`init`) of the last of several parents: then each
        parent is a step, and a later step names the one before by its run's id ("" as long as that
        is not known).
        """
        own = self._request(cell, seed, extra)
        possible = methods.load(own.method).compositions
        compose = own.compose or ("stack" if "stack" in possible else "init")
        if compose != "init" or len(cell.chain) < 2:
            return [own]
        found: list[Request] = []
        before = cell.chain[0] if cell.chain[0] != SELF else self._task(SELF, cell)
        for name in cell.chain[1:]:
            found.append(
                replace(
                    own,
                    task=self._task(name, cell),
                    on=(before,),
                    overrides=own.parent_overrides,
                    languages=None,
                    split=None,
                )
            )
            planned = self.plan(found[-1]) if before else None
            before = (
                planned.target.id
                if planned and planned.target and finished_directory(planned.target, self.store)
                else ""
            )
        return [*found, replace(own, on=(before,))]

    def _task(self, name: str, cell: Cell) -> str:
        """The task that a parent in a chain of copies is trained on."""
        if name != SELF and name not in tasks.names():
            raise RequestError(
                f"--on {','.join(cell.chain)}: '{name}' is no task, and where a child starts as a"
                f" copy ({cell.variant.method}) only tasks can follow the first parent"
            )
        task = tasks.load(cell.task if name == SELF else name)
        if not (task.trainable or task.train_from):
            raise RequestError(
                f"--on {name}: '{task.name}' trains nothing, so nothing can stand on it"
            )
        return task.train_from or task.name

    def settings(self, cell: Cell, parent: bool = False) -> str:
        """ "given" where settings of its training, or of its parents', were set by hand, else
        "default".
        """
        overrides, parent_overrides = self._overrides(cell)
        given = overrides if cell.trains and not parent else parent_overrides if cell.chain else ()
        there = cell.there and not cell.bare  # trained by somebody, somehow
        return (
            "given" if there or any(not key.startswith("eval.") for key, _ in given) else "default"
        )

    def trial(self, cell: Cell, seed: int, values: Sequence[Override]) -> Request:
        """One tuning trial: the training of the cell's module, scored in one language (English
        where the task has it).
        """
        task = tasks.load(tasks.load(cell.task).train_from or cell.task)
        asked = replace(
            self.steps(cell, seed, values)[-1], task=task.name, split=None, languages=None
        )
        if asked.on != ("",) and not task.members:
            there = self.plan(asked).evaluation.files.get(task.name, {})
            asked = replace(asked, languages="en" if "en" in there else next(iter(there), None))
        return asked

    # --- running

    def _seeds(self, cell: Cell) -> tuple[int, ...]:
        return self.comparison.seeds[:1] if cell.there else self.comparison.seeds

    def run(self, cell: Cell) -> Done:
        """Tunes and runs a cell; a run that fails is noted, and the others go on."""
        done = Done(cell)
        tuning = self.comparison.tuning
        if tuning and cell.trains:
            self._tune(cell, tuning, done)
            if done.chosen is None:
                return done
        for seed in self._seeds(cell):
            try:
                done.runs.append(self._execute(cell, seed, done.chosen or ()))
            except (XtlError, OSError) as error:
                done.failures.append(_failure(cell, seed, "report", (), error))
                self.notify(f"{cell}, seed {seed} failed: {error}")
        return done

    def _execute(self, cell: Cell, seed: int, extra: Sequence[Override]) -> Scored:
        self._ready(cell, seed)
        planned, found = self.answer(self.steps(cell, seed, extra)[-1])
        self.notify(
            f"{cell}, seed {seed}: {found.score:.2f}{' (from the store)' if found.reused else ''}"
        )
        return Scored(seed, planned, found)

    def _ready(self, cell: Cell, seed: int) -> None:
        """Runs the steps before a cell's own, each of which names the run of the one before."""
        for number in range(len(self.steps(cell, seed)) - 1):
            self.answer(self.steps(cell, seed)[number])

    def answer(self, asked: Request) -> tuple[Plan, Outcome]:
        """The plan and its finished run, which the store had or has now."""
        started = time.monotonic()
        planned = self.plan(asked)
        if (found := from_store(planned, self.store)) is not None:
            return planned, found
        if planned.backbone.source in ("embedded", "random"):
            embedded.prepare(self.notify)
        for module in planned.modules:
            if module.id in self.broken:
                raise RunError(self.broken[module.id])
        try:
            separate_process.execute(asked, preload=gpu() is None)
        except RunError as error:
            culprit = next(
                (
                    module
                    for module in planned.modules
                    if finished_directory(module, self.store) is None
                ),
                None,
            )
            if culprit is not None:
                self.broken[culprit.id] = str(error)
            raise
        if (found := from_store(planned, self.store)) is None:
            raise RunError(f"{planned.task}: the run ended, but the store has not got it")
        return planned, replace(found, reused=False, seconds=round(time.monotonic() - started, 3))

    def _tune(self, cell: Cell, tuning: Tuning, done: Done) -> None:
        """Runs every trial and takes the one with the best select score (mean over the tuning
        seeds; ties: the first).
        """
        means: dict[int, list[float]] = {}
        for number, values in enumerate(tuning.trials[cell.variant.method]):
            for seed in tuning.seeds:
                try:
                    self._ready(cell, seed)
                    planned, found = self.answer(self.trial(cell, seed, values))
                except (XtlError, OSError) as error:
                    done.failures.append(_failure(cell, seed, "trial", values, error))
                    self.notify(f"{cell}, trial {shown(values)} failed: {error}")
                    continue
                select = self.select_score(planned)
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
                    f"{cell}, trial {shown(values)}, seed {seed}: select {select:.2f}"
                    f"{' (from the store)' if found.reused else ''}"
                )
        done.chosen = best(tuning, cell.variant.method, means)

    def select_score(self, planned: Plan) -> float:
        """Score of the split that chose the checkpoint, of the plan's finished training."""
        assert planned.target is not None
        path = finished_directory(planned.target, self.store)
        assert path is not None
        trained = read_run(path).metrics.train
        assert trained is not None
        return trained.select.score

    # --- looking ahead

    def ahead(self) -> Iterator[tuple[Cell, str, int, Overrides, Plan | None]]:
        """Every run to come: (cell, "parent", "trial" or "report", seed, tuned values, plan).
        Nothing is run.

        The plan is None where it hangs on what is not known yet: a tuned value, a parent's run.
        """
        tuning = self.comparison.tuning
        for cell in self.cells:
            chosen: Overrides | None = ()
            if tuning and cell.trains:
                means: dict[int, list[float]] = {}
                for number, values in enumerate(tuning.trials[cell.variant.method]):
                    for seed in tuning.seeds:
                        yield from self._before(cell, seed)
                        asked = self.trial(cell, seed, values)
                        planned = None if asked.on == ("",) else self.plan(asked)
                        yield cell, "trial", seed, values, planned
                        if (
                            planned
                            and planned.target
                            and finished_directory(planned.target, self.store)
                        ):
                            means.setdefault(number, []).append(self.select_score(planned))
                whole = sum(map(len, means.values())) == len(tuning.seeds) * len(
                    tuning.trials[cell.variant.method]
                )
                chosen = best(tuning, cell.variant.method, means) if whole else None
            for seed in self._seeds(cell):
                yield from self._before(cell, seed)
                asked = self.steps(cell, seed, chosen or ())[-1]
                known = chosen is not None and asked.on != ("",)
                yield cell, "report", seed, chosen or (), self.plan(asked) if known else None

    def _before(
        self, cell: Cell, seed: int
    ) -> Iterator[tuple[Cell, str, int, Overrides, Plan | None]]:
        """The steps before a cell's own run."""
        for step in self.steps(cell, seed)[:-1]:
            if step.on != ("",):
                yield cell, "parent", seed, (), self.plan(step)


def _of_method(error: XtlError, method: str) -> XtlError:
    """The error of a plan, with the method named before what is wrong with its options."""
    lines = str(error).split("\n")
    named = [
        f"--methods {method}: {line}" if line.startswith("method.") else line for line in lines
    ]
    return type(error)("\n".join(named))


def best(tuning: Tuning, method: str, scores: Mapping[int, Sequence[float]]) -> Overrides | None:
    """The trial with the highest mean of its select scores; one that lacks a seed does not count;
    ties go to the first.
    """
    whole = {
        number: sum(found) / len(found)
        for number, found in scores.items()
        if len(found) == len(tuning.seeds)
    }
    if not whole:
        return None
    return tuning.trials[method][max(whole, key=lambda number: (whole[number], -number))]


def shown(values: Sequence[Override]) -> str:
    """`lr 0.0003, r 8`."""
    shown = {
        key.partition(".")[2]: f"{value:g}" if isinstance(value, float) else value
        for key, value in values
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items())


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
