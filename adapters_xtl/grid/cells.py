"""The grid of a study as frozen data: its cells, and the settings that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl.engines.analysis import Analysis
from adapters_xtl.runs.parent_settings import address_of
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
    languages, split what is scored, where the study decides that cell by cell; None: as the grid
                     has it
    from_layer       the lowest layer with a module, where the study decides that cell by cell
    ineffective      settings of the grid that mean nothing for its own training
    analysis         what is computed of the encoder of each of its runs, besides their scores
    retained         nothing is trained for it: what its parents leave is scored, with the head of
                     the one that is a module of its task, on that task's usual rows whatever the
                     grid's languages and split
    partner          the point of the cell that this one is compared with alone: where the grid
                     skips that one, it skips this one too
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
    languages: str | None = None
    split: str | None = None
    from_layer: int | None = None
    ineffective: tuple[str, ...] = ()
    analysis: Analysis | None = None
    compose: str | None = None
    retained: bool = False
    partner: tuple[tuple[str, str], ...] = ()
    trains: bool = False
    bare: bool = False
    finished_module: bool = False

    def __str__(self) -> str:
        bits = "" if self.variant.bits == "auto" else f" {self.variant.bits}-bit"
        method = "bare backbone" if self.bare else self.variant.method
        task = f"{self.task} retained" if self.retained else self.task
        compose = f" ({self.compose})" if self.compose and len(self.chain) > 1 else ""
        on = f" on {'>'.join(self.chain)}{compose}" if self.chain else ""
        own = "".join(f", {_setting_text(pair)}" for pair in self.overrides)
        texts = dict.fromkeys(map(self._parents_text, self.parent_overrides))
        parents = "".join(f", {text}" for text in texts)
        own = f", from layer {self.from_layer}{own}" if self.from_layer else own
        scored = f", scored in {self.languages}" if self.languages else ""
        return f"{task}, {method}{bits}{on}{own}{parents}{scored}"

    def _parents_text(self, override: Override) -> str:
        """A setting of parents in words: "parents' max_steps 20", of one "mnli's max_steps 20"."""
        address, setting = address_of(override[0])
        name = self.chain[int(address) - 1] if address.isdigit() else address
        whose = f"{name}'s" if name else "parents'"
        return f"{whose} {_setting_text((setting, override[1]))}"


def _setting_text(override: Override) -> str:
    """A setting in words: "max_steps 20", "languages zh,ar"."""
    key, value = override
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f"{key.partition('.')[2]} {text}"


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
