"""Whether the steps and examples of a training reach all that it is to train on."""

from __future__ import annotations

from adapters_xtl.base.errors import Problems
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.tasks import Task

__all__ = ["check_steps"]


def check_steps(task: Task, hyper: Hyper, problems: Problems) -> None:
    """With `max_steps`, every stage of an ordered task and every task of a mixture takes a step at
    least; with `max_examples`, every stage an example.
    """
    steps, mixed = hyper.max_steps, len(hyper.tasks or task.members)
    if 0 < steps < mixed:
        problems.add(
            f"train.max_steps={steps}: '{task.name}' mixes {mixed} tasks, each of which takes a"
            " step at least; set more steps, or name fewer tasks in train.tasks"
        )
    stages = len(task.train) if task.ordered else 1
    for key in ("max_steps", "max_examples"):
        value = getattr(hyper, key)
        if 0 < value < stages:
            problems.add(
                f"train.{key}={value}: '{task.name}' trains in {stages} stages, one source after"
                " the other, and shares them among its stages"
            )
