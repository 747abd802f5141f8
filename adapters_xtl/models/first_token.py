"""The encoder's last layer at `<s>` alone, for heads that read nothing else.

Its keys and values are those of all tokens; queries, attention, the feed-forward part and the
modules in them are computed for one token of each sequence. Its states are the same up to rounding,
at about a sixth of the FLOPs of the layer's matrix products. In training the dropout masks are
others, so that there it is part of a run's identity (`train.last_layer`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapters_xtl import formats
from adapters_xtl.models.network import Model

__all__ = ["first_token_alone", "is_first_token_layer"]


@contextlib.contextmanager
def first_token_alone(model: Model, wanted: bool = True) -> Iterator[bool]:
    """The model with its last layer at the first token, until the context ends: its states are (B,
    1, hidden). Gives False, and changes nothing, where a head or a gate reads every token.
    """
    forms = [formats.load(spec.format) for spec in model.specs.values()]
    layer: Any = model.last_layer
    library: Any = type(layer)
    possible = wanted and not any(form.reads_every_token or not form.has_head for form in forms)
    # a gate of a bottleneck is a mean over all tokens of its sequence
    possible = possible and not any(getattr(part, "use_gating", False) for part in layer.modules())
    if not possible or is_first_token_layer(layer):
        yield possible
        return
    layer.__class__ = _first_token_class(library)
    try:
        yield True
    finally:
        layer.__class__ = library


def is_first_token_layer(layer: nn.Module) -> bool:
    return getattr(layer, "computes_first_token", False)


@functools.cache
def _first_token_class(library: Any) -> type:
    """A library's class of layers with a forward pass at the first token."""

    def forward(
        layer: Any,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *arguments: Any,
        **options: Any,
    ) -> tuple[torch.Tensor]:
        first = hidden_states[:, :1]
        mixed = _attended(layer.attention.self, first, hidden_states, attention_mask)
        return (layer.feed_forward_chunk(layer.attention.output(mixed, first)),)

    return type(library.__name__, (library,), {"forward": forward, "computes_first_token": True})


def _attended(
    attention: Any, first: torch.Tensor, states: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The output of self-attention at the first tokens: (B, 1, hidden), (B, T, hidden) → (B, 1,
    hidden).
    """
    if attention.position_embedding_type != "absolute":  # its scores depend on relative positions
        whole: torch.Tensor = attention(states, attention_mask=mask)[0]
        return whole[:, :1]
    if mask is not None:
        mask = mask[:, :, :1]
    if attention.training and hasattr(attention, "attend"):  # see `models.faster_layers`
        mixed: torch.Tensor = attention.attend(first, states, mask)
        return mixed
    heads = attention.num_attention_heads, attention.attention_head_size
    query, key, value = (
        part(given).unflatten(-1, heads).transpose(1, 2)
        for part, given in (
            (attention.query, first),
            (attention.key, states),
            (attention.value, states),
        )
    )
    rate = attention.dropout_prob if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
    return mixed.transpose(1, 2).flatten(2)
