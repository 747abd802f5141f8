"""The grid of a study as frozen data: its cells, and the settings that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl.runs.request import Request

__all__ = ["Axis", "Cell", "Grid", "Override", "Overrides", "Tuning", "Variant"]

Override = tuple[str, Any]
Overrides = tuple[Override, ...]


@dataclass(frozen=True)
class Variant:
    """One method at one precision of the frozen weights, both as requested."""

    method: str
    bits: str = "auto"

    def __str__(self) -> str:
        return self.method if self.bits == "auto" else f"{self.method}@{self.bits}"


@dataclass(frozen=True)
class Tuning:
    """Method → its trials, each a group of overrides; every method has as many. `seeds` are none of
    the reported ones.
    """

    trials: Mapping[str, tuple[Overrides, ...]]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One dimension of a grid, with its values as tables show them."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One task with one variant on one chain of parents.

    point            axis → value: where the cell stands in its grid
    overrides        settings of this cell's own training alone
    parent_overrides  settings of its parents' trainings, which `runs.parent_settings` addresses
    compose          how its modules meet; None: as the grid has it
    retained         nothing is trained for it: what its parents leave is scored, with the head of
                     the one that is a module of its task, on that task's usual rows whatever the
                     grid's languages and split
    trains           whether a module of its own is trained for it
    bare             nothing is trained at all: the backbone itself is scored
    finished_module  the backbone itself, or a module that was trained before, is scored: no seed
                     changes it
    """

    task: str
    variant: Variant
    chain: tuple[str, ...]
    point: tuple[tuple[str, str], ...] = ()
    overrides: Overrides = ()
    parent_overrides: Overrides = ()
    compose: str | None = None
    retained: bool = False
    trains: bool = False
    bare: bool = False
    finished_module: bool = False

    def __str__(self) -> str:
        bits = "" if self.variant.bits == "auto" else f" {self.variant.bits}-bit"
        method = "bare backbone" if self.bare else self.variant.method
        on = f" on {'>'.join(self.chain)}" if self.chain else ""
        own = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in self.overrides)
        return f"{self.task}, {method}{bits}{on}{', ' if own else ''}{own}"


@dataclass(frozen=True)
class Grid:
    """The cells of a study and what they share.

    base          what all runs share; its task, method, bits, parents and seed mean nothing
    own           method → settings of that method's trainings alone
    own_parents   the same for its parents' trainings
    of_task       task → settings of that task's trainings alone, as a parent too
    skip_lacking  tasks and parents that the source lacks are left out, and named, instead of
                  refused
    """

    study: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    base: Request
    tuning: Tuning | None = None
    own: Mapping[str, Overrides] = field(default_factory=dict)
    own_parents: Mapping[str, Overrides] = field(default_factory=dict)
    of_task: Mapping[str, Overrides] = field(default_factory=dict)
    skip_lacking: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.task for cell in self.cells))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.variant.method for cell in self.cells))
