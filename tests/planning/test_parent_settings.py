"""Settings of single parents, and a seed of its own for every training of a chain."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import compare
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.remake_command import remake_command
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.seeds import phase_seed
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from tests.finished_runs import QUICK, run_recipe
from tests.planning.test_planner import asked
from tests.studies.test_study_file import grid_of


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return Planner(Store(tmp_path_factory.mktemp("planned") / "runs"))


def modules(planner: Planner, task: str, on: str, *settings: str, **options: Any) -> list[Module]:
    return list(planner.plan(asked(task, on=on, set_parents=list(settings), **options)).modules)


def steps(planner: Planner, on: str, *settings: str, **options: Any) -> list[int]:
    return [
        module.run.hyper.max_steps
        for module in modules(planner, "pawsx", on, *settings, **options)[:-1]
    ]


def test_the_narrower_address_counts_whatever_the_order(planner: Planner) -> None:
    settings = ("2:train.max_steps=7", "mnli:train.max_steps=5", "train.max_steps=3")
    assert steps(planner, "mnli,squad1", *settings[1:]) == [5, 3]
    assert steps(planner, "mnli,squad1", *settings) == [5, 7]
    assert steps(planner, "squad1,mnli", *settings) == [3, 7]
    assert steps(planner, "mnli,mnli", *settings) == [5, 7]
    assert steps(planner, "self,mnli", "self:train.max_steps=4", *settings[1:]) == [4, 5]
    joined = {"compose": "fuse", "method": "bottleneck"}
    assert steps(planner, "mnli,squad1", *settings, **joined) == [5, 7]


def test_settings_of_one_parent_make_the_same_run_as_settings_of_all(planner: Planner) -> None:
    everyone = modules(planner, "pawsx", "mnli,squad1", "train.max_steps=5", method="lora")
    each = modules(
        planner,
        "pawsx",
        "mnli,squad1",
        "mnli:train.max_steps=5",
        "2:train.max_steps=5",
        method="lora",
    )
    assert [module.id for module in each] == [module.id for module in everyone]


def test_tasks_of_a_mixture_are_a_list_behind_an_address_too(planner: Planner) -> None:
    settings = ["multi:train.tasks=mnli,csqa", "squad1:train.max_steps=4"]
    mixed, plain, _ = modules(planner, "pawsx", "multi,squad1", *settings)
    assert sorted(mixed.members) == ["csqa", "mnli"] and list(plain.members) == ["squad1"]


def test_the_options_of_an_untrained_parent_are_its_own(planner: Planner) -> None:
    drawn, trained, _ = modules(
        planner, "pawsx", "random,mnli", "random:method.r=3", "mnli:method.r=5", method="lora"
    )
    assert (drawn.run.options["r"], trained.run.options["r"]) == (3, 5)


@pytest.mark.parametrize(
    ("on", "setting", "named"),
    [
        ("mnli,squad1", "mnly:train.max_steps=3", "'mnli'"),
        ("mnli,squad1", "3:train.max_steps=3", "'3'"),
        ("random,mnli", "random:train.max_steps=3", "'random'"),
        ("mnli,squad1", "mnli:train.max_stepss=3", "max_steps"),
        ("mnli,squad1", "mnli:train.stride=8", "mnli:train.stride"),
        ("mnli", "mnli:eval.merged=true", "--set"),
    ],
)
def test_an_address_that_reaches_nothing_is_refused(
    planner: Planner, on: str, setting: str, named: str
) -> None:
    with pytest.raises(RequestError) as refused:
        modules(planner, "pawsx", on, setting, method="lora")
    assert setting.partition("=")[0].rpartition(":")[2] in str(refused.value)
    assert named in str(refused.value)


def test_parents_score_as_many_rows_as_they_are_set_to(planner: Planner) -> None:
    """The limit reaches what a parent's own training scores; its id stays."""
    limited = modules(planner, "pawsx", "mnli,squad1", "mnli:eval.max_examples=3", method="lora")
    whole = modules(planner, "pawsx", "mnli,squad1", method="lora")
    assert [m.evaluation.limit for m in limited if m.evaluation] == [3, 0, 0]
    assert [m.id for m in limited] == [m.id for m in whole]


def test_a_parent_that_scored_few_rows_is_scored_whole_where_that_is_asked(tmp_path: Path) -> None:
    """Its training is not made again, and its few rows do not answer for all of them."""
    few = (*QUICK, "eval.max_examples=3")
    run_recipe(tmp_path, "pawsx", on="mnli", set_parents=few, method="lora", languages="en")
    (parent,) = (tmp_path / "mnli").iterdir()
    assert read_run(parent).metrics.tasks["mnli"].languages["en"]["n"] == 3
    whole = run_recipe(tmp_path, "mnli", method="lora")
    assert whole["metrics"]["tasks"]["mnli"]["languages"]["en"]["n"] == 420
    trained = read_run(Path(whole["path"])).spec.module
    assert trained is not None and trained.id == parent.name


def test_every_training_of_a_chain_draws_anew(planner: Planner) -> None:
    def seeds(on: str) -> list[int]:
        chain = modules(planner, "pawsx", on, method="lora", compose="init", seed=3, reseed=True)
        return [module.run.seed for module in chain]

    chains = {on: seeds(on) for on in ("mnli,squad1", "squad1,mnli", "mnli,mnli", "mnli", "")}
    drawn = [seed for chain in chains.values() for seed in chain]
    shared = chains["mnli,squad1"][0]
    assert chains["mnli,mnli"][0] == chains["mnli"][0] == shared, "one run of mnli for all"
    assert len(set(drawn)) == len(drawn) - 2, "and nothing else is drawn alike"
    digest = hashlib.sha256(b"3 mnli>squad1").hexdigest()
    assert chains["mnli,squad1"][1] == int(digest[:8], 16) == phase_seed(3, ["mnli", "squad1"])


def test_without_reseeding_seeds_and_ids_are_as_ever(planner: Planner) -> None:
    first = planner.plan(asked("pawsx", on="mnli,random", method="lora", seed=3))
    assert [module.run.seed for module in first.modules] == [3, 3, 3]
    assert [module.id for module in first.modules] == [
        module.id
        for module in planner.plan(
            asked("pawsx", on="mnli,random", method="lora", seed=3, reseed=False)
        ).modules
    ]


def test_tables_of_a_study_file_address_parents(tmp_path: Path) -> None:
    lines = """
    seeds = [1]
    reseed = true
    axes.task = "pawsx"
    axes.on = ["none", "mnli>squad1", "squad1"]
    axes.method = ["lora", "full"]
    [set-parents]
    train.max_steps = 2
    mnli.train.max_steps = 3
    lora.2.train.max_steps = 4
    [tasks.squad1]
    train.max_steps = 6
    """
    plans = CellPlans(grid_of(lines, tmp_path))
    planned = {
        (cell.chain, cell.variant.method): [
            module.run.hyper.max_steps for module in plans.plan(plans.request(cell, 1)).modules[:-1]
        ]
        for cell in plans.cells
    }
    chain = ("mnli", "squad1")
    assert planned[(chain, "lora")] == [3, 6], "of the address 2, the last setting counts"
    assert planned[(chain, "full")] == [3, 6]
    assert planned[(("squad1",), "full")] == [6]
    wrong = grid_of("axes.on = 'none,mnli'", tmp_path, "set-parents.squad1:train.max_steps=3")
    with pytest.raises(RequestError, match="no chain has a parent 'squad1'"):
        _ = CellPlans(wrong).cells


def test_the_flags_of_a_comparison_address_parents(tmp_path: Path) -> None:
    grid = compare.comparison(
        task="pawsx",
        on=["mnli,squad1"],
        methods_="lora,bottleneck",
        bits="auto",
        seeds="1",
        tune=[],
        tune_seeds="",
        set_=[],
        set_parents=["squad1:train.max_steps=4", "lora:1:train.max_steps=9", "train.max_steps=2"],
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(tmp_path),
    )
    plans = CellPlans(grid)
    planned = [
        [module.run.hyper.max_steps for module in plans.plan(plans.request(cell, 1)).modules[:-1]]
        for cell in plans.cells
    ]
    assert planned == [[9, 4], [2, 4]]


def test_a_parent_is_made_again_with_the_settings_that_reached_it(tmp_path: Path) -> None:
    settings = (*QUICK, "1:train.lr=2e-3", "squad1:train.max_steps=2")
    payload = run_recipe(
        tmp_path, "csqa", on="mnli,squad1", set_parents=settings, method="lora", reseed=True
    )
    child = read_run(Path(payload["path"])).spec
    for parent in child.parents:
        spec = read_run(tmp_path / parent.task / parent.id).spec
        words = shlex.split(remake_command(spec, str(tmp_path)))
        flags = dict(zip(words[3::2], words[4::2], strict=False))
        again = Planner(Store(tmp_path)).plan(
            asked(
                words[2],
                on=flags.get("--on", ""),
                method="lora",
                reseed="--reseed" in words,
                set_=[words[place + 1] for place, word in enumerate(words) if word == "--set"],
                set_parents=[
                    words[place + 1] for place, word in enumerate(words) if word == "--set-parents"
                ],
            )
        )
        assert again.target is not None and again.target.id == parent.id
    assert (
        "reseed"
        not in read_run(Path(run_recipe(tmp_path, "mnli", method="lora")["path"])).spec.request
    )
