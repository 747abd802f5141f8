"""Tagging of words: a word is tagged by its first piece.

An example: {"id"?, "words": [text, …], "tags"?: [name, …]}. Tags of None mean that there is no
gold.

A sentence longer than the limit is read in windows cut between words, never shortened. Neighbouring
windows overlap, and each word is labelled and predicted once: in the window where it has most
context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters_xtl.formats._checks import published_group
from adapters_xtl.formats._format import Batch, Example, Fault, Format
from adapters_xtl.formats._items import (
    IGNORED,
    Frame,
    Item,
    Lengths,
    Tokenizer,
    chunks,
    has_lone_surrogate,
    pad,
    readable,
)
from adapters_xtl.formats._plain_heads import TOKEN_CLASSIFICATION

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "Tag"]


_PLAIN: dict[str, Any] = {
    "add_special_tokens": False,
    "return_attention_mask": False,
    "return_token_type_ids": False,
    "verbose": False,
}


def _together(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(piece ids, the word that each piece belongs to) of each sentence."""
    encoded = tokenizer(
        [[readable(word) for word in words] for words in sentences],
        is_split_into_words=True,
        **_PLAIN,
    )
    return [
        (np.asarray(ids, dtype=np.int32), np.asarray(encoding.word_ids, dtype=np.int64))
        for ids, encoding in zip(encoded["input_ids"], encoded.encodings, strict=True)
    ]


def _word_by_word(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same for a byte-level tokenizer that puts no space before its text (RoBERTa's): it takes
    no words, and a word that does not follow a space has other pieces. So each word is read as a
    text of its own, behind a space.
    """
    texts = [f" {readable(word)}" for words in sentences for word in words]
    pieces = iter(tokenizer(texts, **_PLAIN)["input_ids"] if texts else ())
    encoded = []
    for words in sentences:
        by_word = [next(pieces) for _ in words]
        ids = [number for numbers in by_word for number in numbers]
        owners = np.repeat(np.arange(len(words)), [len(numbers) for numbers in by_word])
        encoded.append((np.asarray(ids, dtype=np.int32), owners.astype(np.int64)))
    return encoded


def _words(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids, starts) of each sentence: its pieces, and each word's first piece, with the number of
    pieces appended.

    A word without a piece (zero-width characters, nothing at all) gets one unknown piece.
    """
    encode = _word_by_word if getattr(tokenizer, "add_prefix_space", None) is False else _together
    encoded = []
    for words, (ids, owners) in zip(sentences, encode(tokenizer, sentences), strict=True):
        counts = np.bincount(owners, minlength=len(words))
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            ids = np.insert(ids, np.searchsorted(owners, empty), tokenizer.unk_token_id)
            counts[empty] = 1
        encoded.append((ids, np.append(0, np.cumsum(counts))))
    return encoded


def _windows(starts: np.ndarray, room: int, shared: int) -> list[tuple[int, int]]:
    """Words [low, high) of each window: as many as fit (one at least); neighbours share at most
    `shared` pieces.
    """
    count = len(starts) - 1
    windows: list[tuple[int, int]] = []
    low = 0
    while True:
        high = (
            max(int(np.searchsorted(starts, starts[low] + room, "right")) - 1, low + 1)
            if count
            else 0
        )
        windows.append((low, min(high, count)))
        if high >= count:
            return windows
        low = max(int(np.searchsorted(starts, starts[high] - shared, "left")), low + 1)


def _homes(starts: np.ndarray, windows: Sequence[tuple[int, int]]) -> np.ndarray:
    """For each word, the window in which the fewer of the pieces on its two sides are most; the
    first of equals.
    """
    best = np.full(len(starts) - 1, -1)
    homes = np.zeros(len(starts) - 1, dtype=np.int64)
    for number, (low, high) in enumerate(windows):
        context = np.minimum(
            starts[low:high] - starts[low], starts[high] - starts[low + 1 : high + 1]
        )
        better = context > best[low:high]
        best[low:high] = np.where(better, context, best[low:high])
        homes[low:high] = np.where(better, number, homes[low:high])
    return homes


class Tag(Format):
    """One tag for each word."""

    fields = ("words",)
    list_fields = ("words",)
    gold_fields = ("tags",)
    hub_task = "token-classification"
    input_help = '{"words": [word, …]}'
    reads_every_token = True
    reads_windows = True
    length_unit = "words"
    usual_labels = 1300  # CCGbank's training sections hold 1,286 categories
    plain_heads = TOKEN_CLASSIFICATION
    xtreme_suffix = "tsv"

    def fault(self, example: Example, labels: Sequence[str]) -> Fault | None:
        words, tags = example["words"], example.get("tags")
        if not words or not isinstance(words, list | tuple):
            return Fault("no words", False)
        if any(not isinstance(word, str) for word in words):
            return Fault("a word is null" if None in words else "a word is no text", False)
        if any(has_lone_surrogate(word) for word in words):
            return Fault("a word holds half a character (a lone surrogate)", False)
        if not isinstance(tags, list | tuple) or None in tags:
            return Fault("no gold tags", False)
        if len(words) != len(tags):
            return Fault(f"{len(words)} words but {len(tags)} tags", False)
        unknown = next((tag for tag in tags if labels and tag not in labels), None)
        return Fault(f"unknown tag {unknown!r}", False) if unknown is not None else None

    def group(self, example: Example) -> str:
        return published_group(example)

    def head_labels(self, labels: Sequence[str], train: Iterable[Example]) -> tuple[str, ...]:
        """The task's tags or, without a fixed inventory, those of the train rows, sorted."""
        return tuple(labels) or tuple(sorted({tag for example in train for tag in example["tags"]}))

    def labels_known(self, labels: Sequence[str]) -> bool:
        return bool(labels)

    def gold_names(self, example: Example) -> list[str]:
        return list(example["tags"])

    def length(self, example: Example) -> int:
        return len(example["words"])

    def from_list(self, values: Sequence[Any]) -> dict[str, Any] | None:
        return {"words": list(values)}

    def may_be_blank(self, field: str) -> bool:
        """Words may be: each has a tag, whatever it holds."""
        return True

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """One item a window; neighbours share at most `stride` pieces, and at most a quarter of
        `max_length`.

        `extra["words"]`: numbers of the words that are predicted in this item. `cut`: pieces of
        single words that are longer than a window (their first piece, which is tagged, stays).
        `train` drops windows without a known gold tag.
        """
        frame = Frame(tokenizer)
        room = lengths.max_length - frame.around(False)
        shared = min(lengths.stride, lengths.max_length // 4)
        before = frame.before(pair=False)
        index = {label: number for number, label in enumerate(labels)}
        items = []
        for chunk in chunks(len(examples)):
            encoded = _words(tokenizer, [examples[owner]["words"] for owner in chunk])
            for owner, (ids, starts) in zip(chunk, encoded, strict=True):
                count = len(starts) - 1
                tags = examples[owner].get("tags") or [None] * count
                gold = np.fromiter(
                    (index.get(tag, IGNORED) for tag in tags), dtype=np.int64, count=count
                )
                windows = _windows(starts, room, shared) if starts[-1] > room else [(0, count)]
                homes = (
                    _homes(starts, windows) if len(windows) > 1 else np.zeros(count, dtype=np.int64)
                )
                for number, (low, high) in enumerate(windows):
                    words = low + np.flatnonzero(homes[low:high] == number)
                    if train and not (gold[words] != IGNORED).any():
                        continue
                    inside = ids[starts[low] : starts[high]]
                    joined, types = frame.join(inside[:room])
                    extra = {"words": words, "first": before + starts[words] - starts[low]}
                    items.append(
                        Item(
                            owner,
                            (joined,),
                            None if types is None else (types,),
                            {"tags": gold[words]},
                            extra,
                            cut=max(len(inside) - room, 0),
                        )
                    )
        return items

    def collate(self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> Batch:
        """`first` (B, T): True at the first pieces of the words that count here; `labels` (B, T):
        their tags, else IGNORED.
        """
        batch = pad(items, tokenizer, multiple)
        first = np.zeros(batch["input_ids"].shape, dtype=bool)
        tags = np.full(first.shape, IGNORED, dtype=np.int64)
        for row, item in enumerate(items):
            first[row, item.extra["first"]] = True
            tags[row, item.extra["first"]] = item.gold["tags"]
        return {**batch, "first": first, "labels": tags}

    def loss(
        self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Cross-entropy of the logits (B, T, number of labels) at the words with a known tag."""
        from adapters_xtl.formats._heads import cross_entropy

        return {"loss": cross_entropy(outputs[batch["first"]], batch["labels"][batch["first"]])}

    def targets(self, item: Item) -> dict[str, int]:
        return {"loss": int(np.count_nonzero(item.gold["tags"] != IGNORED))}

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """Logits, (words predicted in the item, number of labels) an item."""
        rows = outputs[batch["first"]].float().cpu().numpy()
        counts = batch["first"].sum(1).cpu().numpy()
        return list(np.split(rows, np.cumsum(counts)[:-1]))

    def decode(
        self,
        examples: Sequence[Example],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """{"id", "words": [text, …], "prediction": [tag, …], "gold": [tag, …] or None}, exactly one
        tag a word.
        """
        predicted: list[list[str]] = [[""] * len(example["words"]) for example in examples]
        for item, logits in zip(items, outputs, strict=True):
            for word, label in zip(
                item.extra["words"].tolist(), logits.argmax(-1).tolist(), strict=True
            ):
                predicted[item.owner][word] = labels[label]
        return [
            {
                "id": example.get("id"),
                "words": list(example["words"]),
                "prediction": tags,
                "gold": None if example.get("tags") is None else list(example["tags"]),
            }
            for example, tags in zip(examples, predicted, strict=True)
        ]

    def xtreme_text(self, predictions: Sequence[Mapping[str, Any]]) -> str:
        """One tag a line and a blank line after each sentence, in the rows' order."""
        sentences = ("".join(f"{tag}\n" for tag in row["prediction"]) for row in predictions)
        return "".join(f"{lines}\n" for lines in sentences)


FORMAT = Tag()
