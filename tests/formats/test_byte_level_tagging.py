"""Tagging under a byte-level tokenizer that puts no space before its text, as every RoBERTa's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast

from adapters_xtl.formats import Lengths, Tokenizer
from adapters_xtl.formats.tag import FORMAT

SENTENCES = [
    "the old river runs past the mill where nobody grinds corn",
    "Straße und Fluß laufen past the mill",
    "река течёт мимо мельницы , the mill",
]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("roberta")
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(SENTENCES * 20, vocab_size=600, special_tokens=special)
    bpe.save_model(str(folder))
    return RobertaTokenizerFast(
        vocab_file=str(folder / "vocab.json"), merges_file=str(folder / "merges.txt")
    )


@pytest.mark.parametrize("length", [64, 12])
def test_every_word_begins_with_its_piece_behind_a_space(
    roberta: Tokenizer, length: int, tmp_path: Path
) -> None:
    assert roberta.add_prefix_space is False
    examples = [
        {"id": str(number), "words": [*text.split(), "", "\u200b"], "tags": None}
        for number, text in enumerate(SENTENCES)
    ]
    items = FORMAT.encode(examples, ("A", "B"), roberta, Lengths(length), train=False)
    assert max(item.length for item in items) <= length
    tagged: list[set[int]] = [set() for _ in examples]
    for item in items:
        for word, place in zip(item.extra["words"], item.extra["first"], strict=True):
            assert word not in tagged[item.owner]
            tagged[item.owner].add(int(word))
            text = examples[item.owner]["words"][word]
            behind_a_space = roberta(f" {text}", add_special_tokens=False)["input_ids"]
            assert item.ids[0][place] == behind_a_space[0], text
    assert [len(words) for words in tagged] == [len(example["words"]) for example in examples]
    outputs = [np.zeros((len(item.extra["words"]), 2), np.float32) for item in items]
    for example, row in zip(examples, FORMAT.decode(examples, items, outputs, "AB"), strict=True):
        assert len(row["prediction"]) == len(example["words"])
