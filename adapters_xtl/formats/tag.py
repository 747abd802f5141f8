"""Tagging of words: a word is tagged by its first piece.

A sentence longer than the limit is read in windows cut between words, never shortened. Neighbouring
windows overlap, and each word is labelled and predicted once: in the window where it has most
context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters_xtl.formats._items import (
    IGNORED,
    Frame,
    Item,
    Lengths,
    Tokenizer,
    chunks,
    cross_entropy,
    pad,
    readable,
)

__all__ = ["collate", "decode", "encode", "head", "outputs"]


def _words(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids, starts) of each sentence: its pieces, and each word's first piece, with the number of
    pieces appended.

    A word without a piece (zero-width characters, nothing at all) gets one unknown piece.
    """
    encoded = tokenizer(
        [[readable(word) for word in words] for words in sentences],
        is_split_into_words=True,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    found = []
    for number, words in enumerate(sentences):
        ids = np.asarray(encoded["input_ids"][number], dtype=np.int32)
        owners = np.asarray(encoded.encodings[number].word_ids, dtype=np.int64)
        counts = np.bincount(owners, minlength=len(words))
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            ids = np.insert(ids, np.searchsorted(owners, empty), tokenizer.unk_token_id)
            counts[empty] = 1
        found.append((ids, np.append(0, np.cumsum(counts))))
    return found


def _windows(starts: np.ndarray, room: int, shared: int) -> list[tuple[int, int]]:
    """Words [low, high) of each window: as many as fit (one at least); neighbours share at most
    `shared` pieces.
    """
    count = len(starts) - 1
    found: list[tuple[int, int]] = []
    low = 0
    while True:
        high = (
            max(int(np.searchsorted(starts, starts[low] + room, "right")) - 1, low + 1)
            if count
            else 0
        )
        found.append((low, min(high, count)))
        if high >= count:
            return found
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


def encode(
    examples: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    lengths: Lengths,
    *,
    train: bool,
) -> list[Item]:
    """One item a window; neighbours share at most `stride` pieces, and at most a quarter of
    `max_length`.

    `extra["words"]`: numbers of the words that are predicted in this item. `cut`: pieces of single
    words that are longer than a window (their first piece, which is tagged, stays). `train` drops
    windows without a known gold tag.
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
            homes = _homes(starts, windows) if len(windows) > 1 else np.zeros(count, dtype=np.int64)
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


def collate(
    items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
) -> dict[str, torch.Tensor]:
    """`first` (B, T): True at the first pieces of the words that count here; `labels` (B, T): their
    tags, else IGNORED.
    """
    batch = pad(items, tokenizer, multiple)
    first = np.zeros(batch["input_ids"].shape, dtype=bool)
    tags = np.full(first.shape, IGNORED, dtype=np.int64)
    for row, item in enumerate(items):
        first[row, item.extra["first"]] = True
        tags[row, item.extra["first"]] = item.gold["tags"]
    batch["first"], batch["labels"] = torch.from_numpy(first), torch.from_numpy(tags)
    return batch


class _Head(nn.Module):
    def __init__(self, hidden: int, size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, size)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.out(self.dropout(states))
        return out

    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(outputs[batch["first"]], batch["labels"][batch["first"]])


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """(B, T, hidden) → (B, T, number of labels)."""
    return _Head(hidden, len(labels), dropout)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """Logits, (words predicted in the item, number of labels) an item."""
    rows = outputs[batch["first"]].float().cpu().numpy()
    counts = batch["first"].sum(1).cpu().numpy()
    return list(np.split(rows, np.cumsum(counts)[:-1]))


def decode(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """{"id", "words": [text, …], "prediction": [tag, …], "gold": [tag, …] or None}, exactly one tag
    a word.
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
