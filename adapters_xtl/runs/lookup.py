"""Answers from the store: whether a plan's run is already there. Imports nothing heavy, so an
answer takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl.base.files import read_json
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.store import Store, verify

__all__ = ["Outcome", "from_store", "has"]


@dataclass(frozen=True)
class Outcome:
    """The requested run: its directory and metrics, whether the store had it, and the seconds it
    took now.
    """

    id: str
    path: Path
    reused: bool
    seconds: float
    metrics: dict[str, Any]


def has(module: Module, store: Store) -> Path | None:
    """The finished directory of a module's run, or None."""
    return module.existing or store.find(module.task, module.id)


def from_store(plan: Plan, store: Store) -> Outcome | None:
    """The finished run that answers the plan: the target's own where it scored what is asked, else
    an evaluation.

    MismatchError where its record is not the one that its manifest names.
    """
    path = has(plan.target, store) if plan.inline and plan.target else None
    if path is None or _scored(path) != plan.evaluation.id:
        path = store.find(plan.task, plan.evaluation.id)
    if path is not None:
        verify(path, only=("metrics.json", "provenance.json", "spec.json"))
    return (
        None
        if path is None
        else Outcome(path.name, path, True, 0.0, dict(read_json(path / "metrics.json")))
    )


def _scored(path: Path) -> str:
    """The id of the evaluation that a run's own scores answer; "" for a bundle, which has none."""
    spec = path / "spec.json"
    if not spec.is_file():
        return ""
    verify(path, only=("spec.json",))
    evaluation = read_json(spec)["evaluation"]
    return str(evaluation["id"]) if evaluation else ""
