"""The cells of a grid as requests and plans: which trainings and evaluations each comes to.

Every cell is planned once before the first run. Cells are trained and scored like any recipe, so
the store answers what it has, and parents are trained once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import Problems, RequestError, XtlError
from adapters_xtl.engines.analysis import Analysis, analysis_id
from adapters_xtl.grid.cell_settings import (
    addressed_by_position,
    check_overrides,
    effective,
    effective_for_parents,
    own_members,
    own_task,
    parent_task_of_position,
    parent_tasks,
    untrained_tasks,
    without_user_settings,
)
from adapters_xtl.grid.cells import Cell, Grid, Overrides
from adapters_xtl.grid.equal_settings import EqualSettings
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store

__all__ = ["CellPlans"]


class CellPlans:
    """Makes the requests and plans of the cells of one grid. Nothing is run.

    `left_out`: task → why the source has no rows of it, where the grid skips cells on such tasks,
    and on such parents.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.store = Store(Path(grid.base.runs))
        self.planner = Planner(self.store)
        self.equal_settings = EqualSettings(grid, self.plan)
        self.left_out: dict[str, str] = {}

    def plan(self, request: Request) -> Plan:
        """The plan of a request; the same request is planned once."""
        return self.planner.plan(request)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, planned once to see that it is possible. RequestError with every problem of
        every cell.
        """
        grid = self.grid
        problems = Problems()
        possible: list[Cell] = []
        for task in grid.tasks:
            for cell in grid.cells:
                if cell.task != task:
                    continue
                try:
                    possible.append(self._described(cell))
                except XtlError as error:
                    if grid.skip_lacking and (lacking := self._lacking(cell)):
                        self.left_out.setdefault(lacking, str(error).split("\n")[0])
                    else:
                        problems.catch(_of_method(error, cell.variant.method))
        check_overrides(grid, possible, problems)
        problems.raise_if_any()
        points = {cell.point for cell in possible}
        possible = [cell for cell in possible if not cell.partner or cell.partner in points]
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
        order = {cell.point: number for number, cell in enumerate(grid.cells)}
        return tuple(sorted(possible, key=lambda cell: order[cell.point]))

    def _check(self, cell: Cell) -> None:
        """Plans a cell with all its settings, and with those of every trial."""
        for values in ((), *self.trials(cell)):
            plan = self.plan(self.request(cell, self.grid.seeds[0], values))
            if cell.analysis is not None:
                self.analysis_id(cell.analysis, plan)

    def analysis_id(self, analysis: Analysis, plan: Plan) -> str:
        """The id of the analysis of what a plan scores. RequestError where it is impossible."""
        return analysis_id(analysis, plan, self.planner.lookups)

    def _lacking(self, cell: Cell) -> str:
        """The task of a cell, or of one of its parents, of which the source has no rows at all,
        whatever the method, or the task and language of which it lacks rows; "" where it has rows
        of each.
        """
        parents = [
            replace(self.grid.base, languages=None, split=None, task=name)
            for name in parent_tasks(cell)
        ]
        for request in (replace(self.grid.base, task=cell.task), *parents):
            try:
                self.plan(replace(request, on=(), compose=None, overrides=()))
            except XtlError:
                return request.task
        if cell.languages:
            try:
                self.plan(replace(self._scored(cell), on=(), compose=None, parent_overrides=()))
            except XtlError:
                return f"{cell.task} in {cell.languages}"
        return ""

    def _scored(self, cell: Cell) -> Request:
        """The request of a cell with its own settings and languages alone."""
        base = self.grid.base
        split, languages = base.split or cell.split, cell.languages
        scored = replace(base, task=cell.task, languages=languages, split=split)
        return replace(scored, method=cell.variant.method, overrides=cell.overrides)

    def _described(self, cell: Cell) -> Cell:
        """The cell with what its plan says of it: whether it trains, whether a seed changes it."""
        described_task = tasks.load(cell.task)
        # with the settings of its own training where it surely has one: they may decide which rows
        # are looked for
        borrows = bool(described_task.train_from) and not cell.chain
        surely_trains = not cell.retained and (described_task.trainable or borrows)
        request = self.request(replace(cell, trains=surely_trains), self.grid.seeds[0])
        plan = self.plan(request)
        finished = plan.target is None or plan.target.stored is not None
        cell = replace(cell, bare=plan.target is None, finished_module=finished)
        trained = described_task.train_from or (cell.task if described_task.trainable else "")
        if cell.retained or not trained:
            return cell
        alone = self.plan(replace(request, task=trained, languages=None, split=None))
        assert alone.target is not None and plan.target is not None
        return replace(cell, trains=alone.target.id == plan.target.id)

    @property
    def idle(self) -> tuple[str, ...]:
        """Flags of the grid that change nothing in any cell, one line each."""
        lines = [self.plan(self.request(cell, self.grid.seeds[0])).idle for cell in self.cells]
        idle = [line for line in lines[0] if all(line in others for others in lines)]
        idle += [
            f"the settings of {task} alone mean nothing here: no cell trains it"
            for task in untrained_tasks(self.grid, self.cells)
        ]
        return tuple(idle)

    # --- requests

    def request(self, cell: Cell, seed: int, values: Overrides = ()) -> Request:
        """The request of one run of a cell. `values`: the tuned settings."""
        base, method = self.grid.base, cell.variant.method
        equal = self.equal_settings.of(cell.task, method) if cell.trains else ()
        overrides, parent_overrides = self._overrides(cell)
        parents_equal = without_user_settings(
            self.equal_settings.of_parents(parent_task_of_position(cell), len(cell.chain), method),
            parent_overrides,
            cell,
        )
        compose = base.compose if cell.compose is None else cell.compose
        return replace(
            base,
            task=cell.task,
            retained=cell.retained,
            method=method,
            bits=cell.variant.bits,
            on=cell.chain,
            seed=seed,
            languages=None if cell.retained else cell.languages or base.languages,
            split=None if cell.retained else base.split or cell.split,
            from_layer=base.from_layer if cell.from_layer is None else cell.from_layer,
            compose=compose if len(methods.load(method).compositions) > 1 else None,
            overrides=(*effective((*equal, *overrides), own_members(cell)), *values),
            parent_overrides=effective_for_parents((*parents_equal, *parent_overrides), cell),
        )

    def _overrides(self, cell: Cell) -> tuple[Overrides, Overrides]:
        """What the request sets for a cell's own training, and for that of its parents; of several
        settings of one key the last counts.
        """
        grid, method = self.grid, cell.variant.method
        own = (
            *grid.base.overrides,
            *grid.own.get(method, ()),
            *grid.of_task.get(own_task(cell), ()),
        )
        return (
            tuple(
                pair
                for pair in (*own, *cell.overrides)
                if (cell.trains or pair[0].startswith("eval.")) and pair[0] not in cell.ineffective
            ),
            (
                *grid.base.parent_overrides,
                *grid.own_parents.get(method, ()),
                *self._of_parents(cell),
                *cell.parent_overrides,
            ),
        )

    def _of_parents(self, cell: Cell) -> Overrides:
        """The settings of single tasks that reach a cell's parents: each is addressed to its own,
        unless all of them have the same.
        """
        return addressed_by_position(
            {
                position: self.grid.of_task.get(task, ())
                for position, task in parent_task_of_position(cell).items()
            },
            len(cell.chain),
        )

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

    def trials(self, cell: Cell) -> tuple[Overrides, ...]:
        """The settings that are tried for a cell; () where nothing is tuned."""
        tuning = self.grid.tuning
        return tuning.trials[cell.variant.method] if tuning and cell.trains else ()

    def trial(self, cell: Cell, seed: int, values: Overrides) -> Request:
        """One tuning trial: the training of the cell's module, scored in one language (English
        where the task has it).
        """
        task = tasks.load(tasks.load(cell.task).train_from or cell.task)
        request = replace(
            self.request(cell, seed, values), task=task.name, split=None, languages=None
        )
        if not task.members:
            languages = self.plan(request).evaluation.files.get(task.name, {})
            language = "en" if "en" in languages else next(iter(languages), None)
            request = replace(request, languages=language)
        return request

    def seeds(self, cell: Cell) -> tuple[int, ...]:
        """The seeds of a cell's runs; one where nothing is trained that could vary with them."""
        return self.grid.seeds[:1] if cell.finished_module else self.grid.seeds


def _of_method(error: XtlError, method: str) -> XtlError:
    """The error of a plan, with the method named before what is wrong with its options."""
    lines = str(error).split("\n")
    named = [
        f"--methods {method}: {line}" if line.startswith("method.") else line for line in lines
    ]
    return type(error)("\n".join(named))
