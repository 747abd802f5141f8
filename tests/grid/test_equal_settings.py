"""Methods are compared at the same settings, whatever their recipes say of them one by one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.cli.commands import compare
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.runs.request import Module

OWN = {"lr", "optimizer", "dtype", "tasks"}


def planned(runs: Path, task: str, *settings: str, **options: Any) -> list[tuple[Module, ...]]:
    """The modules of every cell of a comparison, planned for seed 1."""
    flags: dict[str, Any] = {
        "on": ("none",),
        "methods_": "full,bottleneck,lora",
        "bits": "auto",
        "seeds": "1",
        "tune": (),
        "tune_seeds": "",
        "backbone": "tiny",
        "data": "embedded",
        "device": "cpu",
        "set_parents": (),
        **options,
    }
    plans = CellPlans(compare.comparison(task=task, set_=settings, runs=str(runs), **flags))
    return [tuple(plans.plan(plans.request(cell, 1)).modules) for cell in plans.cells]


def differing(modules: list[Module]) -> set[str]:
    first, *others = (asdict(module.run.hyper) for module in modules)
    return {name for other in others for name in first if other[name] != first[name]} - OWN


@pytest.mark.parametrize("task", ["panx", "squad1", "pawsx", "xquad"])
def test_every_method_gets_full_fine_tunings_settings(task: str, runs: Path) -> None:
    cells = planned(runs, task)
    assert [modules[-1].run.method for modules in cells] == ["full", "bottleneck", "lora"]
    assert not differing([modules[-1] for modules in cells])


def test_without_full_fine_tuning_the_first_method_leads(runs: Path) -> None:
    full, *_ = planned(runs, "panx")
    lora, bottleneck = planned(runs, "panx", methods_="lora,bottleneck")
    assert not differing([lora[-1], bottleneck[-1]])
    assert "max_length" in differing([full[-1], lora[-1]]), "the recipes differ by themselves"


def test_parents_are_equal_too(runs: Path) -> None:
    cells = planned(runs, "panx", on=("mnli", "self"))
    for name in ("mnli", "panx"):
        parents = [modules[0] for modules in cells if modules[0].task == name]
        assert len(parents) == 3 and not differing(parents)


def test_what_is_set_for_one_method_stands(runs: Path) -> None:
    cells = planned(runs, "panx", "lora:train.max_length=64", "train.epochs=1")
    assert [modules[-1].run.hyper.max_length for modules in cells] == [256, 256, 64]
    assert [modules[-1].run.hyper.epochs for modules in cells] == [1, 1, 1]
