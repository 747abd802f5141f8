"""What every step of an execution shares, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters_xtl.models.network import Host
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import Store

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """A plan and what carries it out.

    store   where finished runs are found and new ones are written
    host    keeps the backbone in memory between modules and plans
    notify  shows one line of text to the user
    force   train or score the requested run again although the store has it
    """

    plan: Plan
    store: Store
    host: Host
    notify: Callable[[str], None]
    force: bool = False
