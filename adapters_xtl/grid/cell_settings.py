"""Which settings of a grid reach a cell, and change something there."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.grid.cells import Cell, Grid, Overrides
from adapters_xtl.planning import ineffective_settings
from adapters_xtl.planning.modules import RANDOM, SELF

__all__ = [
    "check_overrides",
    "effective",
    "own_members",
    "parent_tasks",
    "parents_members",
    "untrained_tasks",
]


def check_overrides(grid: Grid, cells: Sequence[Cell], problems: Problems) -> None:
    """Adds what is set without an effect on any cell."""
    with_parents = [cell for cell in cells if cell.chain]
    for flag, base, own, cells_reached in (
        ("--set", grid.base.overrides, grid.own, cells),
        ("--set-parents", grid.base.parent_overrides, grid.own_parents, with_parents),
    ):
        settings = [("", key) for key, _ in base]
        settings += [(method, key) for method, overrides in own.items() for key, _ in overrides]
        members_of = own_members if flag == "--set" else parents_members
        for method, key in dict.fromkeys(settings):
            reasons = [
                _without_effect(key, members_of(cell))
                if members_of(cell)
                else "every parent exists already"
                for cell in cells_reached
                if method in ("", cell.variant.method)
            ]
            if reasons and all(reasons):
                setting = f"{flag} {method}:{key}" if method else f"{flag} {key}"
                problems.add(f"{setting}: means nothing for any task: {reasons[0]}")
    for task, overrides in grid.of_task.items():
        for key, _ in overrides:
            if reason := _without_effect(key, _members(task)):
                problems.add(f"tasks.{task}.{key}: means nothing: {reason}")


def untrained_tasks(grid: Grid, cells: Sequence[Cell]) -> tuple[str, ...]:
    """The tasks with settings of their own that no cell trains, neither as its own nor as a
    parent: a study file serves smaller grids too.
    """
    trained = {task for cell in cells for task in (*own_tasks(cell), *parent_tasks(cell))}
    return tuple(task for task in grid.of_task if task not in trained)


def _without_effect(key: str, members: Sequence[str]) -> str:
    """Why a setting changes nothing in a training of the tasks `members`; "" where it does."""
    if key == "train.tasks" and len(members) == 1:
        return "it chooses among the tasks of a task of several, and this is a single one"
    return ineffective_settings.without_effect(key, members)


def effective(overrides: Overrides, members: Sequence[str]) -> Overrides:
    """The overrides that change something in a training of the tasks `members`; () without any."""
    if not members:
        return ()
    return tuple((key, value) for key, value in overrides if not _without_effect(key, members))


def own_members(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's own module is trained on."""
    return _members(cell.task)


def own_tasks(cell: Cell) -> tuple[str, ...]:
    """The name of the task that a cell's own module is a module of."""
    return (tasks.load(cell.task).train_from or cell.task,)


def parent_tasks(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's parents are modules of; those that are no tasks are left out."""
    names = [cell.task if name == SELF else name for name in cell.chain]
    return tuple(tasks.load(name).train_from or name for name in names if name in tasks.names())


def parents_members(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's parents are trained on, "random" for an untrained one; () where none
    is made for the cell.
    """
    names: list[str] = []
    for name in cell.chain:
        if name == RANDOM:
            names.append(name)
        elif name == SELF or name in tasks.names():
            names += _members(cell.task if name == SELF else name)
    return tuple(names)


def _members(task: str) -> tuple[str, ...]:
    described_task = tasks.load(task)
    return described_task.members or (described_task.train_from or task,)
