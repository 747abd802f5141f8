"""What is compared, as frozen data: a cell for every task, method with its bits, and chain of
parents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl.runs.request import Request

__all__ = ["Cell", "Comparison", "Override", "Overrides", "Tuning", "Variant"]

Override = tuple[str, Any]
Overrides = tuple[Override, ...]


@dataclass(frozen=True)
class Variant:
    """One method at one precision of the frozen weights, both as asked."""

    method: str
    bits: str = "auto"


@dataclass(frozen=True)
class Tuning:
    """Method → its trials, each a group of overrides; every method has as many. `seeds` are none of
    the reported ones.
    """

    trials: Mapping[str, tuple[Overrides, ...]]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """What is compared. `base` holds what all runs share; its task, method, bits, parents and seed
    mean nothing.
    """

    tasks: tuple[str, ...]
    variants: tuple[Variant, ...]
    chains: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    base: Request
    tuning: Tuning | None = None
    own: Mapping[str, Overrides] = field(default_factory=dict)  # method → what is set for it alone
    own_parents: Mapping[str, Overrides] = field(
        default_factory=dict
    )  # the same for its parents' runs
    skip_lacking: bool = (
        False  # tasks that the source lacks are left out, and named, instead of refused
    )


@dataclass(frozen=True)
class Cell:
    """One task with one variant on one chain of parents. `trains`: whether a module of its own is
    trained for it.
    """

    task: str
    variant: Variant
    chain: tuple[str, ...]
    trains: bool = False
    bare: bool = False  # nothing is trained at all: the backbone itself is scored
    # the backbone itself, or a module that was trained before, is scored: no seed changes it
    finished_module: bool = False

    def __str__(self) -> str:
        bits = "" if self.variant.bits == "auto" else f" {self.variant.bits}-bit"
        method = "bare backbone" if self.bare else self.variant.method
        on = f" on {'>'.join(self.chain)}" if self.chain else ""
        return f"{self.task}, {method}{bits}{on}"
