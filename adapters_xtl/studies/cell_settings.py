"""Which settings of a comparison reach a cell, and change something there."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.planning.ineffective_settings import without_effect
from adapters_xtl.planning.modules import RANDOM, SELF
from adapters_xtl.studies.cells import Cell, Comparison, Overrides

__all__ = ["check_overrides", "effective", "own_members", "parents_members"]


def check_overrides(comparison: Comparison, cells: Sequence[Cell], problems: Problems) -> None:
    """Adds what is set without an effect on any cell."""
    with_parents = [cell for cell in cells if cell.chain]
    for flag, base, own, reached in (
        ("--set", comparison.base.overrides, comparison.own, cells),
        (
            "--set-parents",
            comparison.base.parent_overrides,
            comparison.own_parents,
            with_parents,
        ),
    ):
        every = [("", key) for key, _ in base]
        every += [(method, key) for method, overrides in own.items() for key, _ in overrides]
        for method, key in dict.fromkeys(every):
            concerned = [cell for cell in reached if method in ("", cell.variant.method)]
            setting = f"{flag} {method}:{key}" if method else f"{flag} {key}"
            names = own_members if flag == "--set" else parents_members
            reasons = [
                without_effect(key, names(cell)) if names(cell) else "every parent exists already"
                for cell in concerned
            ]
            if reasons and all(reasons):
                problems.add(f"{setting}: means nothing for any task: {reasons[0]}")


def effective(overrides: Overrides, members: Sequence[str]) -> Overrides:
    """The overrides that change something in a training of the tasks `members`; () without any."""
    if not members:
        return ()
    return tuple((key, value) for key, value in overrides if not without_effect(key, members))


def own_members(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's own module is trained on."""
    task = tasks.load(cell.task)
    return task.members or (task.train_from or task.name,)


def parents_members(cell: Cell) -> tuple[str, ...]:
    """The tasks that a cell's parents are trained on, "random" for an untrained one; () where none
    is made for the cell.
    """
    names: list[str] = []
    for name in cell.chain:
        if name == RANDOM:
            names.append(name)
        elif name == SELF or name in tasks.names():
            task = tasks.load(cell.task if name == SELF else name)
            names += task.members or (task.train_from or task.name,)
    return tuple(names)
