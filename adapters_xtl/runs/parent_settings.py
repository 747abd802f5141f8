"""Settings of parents: of all of them, or of one, by its name or its position in the chain.

`train.max_steps` reaches every parent, `mnli:train.max_steps` the parents that `--on` calls mnli,
and `2:train.max_steps` the second one that it names. The narrower address counts: a position before
a name, a name before none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters_xtl.runs.request import Module
from adapters_xtl.runs.settings import OverrideValues

__all__ = ["NamedParent", "address_of", "of_parent", "of_parents_before", "reaches"]


@dataclass(frozen=True)
class NamedParent:
    """A parent of a request: its position in `--on`, from 1, its name there, and its module."""

    position: int
    name: str
    module: Module

    @property
    def trained(self) -> bool:
        """Whether the request trains it, or finds it in the store as if it had."""
        return self.module.stored is None and bool(self.module.run.tasks)


def address_of(key: str) -> tuple[str, str]:
    """`mnli:train.lr` → ("mnli", "train.lr"): the parent that a key names, "" for all of them, and
    the setting.
    """
    address, _, setting = key.rpartition(":")
    return address.strip(), setting.strip()


def reaches(address: str, position: int, name: str) -> bool:
    """Whether an address means the parent at this position, which `--on` calls `name`."""
    return address in ("", name, str(position))


def of_parent(overrides: OverrideValues, position: int, name: str) -> OverrideValues:
    """The settings that reach one parent, without addresses: the last of a key counts."""
    addresses = dict.fromkeys(("", name, str(position)))
    return tuple(
        (setting, value)
        for wanted in addresses
        for key, value in overrides
        for address, setting in (address_of(key),)
        if address == wanted
    )


def of_parents_before(overrides: OverrideValues, names: Sequence[str]) -> OverrideValues:
    """The settings, addresses kept, that reach one of the first parents of a chain, `names`."""
    return tuple(
        (key, value)
        for key, value in overrides
        if any(
            reaches(address_of(key)[0], position, name)
            for position, name in enumerate(names, start=1)
        )
    )
