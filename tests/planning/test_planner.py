"""The planner: what a plan holds, what it looks up once, what it refuses, and how fast it is."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, MismatchError, Problems, RequestError, RunError
from adapters_xtl.cli.commands.recipe import request
from adapters_xtl.planning.memory_plan import plan_memory
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.hyper import COMPILED_FROM, Hyper
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.store import Store


def asked(task: str, **options: Any) -> Request:
    given = {"on": "", "set_": [], "set_parents": [], "backbone": "tiny", "data": "embedded"}
    return request(**{**given, "task": task, "device": "cpu", **options})


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return Planner(Store(tmp_path / "runs"))


def test_every_module_carries_what_it_is_scored_on(planner: Planner) -> None:
    planned = planner.plan(asked("xquad", on="mnli,random", languages="de"))
    parent, control, target = planned.modules
    assert parent.evaluation and list(parent.evaluation.files) == ["mnli"]
    assert control.evaluation is None, "an untrained module is not scored"
    assert target.task == "squad1" and target.evaluation
    assert set(target.evaluation.files["squad1"]) == {"en"}
    assert set(planned.evaluation.files["xquad"]) == {"de"}
    inline = planner.plan(asked("xnli", languages="de,fr"))
    assert inline.target and inline.target.evaluation is inline.evaluation


def test_a_request_is_planned_once(planner: Planner) -> None:
    first = planner.plan(asked("xnli", on="mnli"))
    assert planner.plan(asked("xnli", on="mnli")) is first
    other = planner.plan(asked("xnli", on="mnli", seed=2))
    assert other is not first and other.source is first.source, "one source for all plans"
    assert other.target and first.target and other.target.id != first.target.id


def test_the_order_of_requests_changes_no_id(tmp_path: Path) -> None:
    wanted = [
        asked("xnli", on="mnli"),
        asked("xnli", on="mnli", method="lora"),
        asked("pawsx", on="mnli", compose="init"),
        asked("multi"),
        asked("tatoeba"),
    ]
    alone = [_ids(Planner(Store(tmp_path)), each) for each in wanted]
    together = Planner(Store(tmp_path))
    assert [_ids(together, each) for each in reversed(wanted)] == alone[::-1]


def _ids(planner: Planner, wanted: Request) -> list[str]:
    planned = planner.plan(wanted)
    return [*(module.id for module in planned.modules), planned.evaluation.id]


def test_a_plan_says_whether_layers_are_compiled(planner: Planner) -> None:
    def lines(*settings: str, **options: Any) -> list[str]:
        given = [f"train.{setting}" for setting in settings]
        notes = planner.plan(asked("pawsx", set_=given, **options)).notes
        return [note.removeprefix("layers compiled for ") for note in notes if "compiled" in note]

    assert lines() == [] == lines("max_steps=5000")
    assert lines("compiled=on", on="mnli") == ["mnli>pawsx: yes"], "of the parent nothing is said"
    for steps in ("epochs=3", f"max_steps={COMPILED_FROM}"):
        (line,) = lines("compiled=auto", steps)
        assert line.startswith("pawsx: no, ") and "on a CPU" in line
    auto = Hyper(compiled="auto")
    assert "5 steps are too few" in auto.against_compiling("cuda", 5)
    assert not auto.against_compiling("cuda", COMPILED_FROM)
    (budget,) = [
        note
        for note in planner.plan(
            asked("pawsx", set_=["train.compiled=on"], memory=4.0, bits="32")
        ).notes
        if note.startswith("memory for")
    ]
    assert budget.endswith("without what compiling adds")
    with pytest.raises(RequestError, match=r"train\.compiled is one of off, auto, on"):
        lines("compiled=true")


def test_problems_of_flags_and_of_the_plan_come_together(planner: Planner) -> None:
    problems = Problems()
    wrong = request(
        task="xnli",
        on="mnly",
        set_=["nonsense", "train.lr=inf"],
        set_parents=["=3"],
        languages="zz",
        bits="08",
        backbone="tiny",
        problems=problems,
    )
    with pytest.raises(RequestError) as caught:
        planner.plan(wrong, problems)
    words = ("'nonsense'", "'=3'", "'mnli'?", "'zz'", "--bits 08")
    assert all(word in str(caught.value) for word in words), caught.value
    with pytest.raises(RequestError, match="not inf"):
        planner.plan(replace(wrong, on=(), languages=None, bits="auto"))


def test_each_task_of_a_mixture_takes_a_step(planner: Planner) -> None:
    chosen = ["train.tasks=mnli,qqp,csqa", "train.max_steps=2"]
    with pytest.raises(RequestError, match=r"train\.max_steps=2: 'multi' mixes 3 tasks"):
        planner.plan(asked("multi", set_=chosen))
    assert planner.plan(asked("multi", set_=[chosen[0], "train.max_steps=3"])).target


def test_problems_keep_their_kind() -> None:
    for kinds, expected in (
        ([MismatchError, MismatchError], MismatchError),
        ([DataError], DataError),
        ([DataError, RunError], RequestError),
        ([RunError], RunError),
    ):
        problems = Problems()
        for kind in kinds:
            with problems.catching():
                raise kind(f"{kind.__name__}\nsecond line")
        with pytest.raises(expected) as caught:
            problems.raise_if_any()
        assert type(caught.value) is expected


def test_a_module_only_started_from_is_not_below(planner: Planner) -> None:
    """bare > a, b started as a copy of a, c on b: below c is b alone, and below b nothing."""
    copied = planner.plan(asked("pawsx", on="mnli", compose="init")).target
    assert copied and copied.below == ()
    child = Module("xnli", replace(copied.run, compose="stack"), (*copied.parents, copied))
    assert child.below == (copied,)
    stacked = planner.plan(asked("xnli", on="mnli,pawsx")).target
    assert stacked and [module.task for module in stacked.below] == ["mnli", "pawsx"]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("xnli", {"on": "mnli"}),
        ("xnli", {"on": "mnli,squad1", "method": "lora"}),
        ("pawsx", {"on": "qqp,csqa", "compose": "fuse"}),
        ("pawsx", {"on": "qqp", "compose": "init"}),
        ("panx", {"method": "full"}),
        ("xquad", {"on": "self"}),
        ("multi", {"set_": ["train.tasks=mnli,hellaswag", "train.batch_size=4"]}),
        ("udpos", {"on": "random"}),
    ],
)
def test_a_memory_plan_is_that_of_the_recipe(
    task: str, options: dict[str, Any], planner: Planner
) -> None:
    """`xtl plan` and `xtl recipe --memory` choose the same way for the same trainings."""
    wanted = asked(task, memory=0.5, **options)
    fits, planned = plan_memory(wanted).fits, planner.plan(wanted)
    assert [str(fit) for fit in fits.values()] == [str(fit) for fit in planned.fits.values()]
    assert [fit.job.parents for fit in fits.values()] == [
        fit.job.parents for fit in planned.fits.values()
    ]


def test_a_device_that_is_not_here_is_refused_but_can_be_planned_for() -> None:
    with pytest.raises(RequestError, match="no CUDA device is here"):
        Planner(Store(Path("runs"))).plan(asked("mnli", device="cuda"))
    assert plan_memory(asked("mnli", device="cuda", memory=8.0)).device == "cuda"


def test_a_grid_of_four_hundred_cells_is_planned_quickly(planner: Planner) -> None:
    targets = [name for name in tasks.names() if tasks.load(name).train][:5]
    started = time.process_time()
    for task in targets:
        for method in ("bottleneck", "lora", "full"):
            for parent in ("", "mnli", "squad1"):
                for seed in range(9):
                    planner.plan(asked(task, on=parent, method=method, seed=seed))
    assert time.process_time() - started < 20
    assert len(targets) == 5, "405 cells"


@pytest.mark.parametrize(
    ("options", "set_", "lora", "budget"),
    [
        ({"method": "lora"}, [], "fused", 2048),
        ({"method": "lora"}, ["train.batch_size=8"], "fused", 0),  # 8 × 128 tokens: one pass
        ({"method": "lora", "bits": "8"}, [], "peft", 2048),
        ({"method": "lora"}, ["method.use_dora=true"], "peft", 2048),
        ({"method": "lora"}, ["train.lora=peft", "train.token_budget=0"], "peft", 0),
        ({"method": "bottleneck"}, [], "peft", 2048),
    ],
)
def test_a_cpu_has_the_faster_settings_where_they_apply(
    planner: Planner, options: dict[str, Any], set_: list[str], lora: str, budget: int
) -> None:
    target = planner.plan(asked("qqp", set_=["train.max_length=128", *set_], **options)).target
    assert target is not None
    hyper = target.run.hyper
    assert (hyper.dropout_masks, hyper.attention) == ("bytes", "eager")
    assert (hyper.lora, hyper.token_budget) == (lora, budget)


@pytest.mark.parametrize(
    ("task", "options", "set_", "passes", "last"),
    [
        ("qqp", {"method": "lora"}, [], 2, "first"),
        ("qqp", {"method": "full"}, [], 1, "first"),
        ("qqp", {"method": "lora", "bits": "8"}, [], 1, "first"),
        ("qqp", {"method": "lora"}, ["train.dropout_masks=torch"], 1, "first"),
        ("qqp", {"method": "lora"}, ["train.batch_size=1"], 1, "first"),
        ("qqp", {"method": "lora"}, ["train.compiled=on", "train.last_layer=all"], 1, "all"),
        ("qqp", {"method": "bottleneck"}, ["train.parallel_passes=4"], 4, "first"),
        ("qqp", {"method": "bottleneck"}, ["method.use_gating=true"], 2, "all"),
        ("panx", {"method": "lora"}, [], 2, "all"),
        ("squad1", {"method": "lora"}, [], 2, "all"),
        ("multi", {"method": "lora"}, ["train.tasks=mnli,csqa"], 2, "first"),
        ("multi", {"method": "lora"}, ["train.tasks=mnli,squad1"], 2, "all"),
    ],
)
def test_a_cpu_has_parallel_passes_and_a_short_last_layer_where_they_apply(
    planner: Planner, task: str, options: dict[str, Any], set_: list[str], passes: int, last: str
) -> None:
    target = planner.plan(asked(task, set_=set_, **options)).target
    assert target is not None
    assert (target.run.hyper.parallel_passes, target.run.hyper.last_layer) == (passes, last)
