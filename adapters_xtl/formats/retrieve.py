"""Sentence retrieval: texts become vectors, the mean of their tokens' hidden states. Nothing is
trained.

Tatoeba's examples are pairs (two items each), BUCC's are single sentences of one side; its gold
pairs give no item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters_xtl.base.errors import RunError
from adapters_xtl.formats._items import Item, Lengths, Tokenizer, encode_batch, pad

__all__ = ["SIDES", "collate", "decode", "encode", "head", "outputs", "pool", "sides"]

SIDES = ("source", "target")


def _texts(example: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(side, text) of what is embedded."""
    if "part" not in example:
        return [(side, example[side]) for side in SIDES]
    return [(example["part"], example["sentence"])] if example["part"] in SIDES else []


def encode(
    examples: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    lengths: Lengths,
    *,
    train: bool,
) -> list[Item]:
    """One item a sentence; `extra["side"]` is "source" or "target"."""
    found = [
        (owner, side, text)
        for owner, example in enumerate(examples)
        for side, text in _texts(example)
    ]
    encoded = encode_batch(tokenizer, [text for _, _, text in found], None, lengths.max_length)
    return [
        Item(owner, (ids,), None if types is None else (types,), extra={"side": side}, cut=cut)
        for (owner, side, _), (ids, types, cut) in zip(found, encoded, strict=True)
    ]


def collate(
    items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
) -> dict[str, torch.Tensor]:
    return pad(items, tokenizer, multiple)


class _Head(nn.Module):
    def forward(self, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return states

    def loss(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        raise RunError("retrieval trains nothing: it has no loss")


def head(hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
    """No parameters: (B, T, hidden) → the same. RunError when a loss is asked for."""
    return _Head()


def pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of each sequence, special ones included (as XTREME): (B, T, H), (B, T) →
    (B, H) float32.
    """
    weights = mask.to(torch.float32).unsqueeze(-1)
    return (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1)


def outputs(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    """Mean-pooled hidden states, (hidden,) an item."""
    return list(pool(outputs, batch["attention_mask"]).cpu().numpy())


def decode(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """{"id", "source": vector, "target": vector} an example, whichever sides it has (BUCC's gold
    pairs: none).

    Neighbours are found over whole sides: see `sides` and `adapters_xtl.metrics.mining`.
    """
    predictions: list[dict[str, Any]] = [{"id": example.get("id")} for example in examples]
    for item, vector in zip(items, outputs, strict=True):
        predictions[item.owner][item.extra["side"]] = [float(value) for value in vector]
    return predictions


def sides(
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    vectors: Sequence[np.ndarray] | np.ndarray,
) -> dict[str, dict[str, Any]]:
    """{"source" and "target": {"ids": [id, …], "texts": [text, …], "vectors": (n, hidden)
    float32}}, in file order.
    """
    width = len(vectors[0]) if len(vectors) else 0
    found: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        rows = [number for number, item in enumerate(items) if item.extra["side"] == side]
        owners = [examples[items[row].owner] for row in rows]
        found[side] = {
            "ids": [owner.get("id") for owner in owners],
            "texts": [dict(_texts(owner))[side] for owner in owners],
            "vectors": np.array([vectors[row] for row in rows], dtype=np.float32).reshape(
                len(rows), width
            ),
        }
    return found
