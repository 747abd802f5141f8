"""The same epochs, lengths, batches and selection rows for every method of a comparison.

A recipe may give full fine-tuning other settings than the modules. Side by side, such settings
would be compared instead of the methods: so every method takes those of one of them, the reference,
except where the request names the setting itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from adapters_xtl import tasks
from adapters_xtl.methods import REFERENCE
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.studies.cells import Comparison, Overrides

__all__ = ["EqualSettings"]

OWN = ("lr", "optimizer", "dtype", "tasks")  # what each method keeps as its own recipe has it


class EqualSettings:
    """Overrides that give a method the reference's settings, task by task."""

    def __init__(self, comparison: Comparison, plan: Callable[[Request], Plan]) -> None:
        methods = [variant.method for variant in comparison.variants]
        self.reference = REFERENCE if REFERENCE in methods else methods[0]
        self._comparison, self._plan = comparison, plan
        self._hypers: dict[tuple[str, str], Hyper | None] = {}

    def of(self, task: str, method: str) -> Overrides:
        """What differs between the method's recipe and the reference's for a task's training."""
        own, reference = self._hyper(task, method), self._hyper(task, self.reference)
        if own is None or reference is None:
            return ()
        settings = asdict(reference)
        return tuple(
            (f"train.{name}", settings[name])
            for name, value in asdict(own).items()
            if name not in OWN and value != settings[name]
        )

    def of_parents(self, parents: tuple[str, ...], method: str) -> Overrides:
        """The same for parents, which share one set of overrides: () where they would need several
        sets, or where one of them is not a task.
        """
        differences = {self.of(name, method) if name in tasks.names() else () for name in parents}
        return differences.pop() if len(differences) == 1 else ()

    def _hyper(self, task: str, method: str) -> Hyper | None:
        """The hyper-parameters that a recipe alone gives; None where the task trains nothing."""
        trained = tasks.load(task).train_from or task
        key = (trained, method)
        if key not in self._hypers:
            request = Request(
                trained,
                method=method,
                backbone=self._comparison.base.backbone,
                data=self._comparison.base.data,
                device=self._comparison.base.device,
                runs=self._comparison.base.runs,
            )
            target = self._plan(request).target
            self._hypers[key] = target.run.hyper if target else None
        return self._hypers[key]
