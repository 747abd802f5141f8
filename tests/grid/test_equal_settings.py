"""Methods are compared at the same settings, whatever their recipes say of them one by one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.cli.commands import compare
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.runs import settings
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.recipes import read_recipe
from adapters_xtl.runs.request import Module

OWN = {"lr", "optimizer", "dtype", "tasks", "lora", "parallel_passes"}


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


def test_parents_of_a_chain_are_equal_each_to_its_own_task(runs: Path) -> None:
    """MNLI's and SQuAD's recipes give full fine-tuning different settings."""
    chain = {"on": ("mnli>squad1",), "methods_": "lora,bottleneck,full"}
    lora, bottleneck, _ = planned(runs, "panx", **chain)
    alone = {name: planned(runs, name)[0][-1] for name in ("mnli", "squad1")}
    for cell in (lora, bottleneck):
        assert [module.task for module in cell[:-1]] == ["mnli", "squad1"]
        for module in cell[:-1]:
            assert alone[module.task].run.method == "full"
            assert not differing([alone[module.task], module]), module.task
    lora, *_ = planned(runs, "panx", **chain, set_parents=("train.max_length=64",))
    assert [module.run.hyper.max_length for module in lora[:-1]] == [64, 64]


def test_what_is_set_for_one_method_stands(runs: Path) -> None:
    cells = planned(runs, "panx", "lora:train.max_length=64", "train.epochs=1")
    assert [modules[-1].run.hyper.max_length for modules in cells] == [256, 256, 64]
    assert [modules[-1].run.hyper.epochs for modules in cells] == [1, 1, 1]


PAPER = {  # learning rate, batch, epochs, longest input: Phang et al. 2020, the first author's code
    "mnli": (1e-5, 32, 2, 256),
    "xnli": (1e-5, 32, 2, 256),
    "pawsx": (1e-5, 32, 5, 256),
    "udpos": (1e-5, 32, 10, 256),
    "panx": (1e-5, 32, 10, 256),
    "squad1": (1e-5, 16, 2, 384),
    "squad2": (1e-5, 16, 2, 384),
    "tydiqa": (1e-5, 16, 2, 384),
}


@pytest.mark.parametrize("name", [name for name in tasks.names() if read_recipe(name).path])
@pytest.mark.parametrize("backbone", ["xlmr-large", "xlmr-base"])
def test_full_fine_tuning_has_the_papers_settings(name: str, backbone: str) -> None:
    recipe = read_recipe(name)
    problems = Problems()
    full = methods.load("full")

    def hyper(source: str) -> Hyper:
        return settings.resolve_settings(
            recipe,
            settings.Defaults("full", full.rate_on(backbone), {}),
            settings.Overrides("--set"),
            embedded=source == "embedded",
            problems=problems,
        ).hyper

    found = hyper("hub")
    assert not problems.messages
    assert (found.lr, found.warmup, found.eval_every, found.patience, found.select_examples) == (
        1e-5,
        0.1,
        1000,
        30,
        500,
    )
    assert found.max_length >= 256 and found.stride == 128
    if name in PAPER:
        assert (found.lr, found.batch_size, found.epochs, found.max_length) == PAPER[name]
    for source, values in tasks.load(name).published.items():
        if source.startswith("Phang"):
            assert {key: getattr(found, key) for key in values} == dict(values), source
    assert hyper("embedded").eval_every < 100, "a thousand steps are more than the sample rows give"
