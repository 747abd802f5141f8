"""What all formats share: an item (what one forward pass sees of an example), lengths, padding, dense heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase as Tokenizer

__all__ = ["IGNORED", "Item", "Lengths", "Projection", "Tokenizer", "encode_batch", "pad"]

IGNORED = -100  # torch's cross_entropy skips this target


@dataclass(frozen=True)
class Lengths:
    """`max_length`: longest input in tokens, special ones included; `stride`: tokens that neighbouring windows share."""

    max_length: int = 128
    stride: int = 128


@dataclass(slots=True)
class Item:
    """One or more token sequences (more for `choice`) that belong to example number `owner`.

    ids and types are int32 arrays, one a sequence; `gold` holds what the loss needs; `extra` what decoding needs.
    `cut` counts the tokens that did not fit.
    """

    owner: int
    ids: tuple[np.ndarray, ...]
    types: tuple[np.ndarray, ...] | None = None
    gold: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    cut: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(ids) for ids in self.ids)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(ids) for ids in self.ids)


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int,
                 truncation: str = "longest_first") -> list[tuple[np.ndarray, np.ndarray | None, int]]:  # fmt: skip
    """(ids, types or None, tokens cut off) for each text or text pair."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), list(pairs) if pairs is not None else None, truncation=truncation, max_length=max_length,
        return_overflowing_tokens=False,
    )  # fmt: skip
    types = encoded.get("token_type_ids") if "token_type_ids" in tokenizer.model_input_names else None
    result = []
    for number, ids in enumerate(encoded["input_ids"]):
        overflow = encoded.encodings[number].overflowing if encoded.encodings else []
        cut = sum(sum(1 for flag in rest.special_tokens_mask if not flag) for rest in overflow)
        kind = np.asarray(types[number], dtype=np.int32) if types is not None else None
        result.append((np.asarray(ids, dtype=np.int32), kind, cut))
    return result


def pad(items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> dict[str, torch.Tensor]:
    """All sequences of all items, item by item, padded to the longest (rounded up to `multiple`)."""
    sequences = [ids for item in items for ids in item.ids]
    width = -(-max(len(ids) for ids in sequences) // multiple) * multiple
    ids = np.full((len(sequences), width), tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if items[0].types is not None:
        types = np.zeros((len(sequences), width), dtype=np.int64)
        for row, kind in enumerate(kind for item in items for kind in item.types or ()):
            types[row, : len(kind)] = kind
        batch["token_type_ids"] = torch.from_numpy(types)
    return batch


class Projection(nn.Module):
    """A sequence head as XLM-R's own: `<s>` → dropout → dense → tanh → dropout → out. (B, T, hidden) → (B, size)."""

    def __init__(self, hidden: int, size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, size)
        for layer in (self.dense, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        first = self.dropout(states[:, 0])
        out: torch.Tensor = self.out(self.dropout(torch.tanh(self.dense(first))))
        return out
