"""Which settings of a grid reach a cell, and change something there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.grid.cells import Cell, Grid, Overrides
from adapters_xtl.planning import ineffective_settings
from adapters_xtl.planning.compositions import RANDOM, SELF
from adapters_xtl.runs.parent_settings import address_of, reaches

__all__ = [
    "addressed_by_position",
    "check_overrides",
    "effective",
    "effective_for_parents",
    "own_members",
    "own_task",
    "parent_task_of_position",
    "parent_tasks",
    "trained_task",
    "untrained_tasks",
    "without_user_settings",
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
        reason_of = _reason_of_own if flag == "--set" else _reason_of_parents
        for method, key in dict.fromkeys(settings):
            reasons = [
                reason_of(key, cell)
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


def _reason_of_own(key: str, cell: Cell) -> str:
    """Why a setting changes nothing in a cell's own training; "" where it does."""
    return _without_effect(key, own_members(cell))


def _reason_of_parents(key: str, cell: Cell) -> str:
    """Why a setting, with its address, changes nothing in a cell's parents; "" where it does."""
    address, setting = address_of(key)
    members = parents_members(cell, address)
    if members:
        return _without_effect(setting, members)
    named = any(
        reaches(address, position, name) for position, name in enumerate(cell.chain, start=1)
    )
    if named:
        return "every parent exists already"
    return f"no chain has a parent '{clipped(address)}'{nearest(address, cell.chain)}"


def untrained_tasks(grid: Grid, cells: Sequence[Cell]) -> tuple[str, ...]:
    """The tasks with settings of their own that no cell trains, neither as its own nor as a
    parent: a study file serves smaller grids too.
    """
    trained = {task for cell in cells for task in (own_task(cell), *parent_tasks(cell))}
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


def effective_for_parents(overrides: Overrides, cell: Cell) -> Overrides:
    """The overrides, with their addresses, that change something in a training of a cell's
    parents.
    """
    return tuple(pair for pair in overrides if not _reason_of_parents(pair[0], cell))


def own_members(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's own module is trained on."""
    return _members(cell.task)


def own_task(cell: Cell) -> str:
    """The name of the task that a cell's own module is a module of."""
    return tasks.load(cell.task).train_from or cell.task


def parent_tasks(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's parents are modules of; those that are no tasks are left out."""
    return tuple(parent_task_of_position(cell).values())


def trained_task(cell: Cell, parent: str) -> str:
    """The task that a parent of a cell is trained on; "" for one that is no task."""
    name = cell.task if parent == SELF else parent
    return tasks.load(name).train_from or name if name in tasks.names() else ""


def parent_task_of_position(cell: Cell) -> dict[int, str]:
    """Position in the chain, from 1, → the task of that parent; without those that are no tasks."""
    named = {
        position: trained_task(cell, name) for position, name in enumerate(cell.chain, start=1)
    }
    return {position: task for position, task in named.items() if task}


def addressed_by_position(
    overrides_of_position: Mapping[int, Overrides], parents: int
) -> Overrides:
    """Overrides of some of a chain's `parents`, each addressed to its position; without addresses
    where every parent of the chain has the same.
    """
    sets = list(overrides_of_position.values())
    if len(sets) == parents and all(overrides == sets[0] for overrides in sets):
        return sets[0] if sets else ()
    return tuple(
        (f"{position}:{key}", value)
        for position, overrides in overrides_of_position.items()
        for key, value in overrides
    )


def without_user_settings(overrides: Overrides, user_overrides: Overrides, cell: Cell) -> Overrides:
    """`overrides` without those addressed to a position that the user sets for the same parent too:
    an address by position would win over what was set for all parents or by name. Those without an
    address stay, as the user's come later and win.
    """

    def is_set(key: str) -> bool:
        position, setting = address_of(key)
        return position.isdigit() and any(
            setting == other and reaches(address, int(position), cell.chain[int(position) - 1])
            for address, other in (address_of(key) for key, _ in user_overrides)
        )

    return tuple(pair for pair in overrides if not is_set(pair[0]))


def parents_members(cell: Cell, address: str = "") -> tuple[str, ...]:
    """The tasks that a cell's parents are trained on, "random" for an untrained one; () where none
    is made for the cell. `address`: of the parents that it means alone.
    """
    names: list[str] = []
    for position, name in enumerate(cell.chain, start=1):
        if not reaches(address, position, name):
            continue
        if name == RANDOM:
            names.append(name)
        elif name == SELF or name in tasks.names():
            names += _members(cell.task if name == SELF else name)
    return tuple(names)


def _members(task: str) -> tuple[str, ...]:
    described_task = tasks.load(task)
    return described_task.members or (described_task.train_from or task,)
