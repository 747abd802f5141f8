"""Whatever the text: encode, collate, outputs and decode never fail, one prediction an example, one
tag a word.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters_xtl import formats
from adapters_xtl.backbones import loading, registry
from adapters_xtl.formats import IGNORED, Item, Lengths, Tokenizer, span, tag
from adapters_xtl.models.network import on_device

ODD = [
    "\u200b",
    "\u200d",
    "\u200e",
    "\ufeff",
    "\u00ad",
    "\u0301",
    "e\u0301",
    "é",
    "ﬁ",
    "½",
    "ﷺ",
    "㍍",
    "ＡＢ",
    "ก\u0e33",
    "क्\u200dष",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\x00",
    "\n",
    "\u00a0",
    "\u3000",
    "▁",
    "</s>",
    "<pad>",
    "<mask>",
    "1959년",
    "日本語",
    "\ud800",
]
texts = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from(ODD), st.just(" ")), max_size=25
).map("".join)
lengths = st.builds(Lengths, st.integers(8, 48), st.integers(0, 60))
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return loading.tokenizer(registry.NAMED["mini"])


def through(
    format: str,
    examples: list[dict[str, Any]],
    labels: tuple[str, ...],
    tokenizer: Tokenizer,
    sizes: Lengths,
) -> tuple[list[Item], list[dict[str, Any]]]:
    """Items and predictions of a random head over random states; what every format promises is
    asserted.
    """
    module = formats.load(format)
    items = module.encode(examples, labels, tokenizer, sizes, train=False)
    head: Any = module.head(8, labels, 0.1)
    found: list[np.ndarray] = []
    for start in range(0, len(items), 7):
        some = items[start : start + 7]
        batch = on_device(module.collate(some, tokenizer, 8), "cpu")
        assert batch["input_ids"].shape[1] % 8 == 0
        outputs = head(torch.randn(*batch["input_ids"].shape, 8), batch)
        if module.has_head:
            terms = module.loss(outputs, batch)
            assert all(torch.isfinite(term) for term in terms.values())
            assert set(terms) == set(module.targets(some[0]))
            assert outputs.shape[-1] == len(module.output_names(labels))
        found += module.outputs(outputs.detach(), batch)
    assert len(found) == len(items)
    for item in items:
        assert item.length <= sizes.max_length
        assert item.cut >= 0
    decoded = module.decode(examples, items, found, labels)
    if module.has_head:
        assert [row["id"] for row in decoded] == [example.get("id") for example in examples]
    json.dumps(decoded, allow_nan=False)
    assert [item.owner for item in items] == sorted(item.owner for item in items)
    return items, decoded


@slow
@given(
    st.lists(
        st.tuples(texts, st.none() | texts, st.sampled_from(["yes", "no", None])),
        min_size=1,
        max_size=5,
    ),
    lengths,
)
def test_classify(
    tokenizer: Tokenizer, rows: list[tuple[str, str | None, str | None]], sizes: Lengths
) -> None:
    examples = [
        {"id": str(n), "text": text, "pair": pair, "label": label}
        for n, (text, pair, label) in enumerate(rows)
    ]
    items, decoded = through("classify", examples, ("yes", "no"), tokenizer, sizes)
    assert len(items) == len(decoded) == len(examples)
    taught = formats.load("classify").encode(examples, ("yes", "no"), tokenizer, sizes, train=True)
    assert [item.owner for item in taught] == [n for n, (_, _, label) in enumerate(rows) if label]


@slow
@given(
    st.lists(st.tuples(texts, st.lists(texts, min_size=2, max_size=6)), min_size=1, max_size=4),
    lengths,
)
def test_choice(tokenizer: Tokenizer, rows: list[tuple[str, list[str]]], sizes: Lengths) -> None:
    examples = [
        {"id": str(n), "context": text, "choices": list(choices), "label": 1}
        for n, (text, choices) in enumerate(rows)
    ]
    items, decoded = through("choice", examples, (), tokenizer, sizes)
    for item, row, (_, choices) in zip(items, decoded, rows, strict=True):
        assert len(item.ids) == len(row["probabilities"]) == len(choices)
        assert row["prediction"] in range(len(choices))
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-4)
        whole = tokenizer(
            [choice.replace("\ud800", "\ufffd") for choice in choices], add_special_tokens=False
        )["input_ids"]
        for ids, choice in zip(item.ids, whole, strict=True):
            if (
                len(choice) < sizes.max_length - 4
            ):  # a choice that leaves room is whole; the context gave way
                assert ids[len(ids) - 1 - len(choice) : -1].tolist() == choice


def without_blank_edges(text: str) -> str:
    while text and (text[0].isspace() or unicodedata.category(text[0]) in ("Cf", "Cc")):
        text = text[1:]
    return text.rstrip()


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    context: str = draw(texts)
    start = draw(st.integers(0, max(len(context) - 1, 0)))
    end = draw(st.integers(start, len(context)))
    answer = context[start:end]
    answers = {"text": [answer] if answer else [], "answer_start": [start] if answer else []}
    return {
        "id": draw(st.uuids()).hex,
        "question": draw(texts),
        "context": context,
        "answers": answers,
    }


@slow
@given(
    st.lists(questions(), min_size=1, max_size=4), lengths, st.sampled_from([(), ("unanswerable",)])
)
def test_span(
    tokenizer: Tokenizer, examples: list[dict[str, Any]], sizes: Lengths, labels: tuple[str, ...]
) -> None:
    items, decoded = through("span", examples, labels, tokenizer, sizes)
    for example, row in zip(examples, decoded, strict=True):
        assert row["prediction"] in example["context"]
        assert row["prediction"] == row["prediction"].lstrip()
        if row["start"] is not None:
            assert example["context"][row["start"] :].startswith(row["prediction"])
        assert (
            len({(best["start"], best["text"]) for best in row["n_best"]})
            == len(row["n_best"])
            <= 5
        )
        assert row["prediction"] or labels or not row["n_best"]
    assert {item.owner for item in items} == set(range(len(examples)))
    for item in items:
        context = examples[item.owner]["context"]
        if item.extra.get("exact"):
            rows = np.zeros((item.length, 4), dtype=np.float32)
            first, last = item.gold["span"]
            rows[first, 2], rows[last, 3] = item.gold["trim"]
            low = item.extra["first"]
            (start,), (end,) = span.characters(
                item, rows, np.array([first - low]), np.array([last - low])
            )
            assert context[start:end] == without_blank_edges(
                examples[item.owner]["answers"]["text"][0]
            )
    for owner, example in enumerate(examples):  # every piece of the context is in some window
        covered = {
            place for item in items if item.owner == owner for place in item.extra["end"].tolist()
        }
        whole = span.FORMAT.encode([example], labels, tokenizer, Lengths(4096), train=False)[0]
        assert covered == set(whole.extra["end"].tolist())


@slow
@given(st.lists(st.lists(texts, max_size=20), min_size=1, max_size=4), lengths, st.booleans())
def test_tag(
    tokenizer: Tokenizer, sentences: list[list[str]], sizes: Lengths, with_gold: bool
) -> None:
    names = ("A", "B", "C")
    examples: list[dict[str, Any]] = [
        {
            "id": str(n),
            "words": words,
            "tags": [(*names, "new")[k % 4] for k in range(len(words))] if with_gold else None,
        }
        for n, words in enumerate(sentences)
    ]
    items, decoded = through("tag", examples, names, tokenizer, sizes)
    for number, (example, row) in enumerate(zip(examples, decoded, strict=True)):
        assert row["words"] == example["words"] and row["gold"] == example["tags"]
        assert len(row["prediction"]) == len(example["words"]) and set(row["prediction"]) <= set(
            names
        )
        mine: np.ndarray = np.concatenate(
            [item.extra["words"] for item in items if item.owner == number]
        )
        assert sorted(mine.tolist()) == list(
            range(len(example["words"]))
        )  # each word in one window
    taught = formats.load("tag").encode(examples, names, tokenizer, sizes, train=True)
    labelled = sum(int((item.gold["tags"] != IGNORED).sum()) for item in taught)
    assert labelled == (
        sum(name != "new" for example in examples for name in example["tags"] or ())
        if with_gold
        else 0
    )
    assert all((item.gold["tags"] != IGNORED).any() for item in taught)


@slow
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), lengths)
def test_retrieve(tokenizer: Tokenizer, rows: list[tuple[str, str]], sizes: Lengths) -> None:
    examples = [
        {"id": str(n), "source": source, "target": target}
        for n, (source, target) in enumerate(rows)
    ]
    items, decoded = through("retrieve", examples, (), tokenizer, sizes)
    assert len(items) == 2 * len(examples)
    assert [row["gold"] for row in decoded] == [str(number) for number in range(len(rows))]
    assert all(0 <= int(row["prediction"]) < len(rows) for row in decoded)


def test_ten_thousand_words(tokenizer: Tokenizer) -> None:
    words = [f"w{number}" if number % 7 else "\u200b" for number in range(10_000)]
    examples = [{"id": "long", "words": words, "tags": ["A"] * len(words)}]
    items, decoded = through("tag", examples, ("A", "B"), tokenizer, Lengths(32, 128))
    assert len(decoded[0]["prediction"]) == 10_000 and not sum(item.cut for item in items)
    text = " ".join(words)
    gold = {"text": ["w9999"], "answer_start": [text.index("w9999")]}
    asked = [{"id": "long", "question": text, "context": text, "answers": gold}]
    windows, answers = through("span", asked, (), tokenizer, Lengths(384, 128))
    assert all(item.cut for item in windows) and answers[0]["prediction"]
    assert sum("exact" in item.extra for item in windows) >= 1
    through(
        "classify",
        [{"id": "long", "text": text, "pair": text, "label": "yes"}],
        ("yes", "no"),
        tokenizer,
        Lengths(64),
    )
    through(
        "choice",
        [{"id": "long", "context": text, "choices": [text, "w1"], "label": 0}],
        (),
        tokenizer,
        Lengths(64),
    )


def test_one_word_longer_than_the_window(tokenizer: Tokenizer) -> None:
    words = ["no", "supercalifragilistic" * 30, "end"]
    examples = [{"id": "1", "words": words, "tags": ["A", "B", "C"]}]
    items, _ = through("tag", examples, ("A", "B", "C"), tokenizer, Lengths(16))
    assert sum(item.cut for item in items) > 0
    perfect = [np.eye(3)[item.gold["tags"]] for item in items]
    assert tag.FORMAT.decode(examples, items, perfect, ("A", "B", "C"))[0]["prediction"] == [
        "A",
        "B",
        "C",
    ]
