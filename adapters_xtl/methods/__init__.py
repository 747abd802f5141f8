"""Methods: how parameters are added to the frozen backbone, one file each, found by listing.

A method's module imports its library only inside its functions: naming and planning a run must not
cost seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from adapters_xtl.base.errors import RequestError, nearest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["COMPOSES", "Link", "Method", "load", "names"]

COMPOSES = ("stack", "init", "fuse")


@dataclass(frozen=True)
class Link:
    """One module of a stack. `directory`: where it was saved; None for a fresh one. `start`: a
    fresh one's weights.
    """

    name: str
    directory: Path | None = None
    start: Path | None = None


class Method(Protocol):
    """What a method's module provides.

    LR        default peak learning rate
    DEFAULTS  default options, part of a run's identity
    COMPOSES  compose → how a child meets its parents ("sequential", "additive", "copy"), for tables
              and records

    A method may also have `detach(encoder)`, the bare frozen encoder with every module taken off
    (then several stacks share one backbone in memory); with "fuse" in COMPOSES, its `check`,
    `attach` and `footprint` take `fuse=True` too, and `penalty(encoder)` is added to the loss; and
    `randomize(encoder)`, which moves a fresh module off a starting point that computes nothing
    (`--on random`).
    """

    LR: float
    DEFAULTS: Mapping[str, Any]
    COMPOSES: Mapping[str, str]

    def check(self, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the options, held against the library's own configuration class; []
        when nothing is.
        """

    def attach(
        self,
        encoder: nn.Module,
        chain: Sequence[Link],
        options: Mapping[str, Any],
        *,
        from_layer: int = 0,
        train: bool = True,
    ) -> nn.Module:
        """The encoder with every link active, in order. With `train` the last link's parameters,
        and only they, train.

        The options are the fresh link's; a saved one brings its own. RunError when a layer did not
        get its module.
        """

    def footprint(
        self, encoder: nn.Module, options: Mapping[str, Any], *, from_layer: int = 0
    ) -> int | None:
        """Number of parameters one fresh module adds to the bare encoder; None where no formula
        holds.
        """

    def save(self, encoder: nn.Module, name: str, directory: Path) -> None:
        """Writes module `name` as the library itself writes it, safetensors only."""


def names() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    found = (path.stem for folder in __path__ for path in Path(folder).glob("*.py"))
    return tuple(sorted(name for name in found if not name.startswith("_")))


@cache
def load(name: str) -> Method:
    """The method `name`. RequestError, with the nearest name, when there is none."""
    if name not in names():
        raise RequestError(f"unknown method '{name}'{nearest(name, names())}")
    return cast(Method, importlib.import_module(f"{__name__}.{name}"))
