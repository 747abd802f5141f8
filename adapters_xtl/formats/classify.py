"""Classification of one text or a pair of texts."""

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
    """One item an example; a pair that is too long loses tokens from its longer side, counted in
    `cut`.
    """
    texts = [example["text"] for example in examples]
    encoded = encode_batch(
        tokenizer, texts, [example.get("pair") for example in examples], lengths.max_length
    )
    index: dict[Any, int] = {label: number for number, label in enumerate(labels)}
    items = [
        Item(
            owner,
            (ids,),
            None if types is None else (types,),
            {"label": index.get(examples[owner].get("label"), IGNORED)},
            cut=cut,
        )
        for owner, (ids, types, cut) in enumerate(encoded)
    ]
    return [item for item in items if not train or item.gold["label"] != IGNORED]


def collate(
    items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
) -> dict[str, torch.Tensor]:
    batch = pad(items, tokenizer, multiple)
    batch["labels"] = torch.tensor([item.gold["label"] for item in items])
    return batch


class _Head(Projection):
    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(outputs, batch["labels"])


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """(B, T, hidden) → (B, number of labels)."""
    return _Head(hidden, len(labels), dropout)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """Logits, (number of labels,) an item."""
    return list(outputs.float().cpu().numpy())


def decode(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """{"id", "prediction": name, "gold": name or None, "probabilities": {name: share}}."""
    predictions = []
    for item, logits in zip(items, outputs, strict=True):
        example = examples[item.owner]
        shares = softmax(logits)
        predictions.append(
            {
                "id": example.get("id"),
                "prediction": labels[int(logits.argmax())],
                "gold": example.get("label"),
                "probabilities": {
                    label: round(float(share), 6)
                    for label, share in zip(labels, shares, strict=True)
                },
            }
        )
    return predictions
