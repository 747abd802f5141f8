"""Faster layers for training on a CPU, in place of the libraries' own while a training runs:
dropout whose masks come from random bytes, and attention as softmax(Q K^T) V
(`benchmarks/train_speed.py` measures them).

Torch's kernel of attention takes no masks of ours: with masks from bytes attention is always
computed in this way, and `train.attention` only says in which type: `sdpa` in float32, `eager` in
that of autocast. Under autocast the states are cast once for query, key and value, whose gradients
then add up in that type. Both settings draw other masks or round otherwise than torch's own, so
that each is part of a run's identity. In evaluation dropout and attention are the libraries' own;
what scoring replaces is in `first_token` and `fused_lora`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapters_xtl.models.dropout_masks import dropped

__all__ = ["faster_layers"]


class _ByteDropout(nn.Dropout):
    """Dropout by `byte_factors`."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return dropped(states, self.p, "bytes") if self.training else states


def _attend(
    layer: Any,
    masks: str,
    attention: str,
    queried: torch.Tensor,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None,
) -> torch.Tensor:
    """The self-attention of BERT, RoBERTa and XLM-R, from the tokens `queried` to all `states`: (B,
    Q, hidden), (B, T, hidden) → (B, Q, hidden).

    attention   "eager": in the type that the layer's query, key and value have, softmax in
                float32; "sdpa" (with masks from bytes): all in float32, as torch computes it on a
                CPU with dropout
    """
    heads, size = layer.num_attention_heads, layer.attention_head_size
    device = states.device.type
    if torch.is_autocast_enabled(device):
        # here, since each of the three layers would cast them again
        compute, same = torch.get_autocast_dtype(device), queried is states
        states = states.to(compute)
        queried = states if same else queried.to(compute)
    query, key, value = (
        part(given).unflatten(-1, (heads, size)).transpose(1, 2)
        for part, given in ((layer.query, queried), (layer.key, states), (layer.value, states))
    )
    kind = query.dtype
    with torch.autocast(device, enabled=False):
        if attention == "sdpa":
            query, key, value = query.float(), key.float(), value.float()
        scores = torch.matmul(query * size**-0.5, key.transpose(-1, -2))
        if attention_mask is not None:
            scores = scores + attention_mask
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
        mixed = torch.matmul(dropped(weights, layer.dropout_prob, masks), value)
    return mixed.to(kind).transpose(1, 2).flatten(2)


@functools.cache
def _attention_class(library: Any, masks: str, attention: str) -> type:
    """`_attend` as the training pass of a library's class of attention layers."""

    def forward(
        layer: Any,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        if layer.training:
            return _attend(layer, masks, attention, states, states, attention_mask), None
        return library.forward(layer, states, attention_mask, *arguments, **options)

    def attend(
        layer: Any,
        queried: torch.Tensor,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        return _attend(layer, masks, attention, queried, states, attention_mask)

    return type(library.__name__, (library,), {"forward": forward, "attend": attend})


@contextlib.contextmanager
def faster_layers(model: nn.Module, masks: str, attention: str) -> Iterator[int]:
    """Dropout and self-attention of the model as `train.dropout_masks` and `train.attention` say,
    until the context ends. Gives the number of layers that are replaced.

    All layers of one class get the same new class, so that torch.compile compiles them once.
    """
    replaced: list[tuple[nn.Module, type]] = []
    try:
        for layer in model.modules():
            instead = _replacement(layer, masks, attention)
            if instead is not None:
                replaced.append((layer, type(layer)))
                layer.__class__ = instead
        yield len(replaced)
    finally:
        for layer, library in replaced:
            layer.__class__ = library


def _replacement(layer: Any, masks: str, attention: str) -> type | None:
    if masks == "bytes" and type(layer) is nn.Dropout:
        return _ByteDropout
    # the attention that transformers has for `sdpa`, with the changes of `adapters` or without;
    # with relative positions it is explicit attention with a dropout layer already
    is_attention = hasattr(layer, "dropout_prob") and hasattr(layer, "query")
    if is_attention and layer.position_embedding_type == "absolute":
        if attention == "sdpa" and not (masks == "bytes" and layer.dropout_prob):
            return None
        library: Any = type(layer)
        return _attention_class(library, masks, attention)
    return None
