"""What makes an example unfit, and whether it can still be scored."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_xtl import formats
from adapters_xtl.formats import fault
from adapters_xtl.formats.span import UNANSWERABLE

GOOD: dict[str, dict[str, Any]] = {
    "classify": {"text": "a", "pair": "b", "label": "yes"},
    "choice": {"context": "c", "choices": ["a", "b"], "label": 1},
    "span": {
        "id": "1",
        "context": "née en 1959",
        "question": "q?",
        "answers": {"text": ["1959"], "answer_start": [7]},
    },
    "tag": {"words": ["a", "\u200b"], "tags": ["O", "O"]},
    "retrieve": {"source": "a", "target": "b"},
}
LABELS = {"classify": ("yes", "no"), "tag": ("O", "B")}


def answers(text: Any, start: Any) -> dict[str, Any]:
    return {"answers": {"text": text, "answer_start": start}}


@pytest.mark.parametrize("format", formats.names())
def test_good_examples_have_no_fault(format: str) -> None:
    assert fault(format, GOOD[format], LABELS.get(format, ())) is None


@pytest.mark.parametrize(
    ("format", "changes", "reason", "scorable"),
    [
        ("classify", {"label": None}, "no gold label", False),
        ("classify", {"label": "maybe"}, "unknown label 'maybe'", False),
        ("classify", {"text": None}, "no text", False),
        ("classify", {"text": 3}, "text is no text", False),
        ("classify", {"pair": " \u200b\n"}, "empty pair", True),
        ("classify", {"text": "a\ud800"}, "lone surrogate", False),
        ("choice", {"choices": None}, "no choices", False),
        ("choice", {"choices": ["a"]}, "1 choices", False),
        ("choice", {"choices": ["a"] * 27}, "27 choices", False),
        ("choice", {"choices": ["a", None]}, "no text", False),
        ("choice", {"choices": ["a", ""]}, "empty context or choice", True),
        ("choice", {"label": 2}, "label 2 of 2 choices", False),
        ("choice", {"label": -1}, "label -1", False),
        ("choice", {"label": "1"}, "label '1'", False),
        ("choice", {"label": None}, "no gold label", False),
        ("choice", {"context": "\ud800"}, "lone surrogate", False),
        ("span", {"context": ""}, "empty context", True),
        ("span", {"question": None}, "no question", False),
        ("span", {"answers": None}, "no answers", False),
        ("span", answers("1959", 7), "no answers", False),
        ("span", answers([], []), "no gold answer", False),
        ("span", answers(["1959"], []), "1 answer texts for 0 offsets", False),
        ("span", answers([None], [7]), "an answer is null", False),
        ("span", answers(["1959"], ["7"]), "no text with an offset", False),
        ("span", answers([""], [0]), "empty answer text", True),
        ("span", answers(["1959"], [0]), "does not occur at its offset, but elsewhere", True),
        ("span", answers(["1959"], [-4]), "does not occur at its offset, but elsewhere", True),
        ("span", answers(["ne\u0301e"], [0]), "(it does after NFC)", True),
        ("span", answers(["gone"], [0]), "answer does not occur in the context", True),
        ("tag", {"words": []}, "no words", False),
        ("tag", {"words": None}, "no words", False),
        ("tag", {"words": "ab"}, "no words", False),
        ("tag", {"words": ["a", None]}, "a word is null", False),
        ("tag", {"words": ["a", 1]}, "a word is no text", False),
        ("tag", {"words": ["a", "\ud800"]}, "lone surrogate", False),
        ("tag", {"tags": None}, "no gold tags", False),
        ("tag", {"tags": ["O", None]}, "no gold tags", False),
        ("tag", {"tags": ["O"]}, "2 words but 1 tags", False),
        ("tag", {"tags": ["O", "X"]}, "unknown tag 'X'", False),
        ("retrieve", {"source": ""}, "empty source", True),
        ("retrieve", {"target": None}, "no target", False),
    ],
)
def test_faults(format: str, changes: dict[str, Any], reason: str, scorable: bool) -> None:
    found = fault(format, {**GOOD[format], **changes}, LABELS.get(format, ()))
    assert found is not None and reason in found.reason and found.scorable is scorable


def test_no_answer_is_gold_where_a_question_may_have_none() -> None:
    assert fault("span", {**GOOD["span"], **answers([], [])}, (UNANSWERABLE,)) is None


def test_bucc_has_sentences_and_gold_pairs() -> None:
    assert fault("retrieve", {"part": "source", "id": "s", "sentence": "x"}, ()) is None
    assert fault("retrieve", {"part": "gold", "source_id": "s", "target_id": "t"}, ()) is None
    assert fault("retrieve", {"part": "gold", "source_id": "s", "target_id": None}, ()) is not None
    assert fault("retrieve", {"part": "target", "id": "t", "sentence": ""}, ()) is not None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("format", formats.names())
@given(data=st.data())
def test_any_json_value_in_any_field_is_a_fault_or_fine_but_never_a_crash(
    format: str, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD[format])))
    value = data.draw(junk)
    found = fault(format, {**GOOD[format], name: value}, LABELS.get(format, ()))
    assert found is None or (found.reason and not math.isnan(len(found.reason)))
