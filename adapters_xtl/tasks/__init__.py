"""The tasks: one file each, found by listing this directory. The file's stem is the task's name."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from adapters_xtl.errors import RequestError, nearest
from adapters_xtl.spec import Task

__all__ = ["load", "names"]


def names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    found = (path.stem for folder in __path__ for path in Path(folder).glob("*.py"))
    return tuple(sorted(name for name in found if not name.startswith("_")))


@cache
def load(name: str) -> Task:
    """The task `name`. RequestError, with the nearest name, when there is none."""
    if name not in names():
        raise RequestError(f"unknown task '{name}'{nearest(name, names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    task: Task = module.TASK
    return replace(task, name=name, example=getattr(module, "example", dict))
