"""Choosing among 2 to 26 texts that may follow a context. One item holds all sequences of an
example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters_xtl.formats._items import (
    IGNORED,
    Item,
    Lengths,
    Projection,
    Tokenizer,
    chunks,
    cross_entropy,
    encode_batch,
    pad,
    softmax,
)

__all__ = ["collate", "decode", "encode", "head", "outputs"]


def encode(
    examples: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    lengths: Lengths,
    *,
    train: bool,
) -> list[Item]:
    """One item an example: (context, choice) for each choice. What is too long loses the end of its
    context.
    """
    items = []
    for chunk in chunks(len(examples)):
        owners = [owner for owner in chunk if not train or examples[owner].get("label") is not None]
        rows = [
            (examples[owner]["context"], choice)
            for owner in owners
            for choice in examples[owner]["choices"]
        ]
        encoded = iter(
            encode_batch(
                tokenizer,
                [row[0] for row in rows],
                [row[1] for row in rows],
                lengths.max_length,
                "only_first",
            )
        )
        for owner in owners:
            ids, types, cuts = zip(
                *(next(encoded) for _ in examples[owner]["choices"]), strict=True
            )
            label = examples[owner].get("label")
            gold = {"label": IGNORED if label is None else int(label)}
            items.append(Item(owner, ids, None if types[0] is None else types, gold, cut=sum(cuts)))
    return items


def collate(
    items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
) -> dict[str, torch.Tensor]:
    """`grid` (items, most choices): the row of each choice's sequence, -1 where an item has fewer
    choices.
    """
    batch = pad(items, tokenizer, multiple)
    grid = torch.full((len(items), max(len(item.ids) for item in items)), -1)
    row = 0
    for number, item in enumerate(items):
        grid[number, : len(item.ids)] = torch.arange(row, row + len(item.ids))
        row += len(item.ids)
    batch["grid"] = grid
    batch["labels"] = torch.tensor([item.gold["label"] for item in items])
    return batch


class _Head(Projection):
    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        grid = batch["grid"]
        logits = outputs.float()[:, 0][grid.clamp(min=0)].masked_fill(grid < 0, -torch.inf)
        return cross_entropy(logits, batch["labels"])


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """(B, T, hidden) → (B, 1), a score for each sequence; the loss is over each example's own
    choices.
    """
    return _Head(hidden, 1, dropout)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """Scores, (number of choices,) an item."""
    scores = outputs.float()[:, 0].cpu().numpy()
    return [scores[rows[rows >= 0]] for rows in batch["grid"].cpu().numpy()]


def decode(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """{"id", "prediction": index, "gold": index or None, "probabilities": [share, …]}."""
    return [
        {
            "id": examples[item.owner].get("id"),
            "prediction": int(scores.argmax()),
            "gold": examples[item.owner].get("label"),
            "probabilities": [round(float(share), 6) for share in softmax(scores)],
        }
        for item, scores in zip(items, outputs, strict=True)
    ]
