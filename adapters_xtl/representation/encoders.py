"""Vectors of units at every layer, by a trained stack, the bare backbone, or random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters_xtl import formats
from adapters_xtl.backbones import loading
from adapters_xtl.evaluation import retrieval
from adapters_xtl.formats import Item, Lengths, text_items
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Model
from adapters_xtl.representation.parallel_items import Unit

__all__ = ["random_model", "token_ids", "unit_vectors"]

Array = np.ndarray[Any, Any]


def random_model(context: Context, seed: int) -> Model:
    """An encoder of the backbone's sizes whose weights are random, without modules or heads."""
    encoder, tokenizer = loading.random_encoder(context.plan.backbone, seed, context.plan.device)
    return Model(encoder, tokenizer, {})


def unit_vectors(model: Model, units: Sequence[Unit], device: str, dtype: str) -> Array:
    """The mean of the hidden states of each unit's tokens at every layer (0: embeddings): (units,
    layers + 1, hidden) float32. What retrieval scores is pooled in the same way.
    """
    return retrieval.embed(
        model,
        _pooling_format(),
        _items(model, units),
        layers=range(model.layers + 1),
        device=device,
        dtype=dtype,
    )


def token_ids(model: Model, units: Sequence[Unit]) -> list[Array]:
    """The token ids of each unit as the encoder reads them, but for special tokens."""
    special = np.array(model.tokenizer.all_special_ids)
    return [ids[~np.isin(ids, special)] for item in _items(model, units) for ids in item.ids]


def _items(model: Model, units: Sequence[Unit]) -> list[Item]:
    firsts = [unit.texts[0] for unit in units]
    seconds = [unit.texts[1] if len(unit.texts) > 1 else None for unit in units]
    lengths = Lengths(retrieval.sentence_length(model))
    return text_items(model.tokenizer, lengths, firsts, seconds, [{} for _ in units])


def _pooling_format() -> str:
    """The format that makes one vector of a sequence's states."""
    return next(name for name in formats.names() if not formats.load(name).has_head)
