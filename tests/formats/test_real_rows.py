"""The formats on the real rows of the outside mirror, in every language it has: gold in, gold out."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_xtl import formats, tasks
from adapters_xtl.backbones import loading, registry
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Mirror
from adapters_xtl.formats import Item, Lengths, Tokenizer, span, tag
from adapters_xtl.formats._characters import after_marks
from adapters_xtl.models.network import on_device

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return loading.tokenizer(registry.NAMED["mini"])


@cache
def reported(mirror: Path, format: str) -> list[tuple[str, str, Rows, tuple[str, ...]]]:
    """(task, language, examples, labels) for all validation rows that the mirror has in a format."""
    source, reader = Mirror(mirror), Reader()
    found = []
    for task in map(tasks.load, tasks.names()):
        if task.format == format and "validation" in task.report:
            located, _ = locate_report(source, task, "validation", task.all_languages)
            parts, _ = read_report(reader, task, located)
            found += [
                (task.name, language, part.examples, task.labels)
                for language, part in parts.items()
            ]
    if not found:
        pytest.skip(f"{mirror} has no rows of format {format}")
    return found


def trained(mirror: Path, format: str) -> Iterator[tuple[str, str, Rows, tuple[str, ...]]]:
    """The same for train rows; tasks whose train rows the mirror lacks are passed over."""
    source, reader = Mirror(mirror), Reader()
    for task in map(tasks.load, tasks.names()):
        if task.format == format and task.train and not task.in_domain_task:
            with contextlib.suppress(MissingRows):
                files = locate_training(source, task, "clean", tasks.load)
                yield (
                    f"{task.name} train",
                    "en",
                    read_training(reader, task, files, tasks.load).train.examples,
                    task.labels,
                )


def without_blank_edges(text: str) -> str:
    """Annotators caught white space, or a direction mark before the answer: no span of words can
    begin or end there.
    """
    while text and (text[0].isspace() or unicodedata.category(text[0]) in ("Cf", "Cc")):
        text = text[1:]
    return text.rstrip()


def gold_outputs(item: Item) -> np.ndarray:
    """What a perfect model gives for a window: (tokens, 4)."""
    rows = np.zeros((item.length, 4), dtype=np.float32)
    first, last = item.gold["span"]
    rows[first, 0] = rows[last, 1] = 9
    if "exact" in item.extra:
        rows[first, 2], rows[last, 3] = item.gold["trim"]
    return rows


def check_answers(examples: Rows, items: list[Item], where: str) -> Counter[str]:
    """Every question that a window holds: its gold positions are the answer's very text, and
    `decode` finds it.
    """
    found: Counter[str] = Counter()
    outputs = [gold_outputs(item) for item in items]
    decoded = span.FORMAT.decode(examples, items, outputs, ())
    held: set[int] = set()
    for item, rows in zip(items, outputs, strict=True):
        if "exact" not in item.extra or item.owner in held:
            continue
        held.add(item.owner)
        example = examples[item.owner]
        gold = without_blank_edges(example["answers"]["text"][0])
        low = item.extra["first"]
        first, last = np.array(item.gold["span"]) - low
        (start,), (end,) = span.characters(
            item, rows, np.array([first]), np.array([last]), after_marks(example["context"])
        )
        found["held"] += 1
        found["trimmed"] += any(item.gold["trim"])
        found["blank edge"] += gold != example["answers"]["text"][0]
        found["longer than LONGEST"] += int(last - first >= span.LONGEST)
        if not item.extra["exact"]:
            found["inexact"] += 1
            continue
        assert example["context"][start:end] == gold, (where, example["id"])
        if last - first < span.LONGEST:
            assert decoded[item.owner]["prediction"] == gold, (where, example["id"])
            assert decoded[item.owner]["start"] == start, (where, example["id"])
    return found


def test_gold_positions_give_exactly_the_gold_answer(mirror: Path, tokenizer: Tokenizer) -> None:
    for task, language, examples, labels in (*reported(mirror, "span"), *trained(mirror, "span")):
        where = f"{task} {language}"
        items = span.FORMAT.encode(examples, labels, tokenizer, Lengths(384, 128), train=False)
        assert max(item.length for item in items) <= 384
        found = check_answers(examples, items, where)
        answered = sum(bool(example["answers"]["text"]) for example in examples)
        print(where, f"{answered} answered", dict(found))
        assert found["held"] >= 0.95 * answered, where
        assert found["inexact"] <= 0.002 * answered + 1, (
            where
        )  # an answer that begins in a character that no piece has
        assert found["blank edge"] <= 0.02 * answered + 1, where


def test_short_windows_hold_what_fits(mirror: Path, tokenizer: Tokenizer) -> None:
    for task, language, examples, labels in reported(mirror, "span"):
        examples = examples[:60]
        items = span.FORMAT.encode(examples, labels, tokenizer, Lengths(64, 16), train=False)
        assert max(item.length for item in items) <= 64
        found = check_answers(examples, items, f"{task} {language}")
        assert found["held"] > 0.5 * sum(bool(example["answers"]["text"]) for example in examples)


@pytest.mark.parametrize(("length", "most"), [(128, 200), (32, 1000)])
def test_every_word_gets_its_own_tag(
    mirror: Path, tokenizer: Tokenizer, length: int, most: int
) -> None:
    for task, language, examples, labels in reported(mirror, "tag"):
        examples = examples[:most]
        known = labels or tuple(sorted({name for example in examples for name in example["tags"]}))
        items = tag.FORMAT.encode(examples, known, tokenizer, Lengths(length, 128), train=False)
        assert max(item.length for item in items) <= length
        outputs: list[np.ndarray] = []
        for start in range(0, len(items), 256):
            batch = on_device(tag.FORMAT.collate(items[start : start + 256], tokenizer), "cpu")
            perfect = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), len(known))
            outputs += tag.FORMAT.outputs(perfect, batch)
        for example, prediction in zip(
            examples, tag.FORMAT.decode(examples, items, outputs, known), strict=True
        ):
            assert prediction["prediction"] == prediction["gold"] == list(example["tags"]), (
                task,
                language,
                example["id"],
            )
        for item in items[:40]:  # and the piece that is tagged is the first piece of that very word
            words = [examples[item.owner]["words"][word] for word in item.extra["words"]]
            alone = tokenizer(words, add_special_tokens=False)["input_ids"]
            assert [ids[0] if ids else tokenizer.unk_token_id for ids in alone] == item.ids[0][
                item.extra["first"]
            ].tolist()


@pytest.mark.parametrize("format", ["classify", "choice", "retrieve"])
def test_texts_of_other_formats_are_encoded_as_the_tokenizer_would(
    mirror: Path, tokenizer: Tokenizer, format: str
) -> None:
    module = formats.load(format)
    for _, _, examples, labels in reported(mirror, format):
        examples = examples[:40]
        items = module.encode(examples, labels, tokenizer, Lengths(48), train=False)
        for item in items:
            example = examples[item.owner]
            if format == "classify":
                wanted = [
                    tokenizer(example["text"], example["pair"], truncation=True, max_length=48)[
                        "input_ids"
                    ]
                ]
            elif format == "choice":
                wanted = [
                    tokenizer(example["context"], choice)["input_ids"]
                    for choice in example["choices"]
                ]
                wanted = [ids if len(ids) <= 48 else None for ids in wanted]
            else:
                text = example[item.extra["side"]] if "source" in example else example["sentence"]
                wanted = [tokenizer(text, truncation=True, max_length=48)["input_ids"]]
            for ids, expected in zip(item.ids, wanted, strict=True):
                assert len(ids) <= 48
                assert expected is None or ids.tolist() == expected
