"""Overrides, recipes and identities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.base.errors import Problems, RequestError, nearest
from adapters_xtl.base.files import canonical
from adapters_xtl.base.numbers import whole
from adapters_xtl.runs.hyper import HYPER_FIELDS, Hyper
from adapters_xtl.runs.recipes import Recipe, read_recipe
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import (
    Defaults,
    Overrides,
    Settings,
    parse_override,
    resolve_settings,
)

DEFAULTS = Defaults("lora", 1e-3, {"r": 16})


def _settings(
    overrides: list[str], recipe: Recipe | None = None, *, embedded: bool = False
) -> tuple[Settings, list[str]]:
    problems = Problems()
    values = tuple(parse_override(text) for text in overrides)
    settings = resolve_settings(
        recipe or Recipe(),
        DEFAULTS,
        Overrides("--set", values),
        embedded=embedded,
        problems=problems,
    )
    return settings, problems.messages


def _recipe(directory: Path, text: str) -> Recipe:
    (directory / "some.toml").write_text(text, encoding="utf-8")
    return read_recipe("some", directory)


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


def test_weaker_to_stronger(tmp_path: Path) -> None:
    recipe = _recipe(
        tmp_path,
        """
        [train]
        lr = 2e-4
        epochs = 3
        lora.lr = 3e-4
        [train.embedded]
        epochs = 9
        lora.warmup = 0.5
        bottleneck.warmup = 0.7
        [method.lora]
        r = 8
        """,
    )
    assert _settings([])[0].hyper.lr == 1e-3
    assert _settings([], recipe)[0].hyper.lr == 3e-4
    assert _settings([], recipe)[0].hyper.epochs == 3
    embedded = _settings([], recipe, embedded=True)[0].hyper
    assert (embedded.epochs, embedded.warmup) == (9, 0.5)
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
        ("train.max_steps=inf", "whole number"),
        ("train.max_steps=nan", "whole number"),
        ("train.max_steps=1e400", "whole number"),
        ("train.max_steps=08", "whole number"),
        ("train.max_steps=٨", "whole number"),
        ("train.max_steps=²", "whole number"),
        ("train.max_steps=" + "9" * 400, "whole number"),
        ("train.max_steps=" + "9" * 5000, "whole number"),
        ("train.lr=" + "9" * 400, "takes a number"),
        ("train.lr=nan", "takes a number"),
        ("train.lr=2026-11-28", "takes a number"),
        ("train.warmup=" + "[" * 900 + "]" * 900, "takes a number"),
        ("train.dtype=" + "x" * 5000, "5,002 characters"),
        ("eval.max_examples=inf", "whole number"),
        ("eval.max_examples=1e400", "whole number"),
        ("method.r=inf", "no infinity"),
        ("method.r=" + "9" * 400, "too large"),
        ("method.r=2026-11-28", "no date"),
        ("method.r={a=[nan]}", "no infinity"),
        ("method.r=\udcff", "no text"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    _, problems = _settings([text])
    assert len(problems) == 1 and message in problems[0] and len(problems[0]) < 300


def test_all_problems_come_at_once() -> None:
    _, problems = _settings(["train.lr=0", "train.epoch=2", "nonsense=1"])
    assert len(problems) == 3


@pytest.mark.parametrize(
    "name", [name for name, item in HYPER_FIELDS.items() if whole(item.default) is not None]
)
@pytest.mark.parametrize(
    "value", ["inf", "-inf", "nan", "1e400", "²", "٣", "03", "9" * 400, "true", "''"]
)
def test_every_number_refuses_what_is_none(name: str, value: str) -> None:
    _, problems = _settings([f"train.{name}={value}"])
    assert len(problems) == 1 and f"train.{name} takes" in problems[0]


def test_a_value_of_several_lines_is_one_text() -> None:
    assert parse_override("train.lr=1\ntrain.epochs=3") == ("train.lr", "1\ntrain.epochs=3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train = 3", ["train is a table", "not 3"]),
        ("[[train]]\nlr = 1", ["train is a table", "a list of tables"]),
        ("[train]\nlora = 3", ["train.lora is a table", "not 3"]),
        ("[train.embedded]\nlora = [1]", ["train.embedded.lora is a table", "a list"]),
        ("[method]\nlora = 3", ["method.lora is a table", "not 3"]),
        ("method = [1]", ["method is a table"]),
        ("[trian]\nlr = 1", ["[trian]", "did you mean 'train'"]),
        ("[method.loar]\nr = 1", ["[method.loar]", "did you mean 'method.lora'"]),
        ("[train.embeded]\nlr = 1", ["[train.embeded]", "did you mean 'train.embedded'"]),
        ("[train.full.embedded]\nlr = 1", ["[train.full.embedded]", "holds no tables"]),
        ("[train.embedded.loar]\nlr = 1", ["[train.embedded.loar]", "train.embedded.lora"]),
        ("[train]\nlr = = 3", ["line 2"]),
        ("train = " + "[" * 2000 + "]" * 2000, ["nested too deeply"]),
        ("[train]\nlr = " + "9" * 5000, ["some.toml"]),
    ],
)
def test_the_form_of_a_recipe_is_checked(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        _recipe(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message and "some.toml" in message and len(message) < 500
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nlr = 2026-11-28", ["some.toml", "train.lr takes a number", "2026-11-28"]),
        ("[train]\nepoch = 3", ["some.toml", "did you mean 'epochs'"]),
        ("[train.full]\nepoch = 3", ["[train.full]", "did you mean 'epochs'"]),
        ("[train.embedded]\nmax_steps = inf", ["[train.embedded]", "takes a whole number"]),
        ("[method.full]\nx = 2026-11-28", ["[method.full]", "method.x", "no date"]),
    ],
)
def test_every_table_of_a_recipe_is_checked(text: str, words: list[str], tmp_path: Path) -> None:
    _, problems = _settings([], _recipe(tmp_path, text))
    assert len(problems) == 1 and all(word in problems[0] for word in words), problems


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
    assert "'xtreme'?" not in nearest("xtreme", ["xtreme", "xtreme-r"]), "never what was typed"
    assert nearest("only", ["only"]) == ""


def test_a_recipe_has_rates_for_the_embedded_encoder_alone(tmp_path: Path) -> None:
    recipe = _recipe(
        tmp_path,
        """
        [train]
        lr = 2e-4
        [train.on-mini]
        bottleneck.lr = 3e-3
        """,
    )
    rates = [
        resolve_settings(
            recipe,
            Defaults(method, 1e-3, {}, backbone),
            Overrides("--set"),
            embedded=False,
            problems=Problems(),
        ).hyper.lr
        for method, backbone in (
            ("bottleneck", "mini"),
            ("lora", "mini"),
            ("bottleneck", "xlmr-large"),
        )
    ]
    assert rates == [3e-3, 2e-4, 2e-4]
    with pytest.raises(RequestError, match=r"train\.on-mini\.loar.*train\.on-mini\.lora"):
        _recipe(tmp_path, "[train.on-mini]\nloar.lr = 1")
