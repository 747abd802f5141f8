"""Formats: how examples become tensors, the head on top, and how outputs become predictions.

Each format is a module with the functions of `Format`; `FORMATS` names them all. Torch is imported
by the modules, not here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from adapters_xtl.formats._items import Item, Lengths, Tokenizer

__all__ = ["FORMATS", "Format", "load"]

FORMATS = {
    "classify": "adapters_xtl.formats.classify",
    "choice": "adapters_xtl.formats.choice",
    "span": "adapters_xtl.formats.span",
    "tag": "adapters_xtl.formats.tag",
    "retrieve": "adapters_xtl.formats.retrieve",
}


class Format(Protocol):
    """What a format's module provides. `labels` are the head's class names, empty where the format
    has none.
    """

    def encode(
        self,
        examples: Sequence[Mapping[str, Any]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """Items in the order of the examples; an example may give several (windows). `train` keeps
        only what teaches.
        """

    def collate(
        self, items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1
    ) -> dict[str, torch.Tensor]:
        """A padded batch: input_ids, attention_mask (B, T), token_type_ids where the tokenizer has
        them, gold.
        """

    def head(self, hidden: int, labels: Sequence[str], dropout: float) -> nn.Module:
        """A fresh head. `head(states, batch)` maps (B, T, hidden) to outputs; `head.loss(outputs,
        batch)` to a scalar.
        """

    def outputs(self, outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """One float32 array an item, padding cut off."""

    def decode(
        self,
        examples: Sequence[Mapping[str, Any]],
        items: Sequence[Item],
        outputs: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> list[dict[str, Any]]:
        """One prediction an example, in their order, as JSON-ready values; what is needed to score
        it is in it.
        """


def load(name: str) -> Format:
    return cast(Format, importlib.import_module(FORMATS[name]))
