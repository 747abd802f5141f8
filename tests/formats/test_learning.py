"""Losses and gold are right: a head over a bag of tiny embeddings learns a handful of rows by
heart, format by format.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adapters_xtl import formats
from adapters_xtl.backbones import loading, registry
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.formats import Item, Lengths, Tokenizer, choice, classify, retrieve, span, tag
from adapters_xtl.formats._items import Frame
from adapters_xtl.models.network import on_device

HIDDEN = 32
TEXT = "the old river runs past a mill where nobody grinds corn any longer said Anna Lee of Bern"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Matrices this small only lose time in company."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return loading.tokenizer(registry.NAMED["mini"])


class Bag(nn.Module):
    """Hidden state: the piece's vector, its position's, and the mean of the sequence's."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces, self.places = nn.Embedding(997, HIDDEN), nn.Embedding(64, HIDDEN)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)
        own = self.pieces(batch["input_ids"] % 997)
        places = self.places(torch.arange(own.shape[1]))
        states: torch.Tensor = (
            own + places + (own * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        )
        return states


def learn(
    format: str,
    examples: list[dict[str, Any]],
    labels: tuple[str, ...],
    tokenizer: Tokenizer,
    sizes: Lengths,
    steps: int = 120,
) -> tuple[list[dict[str, Any]], float, float]:
    """(predictions afterwards, first loss, last loss)."""
    torch.manual_seed(1)
    module = formats.load(format)
    items = module.encode(examples, labels, tokenizer, sizes, train=True)
    batch = on_device(module.collate(items, tokenizer), "cpu")
    body, head = Bag(), module.head(HIDDEN, labels, 0.1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.03)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        terms = module.loss(head(body(batch), batch), batch)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    head.eval()
    seen = module.encode(examples, labels, tokenizer, sizes, train=False)
    batch = on_device(module.collate(seen, tokenizer), "cpu")
    with torch.no_grad():
        found = module.outputs(head(body(batch), batch), batch)
    return module.decode(examples, seen, found, labels), losses[0], losses[-1]


def test_classify(tokenizer: Tokenizer) -> None:
    words = {"good": "sun rain", "bad": "mud", "odd": "quantum cheese"}
    examples = [
        {"id": name, "text": text, "pair": "it is", "label": name} for name, text in words.items()
    ]
    rows, first, last = learn("classify", examples, tuple(words), tokenizer, Lengths(32))
    assert [row["prediction"] for row in rows] == [row["gold"] for row in rows] == list(words)
    assert last < 0.1 < first == pytest.approx(np.log(3), abs=0.3)


def test_choice_with_different_numbers_of_choices(tokenizer: Tokenizer) -> None:
    examples = [
        {
            "id": "a",
            "context": "the bird sings in the",
            "choices": ["tree", "concrete"],
            "label": 0,
        },
        {
            "id": "b",
            "context": "she drank a cup of",
            "choices": ["granite", "sand", "tea", "iron", "chalk"],
            "label": 2,
        },
        {"id": "c", "context": "ice is", "choices": ["warm", "loud", "cold"], "label": 2},
    ]
    rows, first, last = learn("choice", examples, (), tokenizer, Lengths(32))
    assert [row["prediction"] for row in rows] == [0, 2, 2] == [row["gold"] for row in rows]
    assert [len(row["probabilities"]) for row in rows] == [2, 5, 3]
    assert last < 0.1 < first == pytest.approx(np.log([2, 5, 3]).mean(), abs=0.3)


def test_span_learns_answers_that_no_piece_ends_with(tokenizer: Tokenizer) -> None:
    rows = [
        ("When?", "It was built in 2014, and burnt later.", "2014"),
        ("언제?", "그 다리는 1959년에 완공되었다.", "1959"),
        ("哪里？", "这座古老的图书馆位于城市的东部，很有名。", "城市的东"),
        ("कहाँ?", "वह पुल दिल्ली में नदी के पास है।", "दिल्ली में"),
        ("Who?", "Nobody knows.", ""),
    ]
    examples = [
        {
            "id": str(n),
            "question": question,
            "context": context,
            "answers": {
                "text": [answer][: len(answer)],
                "answer_start": [context.index(answer)][: len(answer)],
            },
        }
        for n, (question, context, answer) in enumerate(rows)
    ]
    items = span.FORMAT.encode(examples, (), tokenizer, Lengths(64), train=True)
    assert all(item.extra["exact"] for item in items[:4]) and "exact" not in items[4].extra
    assert any(any(item.gold["trim"]) for item in items[:4])
    found, first, last = learn("span", examples, ("unanswerable",), tokenizer, Lengths(64), 300)
    assert [row["prediction"] for row in found] == [answer for _, _, answer in rows]
    assert last < 0.2 < first
    assert found[4]["start"] is None and found[4]["null_score"] > found[4]["score"]
    assert all(row["null_score"] < row["score"] for row in found[:4])


def test_what_is_left_out_of_pieces_teaches_the_encoder_nothing() -> None:
    """The encoder's gradient is the one of the usual head with two outputs."""
    torch.manual_seed(0)
    head: Any = span.FORMAT.head(HIDDEN, (), 0.0)
    gradients: list[Any] = []
    for trims in ([[3, 2], [-100, -100]], [[-100, -100]] * 2):
        states = torch.randn(
            2, 9, HIDDEN, generator=torch.Generator().manual_seed(5)
        ).requires_grad_()
        batch = {
            "attention_mask": torch.ones(2, 9, dtype=torch.int64),
            "spans": torch.tensor([[4, 6], [0, 0]]),
            "trims": torch.tensor(trims),
        }
        sum(span.FORMAT.loss(head(states, batch), batch).values()).backward()  # type: ignore[union-attr]
        gradients.append(states.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert float(gradients[0].abs().sum()) > 0


def test_tag_over_windows(tokenizer: Tokenizer) -> None:
    words = TEXT.split()
    tags = [
        "N" if word in ("river", "mill", "corn", "Anna", "Lee", "Bern") else "O" for word in words
    ]
    examples = [
        {"id": "1", "words": words, "tags": tags},
        {"id": "2", "words": ["Bern", "\u200b"], "tags": ["N", "O"]},
    ]
    rows, _, last = learn("tag", examples, ("O", "N"), tokenizer, Lengths(16, 4), 200)
    assert [row["prediction"] for row in rows] == [tags, ["N", "O"]]
    assert last < 0.1


def test_a_batch_without_gold_has_loss_zero_not_nan(tokenizer: Tokenizer) -> None:
    examples = [{"id": "1", "words": ["a", "b"], "tags": ["new", "newer"]}]
    items = tag.FORMAT.encode(examples, ("A",), tokenizer, Lengths(16), train=False)
    batch = on_device(tag.FORMAT.collate(items, tokenizer), "cpu")
    head: Any = tag.FORMAT.head(8, ("A",), 0.0)
    states = torch.randn(*batch["input_ids"].shape, 8, requires_grad=True)
    loss = tag.FORMAT.loss(head(states, batch), batch)["loss"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert tag.FORMAT.encode(examples, ("A",), tokenizer, Lengths(16), train=True) == []


def test_a_span_found_in_two_windows_counts_once(tokenizer: Tokenizer) -> None:
    context = " ".join(f"n{number}" for number in range(60))
    example = {
        "id": "1",
        "question": "which?",
        "context": context,
        "answers": {"text": [], "answer_start": []},
    }
    items = span.FORMAT.encode([example], (), tokenizer, Lengths(40, 16), train=False)
    place = context.index("n9 ")
    outputs = []
    for number, item in enumerate(items):
        rows = np.zeros((item.length, 4), dtype=np.float32)
        rows[0, :2] = 3 - number
        first = np.flatnonzero(item.extra["start"] == place)
        last = np.flatnonzero(item.extra["end"] == place + 2)
        if len(first) and len(last):
            rows[item.extra["first"] + first[0], 0] = rows[item.extra["first"] + last[0], 1] = (
                5 + number
            )
        outputs.append(rows)
    assert sum(bool(rows[:, 0].max() >= 5) for rows in outputs) == 2
    (found,) = span.FORMAT.decode([example], items, outputs, ())
    assert (found["prediction"], found["start"], found["score"]) == ("n9", place, 12)
    assert sum(best["start"] == place and best["text"] == "n9" for best in found["n_best"]) == 1
    assert found["null_score"] == 2 * (3 - (len(items) - 1))
    shared = set(items[0].extra["start"].tolist()) & set(items[1].extra["start"].tolist())
    assert len(shared) >= 15  # neighbours share the stride's tokens


def test_the_empty_answer_needs_the_label(tokenizer: Tokenizer) -> None:
    example = {
        "id": "1",
        "question": "who?",
        "context": "Anna.",
        "answers": {"text": ["Anna"], "answer_start": [0]},
    }
    items = span.FORMAT.encode([example], (), tokenizer, Lengths(32), train=False)
    rows = np.zeros((items[0].length, 4), dtype=np.float32)
    rows[0, :2] = 5
    assert span.FORMAT.decode([example], items, [rows], ())[0]["prediction"]
    assert span.FORMAT.decode([example], items, [rows], ("unanswerable",))[0]["prediction"] == ""
    blank = {"id": "2", "question": "who?", "context": " \u200b"}
    items = span.FORMAT.encode([blank], (), tokenizer, Lengths(32), train=False)
    (found,) = span.FORMAT.decode([blank], items, [rows], ())
    assert (
        found["prediction"],
        found["start"],
        found["score"],
        found["gold"],
        found["n_best"],
    ) == ("", None, None, [], [])


def test_words_are_tagged_where_they_have_most_context(tokenizer: Tokenizer) -> None:
    words = [f"n{number}" for number in range(100)]
    items = tag.FORMAT.encode(
        [{"words": words, "tags": None}], ("A",), tokenizer, Lengths(34, 128), train=False
    )
    for before, after in pairwise(items):
        assert (
            before.extra["first"][-1] < before.length - 2
        )  # the last word here has something on its right
        assert after.extra["first"][0] > 1


def test_pooling_is_the_mean_over_all_tokens_special_ones_included(tokenizer: Tokenizer) -> None:
    examples = [
        {"part": "source", "id": "s1", "sentence": "short"},
        {"part": "target", "id": "t1", "sentence": "a longer one"},
        {"part": "gold", "id": "#2", "source_id": "s1", "target_id": "t1"},
    ]
    items = retrieve.FORMAT.encode(examples, (), tokenizer, Lengths(512), train=False)
    batch = on_device(retrieve.FORMAT.collate(items, tokenizer), "cpu")
    states = torch.randn(*batch["input_ids"].shape, 8)
    vectors = retrieve.FORMAT.outputs(states, batch)
    for row, (item, vector) in enumerate(zip(items, vectors, strict=True)):
        np.testing.assert_allclose(vector, states[row, : item.length].mean(0).numpy(), atol=1e-6)
    (pair,) = retrieve.FORMAT.decode(examples, items, vectors, ())
    assert (pair["source_id"], pair["target_id"], pair["gold"]) == ("s1", "t1", True)
    with pytest.raises(RunError, match="trains nothing"):
        retrieve.FORMAT.loss(states, batch)


def test_truncation_is_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    texts = ["one", "a somewhat longer sentence about rivers and mills", ""]
    for limit in (8, 9, 11, 16):
        for text in texts:
            for pair in texts:
                (item,) = classify.FORMAT.encode(
                    [{"text": text, "pair": pair}], (), tokenizer, Lengths(limit), train=False
                )
                (wanted,) = tokenizer([text], [pair], truncation=True, max_length=limit)[
                    "input_ids"
                ]
                assert item.ids[0].tolist() == wanted


def test_token_types_where_the_tokenizer_has_them(tokenizer: Tokenizer) -> None:
    class Typed:
        """A tokenizer as BERT's: the second text is of type 1."""

        is_fast, model_input_names = True, ["input_ids", "token_type_ids", "attention_mask"]

        def __call__(self, *texts: str, **options: Any) -> Any:
            encoded = tokenizer(*texts, **options)
            kinds = [
                int(seq == 1 or (seq is None and at > 0))
                for at, seq in enumerate(encoded.sequence_ids())
            ]
            encoded["token_type_ids"] = kinds
            return encoded

    typed: Any = Typed()
    frame = Frame(typed)
    ids, types = frame.join(np.array([7, 8], np.int32), np.array([9], np.int32))
    assert (
        types is not None
        and len(types) == len(ids)
        and types[:3].tolist() == [0, 0, 0]
        and types[-2:].tolist() == [1, 1]
    )
    item = Item(0, (ids, ids), (types, types))
    assert choice.FORMAT.collate([Item(0, item.ids, item.types, {"label": 0})], tokenizer)[
        "token_type_ids"
    ].shape == (2, len(ids))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    slow: Any = Slow()
    with pytest.raises(RequestError, match=r"tokenizer\.json"):
        Frame(slow)
