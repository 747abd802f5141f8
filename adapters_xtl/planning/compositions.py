"""How a child meets its parents, and the names of parents that are no tasks."""

from __future__ import annotations

from adapters_xtl import methods
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.methods import COMPOSES
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.tasks import Task

__all__ = ["RANDOM", "SELF", "SUM", "borrows_parent", "composition"]

# parents that are no tasks: an untrained module; the requested task itself
RANDOM, SELF = "random", "self"
SUM = "sum"  # the composition, and the name of the module that is the sum of parents


def composition(request: Request, problems: Problems) -> str:
    """How a child meets its parents: `--compose`, or the first that the method can."""
    if request.compose is not None and request.compose not in COMPOSES:
        problems.add(
            f"--compose: unknown '{clipped(request.compose)}'{nearest(request.compose, COMPOSES)}"
        )
        return COMPOSES[0]
    if request.method not in methods.names():
        return request.compose or COMPOSES[0]
    method = methods.load(request.method)
    if RANDOM in request.on and not method.has_random_modules:
        problems.add(
            f"--on random: not possible for method {request.method}: its untrained module is the"
            " backbone as it is"
        )
    possible = method.compositions
    usual = next(name for name in COMPOSES if name in possible)
    compose = request.compose or usual
    if compose not in possible:
        problems.add(
            f"--compose {compose}: not possible for method {request.method}; it takes"
            f" {', '.join(possible)}"
        )
        return usual
    return compose


def borrows_parent(task: Task, request: Request, chain: tuple[Module, ...]) -> bool:
    """Whether the last parent is the very module that the task is scored with."""
    return bool(chain) and chain[-1].task == task.train_from and SELF not in request.on
