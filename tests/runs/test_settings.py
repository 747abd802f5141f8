"""Overrides, recipes and identities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.backbones import Backbone
from adapters_xtl.base.errors import Problems, RequestError, nearest
from adapters_xtl.base.files import canonical
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import (
    Hyper,
    Settings,
    parse_override,
    read_recipe,
    resolve_settings,
)

BACKBONE = Backbone("x", "hub", "a/b", lr={"lora": 1e-3})


def _settings(
    overrides: list[str], recipe: dict[str, Any] | None = None, source: str = "hub"
) -> tuple[Settings, list[str]]:
    problems = Problems()
    found = resolve_settings(
        recipe=recipe or {},
        path=Path("r.toml"),
        method="lora",
        methods=("lora", "bottleneck"),
        method_defaults={"r": 16},
        method_lr=5e-4,
        backbone=BACKBONE,
        source=source,
        overrides=[parse_override(text) for text in overrides],
        flag="--set",
        problems=problems,
    )
    return found, problems.messages


def test_values_are_toml_and_lists_of_tasks_are_short() -> None:
    assert parse_override("train.lr=1e-4") == ("train.lr", 1e-4)
    assert parse_override("method.bias=none") == ("method.bias", "none")
    assert parse_override('method.target_modules=["query","value"]') == (
        "method.target_modules",
        ["query", "value"],
    )
    assert parse_override("train.tasks=mnli, squad1") == ("train.tasks", ["mnli", "squad1"])
    with pytest.raises(RequestError, match="key=value"):
        parse_override("train.lr")


def test_weaker_to_stronger() -> None:
    recipe = {
        "train": {"lr": 2e-4, "epochs": 3, "embedded": {"epochs": 9}, "lora": {"lr": 3e-4}},
        "method": {"lora": {"r": 8}},
    }
    assert _settings([])[0].hyper.lr == 1e-3  # the backbone's own
    assert _settings([], recipe)[0].hyper.lr == 3e-4
    assert _settings([], recipe)[0].hyper.epochs == 3
    assert _settings([], recipe, "embedded")[0].hyper.epochs == 9
    found, problems = _settings(["train.lr=0.5", "method.r=4", "eval.max_examples=7"], recipe)
    assert (found.hyper.lr, found.method, found.eval_max_examples, problems) == (
        0.5,
        {"r": 4},
        7,
        [],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epoch=2", "did you mean 'epochs'"),
        ("train.lr=0", "outside"),
        ("train.lr=2", "outside"),
        ("train.lr=fast", "takes a number"),
        ("train.max_steps=1.5", "whole number"),
        ("train.max_steps=-1", "outside"),
        ("train.batch_size=0", "outside"),
        ("train.dtype=int3", "one of"),
        ("trian.lr=1", "unknown key"),
        ("eval.max_examples=-1", "from 0 on"),
        ("train.batch_size=true", "whole number"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    _, problems = _settings([text])
    assert len(problems) == 1 and message in problems[0]


def test_all_problems_come_at_once() -> None:
    _, problems = _settings(["train.lr=0", "train.epoch=2", "nonsense=1"])
    assert len(problems) == 3


def test_a_recipe_names_its_unknown_tables(tmp_path: Path) -> None:
    _, problems = _settings(
        [], {"trian": {}, "method": {"loar": {}}, "train": {"embeded": {"epochs": 1}}}
    )
    assert [("did you mean" in problem) for problem in problems] == [True, True, True]
    (tmp_path / "bad.toml").write_text("[train]\nlr = = 3\n")
    with pytest.raises(RequestError, match="line 2"):
        read_recipe("bad", tmp_path)


RUN = Run(
    tasks=(("mnli", 1),),
    data={"train": ("a",), "select": ("b",)},
    backbone="f",
    method="lora",
    options={"r": 16},
    compose="",
    bits=32,
    dtype="float32",
    from_layer=0,
    hyper=Hyper(),
    seed=1,
    protocol="clean",
)


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": (("mnli", 2),)},
        {"data": {"train": ("c",), "select": ("b",)}},
        {"backbone": "g"},
        {"method": "full"},
        {"options": {"r": 8}},
        {"compose": "init"},
        {"bits": 8},
        {"dtype": "bfloat16"},
        {"from_layer": 2},
        {"hyper": Hyper(lr=2e-4)},
        {"seed": 2},
        {"protocol": "xtreme"},
        {"parents": ("x",)},
        {"parents": ("x", "y")},
    ],
)
def test_everything_that_decides_the_outcome_is_identity(change: dict[str, Any]) -> None:
    assert replace(RUN, **change).id != RUN.id


def test_identity_is_stable_and_the_order_of_parents_counts() -> None:
    assert RUN.id == replace(RUN, options={"r": 16.0}).id
    assert replace(RUN, parents=("x", "y")).id != replace(RUN, parents=("y", "x")).id
    assert RUN.digest.startswith(RUN.id) and len(RUN.id) == 12


def test_canonical_json() -> None:
    assert (
        canonical({"b": 1.0, "a": [1e-4, None, True, "ü"]}) == '{"a":[0.0001,null,true,"ü"],"b":1}'
    )
    for bad in (float("nan"), {1: 2}, object(), {1, 2}):
        with pytest.raises(TypeError):
            canonical(bad)


def test_nearest() -> None:
    assert nearest("mnIl", ["mnli", "xnli"]) == "; did you mean 'mnli'?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
