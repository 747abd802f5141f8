"""The cells of a comparison as requests and plans: which trainings and evaluations each comes to.

Every cell is planned once before the first one runs. Cells are trained and scored like any recipe,
so the store answers what it has, and parents are trained once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import Problems, RequestError, XtlError
from adapters_xtl.planning.modules import SELF
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.studies.cell_settings import (
    check_overrides,
    effective,
    own_members,
    parents_members,
)
from adapters_xtl.studies.cells import Cell, Comparison, Override, Overrides, Variant
from adapters_xtl.studies.equal_settings import EqualSettings

__all__ = ["CellPlans"]


class CellPlans:
    """Makes the requests and plans of one comparison's cells. Nothing is run.

    `left_out`: task → why the source has no rows of it, for comparisons of all tasks.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.store = Store(Path(comparison.base.runs))
        self.planner = Planner(self.store)
        self.equal_settings = EqualSettings(comparison, self.plan)
        self.left_out: dict[str, str] = {}

    def plan(self, request: Request) -> Plan:
        """The plan of a request; the same request is planned once."""
        return self.planner.plan(request)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, planned once to see that it is possible. RequestError with every problem of
        every cell.
        """
        comparison = self.comparison
        problems = Problems()
        possible: list[Cell] = []
        for task in comparison.tasks:
            own, cells = Problems(), list[Cell]()
            for chain in comparison.chains:
                for variant in comparison.variants:
                    try:
                        cells.append(self._cell(task, variant, chain))
                    except XtlError as error:
                        own.catch(_of_method(error, variant.method))
            if own.messages and comparison.skip_lacking and self._lacks(task):
                self.left_out[task] = own.messages[0]
                continue
            for message in own.messages:
                problems.add(message)
            possible += cells
        check_overrides(comparison, possible, problems)
        problems.raise_if_any()
        if not possible:
            raise RequestError(
                "nothing to compare: "
                + "; ".join(f"{task}: {why}" for task, why in self.left_out.items())
            )
        # a cell that trains nothing passes settings of a training over; where no cell trains, they
        # are refused instead, as a mistake
        nothing_trains = not any(cell.trains for cell in possible)
        for cell in possible:
            try:
                self._check(replace(cell, trains=cell.trains or nothing_trains))
            except XtlError as error:
                problems.catch(_of_method(error, cell.variant.method))
        problems.raise_if_any()
        return tuple(possible)

    def _check(self, cell: Cell) -> None:
        """Plans a cell with all its settings, and with those of every trial."""
        tuning = self.comparison.tuning
        for extra in ((), *(tuning.trials[cell.variant.method] if tuning and cell.trains else ())):
            *before, own = self.steps(cell, self.comparison.seeds[0], extra)
            for request in (replace(own, on=()), before[0]) if before else (own,):
                self.plan(request)

    def _lacks(self, task: str) -> bool:
        """Whether the source has not the rows of a task at all, whatever the method."""
        try:
            self.plan(replace(self.comparison.base, task=task, on=(), compose=None, overrides=()))
        except XtlError:
            return True
        return False

    def _cell(self, task: str, variant: Variant, chain: tuple[str, ...]) -> Cell:
        cell, described_task = Cell(task, variant, chain), tasks.load(task)
        first, *more = self.steps(cell, self.comparison.seeds[0])
        planned = self.plan(first)
        finished = not more and (planned.target is None or planned.target.stored is not None)
        cell = replace(cell, bare=planned.target is None, finished_module=finished)
        trained = described_task.train_from or (task if described_task.trainable else "")
        if not trained:
            return cell
        if more:  # the last step's parents may not be there yet
            last = self._task(chain[-1], cell)
            return replace(cell, trains=trained == task or trained != last)
        alone = self.plan(replace(first, task=trained, languages=None, split=None))
        assert alone.target is not None and planned.target is not None
        return replace(cell, trains=alone.target.id == planned.target.id)

    @property
    def idle(self) -> tuple[str, ...]:
        """Flags of the comparison that change nothing in any cell, one line each."""
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
        requests: list[Request] = []
        before = cell.chain[0] if cell.chain[0] != SELF else self._task(SELF, cell)
        for name in cell.chain[1:]:
            requests.append(
                replace(
                    own,
                    task=self._task(name, cell),
                    on=(before,),
                    overrides=own.parent_overrides,
                    languages=None,
                    split=None,
                )
            )
            planned = self.plan(requests[-1]) if before else None
            before = (
                planned.target.id
                if planned and planned.target and finished_directory(planned.target, self.store)
                else ""
            )
        return [*requests, replace(own, on=(before,))]

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

    def settings_source(self, cell: Cell, parent: bool = False) -> str:
        """Where the settings of a cell's training, or of its parents', come from.

        "given": some were set by hand, or the module was trained before; else "default".
        """
        overrides, parent_overrides = self._overrides(cell)
        if cell.trains and not parent:
            by_hand = overrides
        else:
            by_hand = parent_overrides if cell.chain else ()
        trained_before = cell.finished_module and not cell.bare
        set_by_hand = any(not key.startswith("eval.") for key, _ in by_hand)
        return "given" if trained_before or set_by_hand else "default"

    def trial(self, cell: Cell, seed: int, values: Sequence[Override]) -> Request:
        """One tuning trial: the training of the cell's module, scored in one language (English
        where the task has it).
        """
        task = tasks.load(tasks.load(cell.task).train_from or cell.task)
        request = replace(
            self.steps(cell, seed, values)[-1], task=task.name, split=None, languages=None
        )
        if request.on != ("",) and not task.members:
            languages = self.plan(request).evaluation.files.get(task.name, {})
            language = "en" if "en" in languages else next(iter(languages), None)
            request = replace(request, languages=language)
        return request

    def seeds(self, cell: Cell) -> tuple[int, ...]:
        """The seeds of a cell's runs; one where nothing is trained that could vary with them."""
        return self.comparison.seeds[:1] if cell.finished_module else self.comparison.seeds


def _of_method(error: XtlError, method: str) -> XtlError:
    """The error of a plan, with the method named before what is wrong with its options."""
    lines = str(error).split("\n")
    named = [
        f"--methods {method}: {line}" if line.startswith("method.") else line for line in lines
    ]
    return type(error)("\n".join(named))
