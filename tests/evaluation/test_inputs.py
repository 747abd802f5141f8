"""What a person may give a module, by format: fields, columns, texts, lists, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.cli.commands.json_lines import JsonLines
from adapters_xtl.evaluation.inputs import example_of, examples_of


@pytest.mark.parametrize(
    ("task", "value", "fields"),
    [
        ("mnli", ("a b", "c"), {"text": "a b", "pair": "c"}),
        ("mnli", {"premise": "a", "hypothesis": "c"}, {"text": "a", "pair": "c"}),
        ("mnli", {"id": 7, "text": "a", "pair": "c", "label": "x"}, {"text": "a", "pair": "c"}),
        ("squad1", ["who?", "Ann did"], {"question": "who?", "context": "Ann did"}),
        ("panx", ["Ann", "", "Bern"], {"words": ["Ann", "", "Bern"]}),
        ("csqa", {"context": "c", "choices": ["a", "b"]}, {"context": "c", "choices": ["a", "b"]}),
        ("tatoeba", "a text", {"text": "a text"}),
    ],
)
def test_what_is_understood(task: str, value: Any, fields: dict[str, Any]) -> None:
    example = example_of(tasks.load(task), value)
    assert {key: example[key] for key in example if key != "id"} == fields
    assert example["id"] == ("7" if isinstance(value, dict) and "id" in value else None)


@pytest.mark.parametrize(
    ("task", "value", "token"),
    [
        ("mnli", {"text": "alone"}, "no pair"),
        ("mnli", "alone", "no pair"),
        ("mnli", ("a", "b", "c"), '"text"'),
        ("mnli", 3, "int"),
        ("mnli", ("a", " "), "'pair' is empty"),
        ("mnli", ("a", "\ud800"), "surrogate"),
        ("squad1", "who?", "no question and no context"),
        ("panx", [], "no list of texts"),
        ("panx", ["a", 3], "int"),
        ("csqa", {"context": "c", "choices": ["a"]}, "2 to 26"),
        ("csqa", {"context": "c", "choices": "ab"}, "no list of texts"),
        ("tatoeba", {"sentence": "a"}, "no text"),
        ("mnli", {"id": "\udfff", "text": "a", "pair": "b"}, "'id'"),
    ],
)
def test_what_is_refused_in_one_line(task: str, value: Any, token: str) -> None:
    with pytest.raises(DataError, match=token) as refused:
        example_of(tasks.load(task), value)
    assert "\n" not in str(refused.value)


def test_the_number_of_a_wrong_input_is_named() -> None:
    with pytest.raises(DataError, match="input 1: "):
        examples_of(tasks.load("mnli"), [("a", "b"), ("a",)])


def test_a_file_without_line_ends_is_not_read_into_memory() -> None:
    with open("/dev/zero", "rb") as file, pytest.raises(DataError, match="/dev/zero: a line of"):
        next(JsonLines("/dev/zero", tasks.load("mnli"), True, print).chunks(file))
