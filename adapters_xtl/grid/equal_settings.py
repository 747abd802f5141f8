"""The same epochs, lengths, batches and selection rows for every method of a grid.

A recipe may give full fine-tuning other settings than the modules. Side by side, such settings
would be compared instead of the methods: so every method takes those of one of them, the reference,
except where the request names the setting itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from adapters_xtl import tasks
from adapters_xtl.grid.cell_settings import addressed_by_position
from adapters_xtl.grid.cells import Grid, Overrides
from adapters_xtl.methods import REFERENCE
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.parent_settings import address_of
from adapters_xtl.runs.request import Plan, Request

__all__ = ["EqualSettings"]

# what each method keeps as its own recipe has it, or is for that method alone
OWN = ("lr", "optimizer", "dtype", "tasks", "lora", "parallel_passes")


class EqualSettings:
    """Overrides that give a method the reference's settings, task by task."""

    def __init__(self, grid: Grid, plan: Callable[[Request], Plan]) -> None:
        self.reference = REFERENCE if REFERENCE in grid.methods else grid.methods[0]
        self._grid, self._plan = grid, plan
        self._hypers: dict[tuple[str, str], Hyper | None] = {}

    def of(self, task: str, method: str) -> Overrides:
        """What differs between the method's recipe and the reference's for a task's training."""
        if method == self.reference:
            return ()
        own, reference = self._hyper(task, method), self._hyper(task, self.reference)
        if own is None or reference is None:
            return ()
        settings = asdict(reference)
        return tuple(
            (f"train.{name}", settings[name])
            for name, value in asdict(own).items()
            if name not in OWN and value != settings[name]
        )

    def of_parents(
        self, task_of_position: Mapping[int, str], parents: int, method: str
    ) -> Overrides:
        """What differs, as in `of`, for the parents of a chain, of which there are `parents`.

        task_of_position  position in the chain, from 1, → the parent's task; parents that are no
                          tasks are not in it
        """
        return addressed_by_position(
            {position: self.of(task, method) for position, task in task_of_position.items()},
            parents,
        )

    def _members(self, task: str) -> Overrides:
        """The choice of tasks for a task of several: the source may lack the others."""
        if not tasks.load(task).members:
            return ()
        base = self._grid.base
        settings = (
            *base.overrides,
            *base.parent_overrides,
            *self._grid.of_task.get(task, ()),
            *(pair for cell in self._grid.cells for pair in cell.parent_overrides),
        )
        names = [value for key, value in settings if address_of(key)[1] == "train.tasks"]
        return (("train.tasks", names[-1]),) if names else ()

    def _hyper(self, task: str, method: str) -> Hyper | None:
        """The hyper-parameters that a recipe alone gives; None where the task trains nothing."""
        trained = tasks.load(task).train_from or task
        key = (trained, method)
        if key not in self._hypers:
            request = Request(
                trained,
                method=method,
                overrides=self._members(trained),
                backbone=self._grid.base.backbone,
                data=self._grid.base.data,
                device=self._grid.base.device,
                runs=self._grid.base.runs,
            )
            target = self._plan(request).target
            self._hypers[key] = target.run.hyper if target else None
        return self._hypers[key]
