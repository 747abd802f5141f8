"""Layers that are to make a training step shorter on a CPU, in place of the libraries' own while a
training runs: dropout whose masks are random bytes, explicit attention
(`benchmarks/train_speed.py` measures them).

Both draw other random numbers or round otherwise than torch's own, so that each is part of a run's
identity (`train.dropout_masks`, `train.attention`). In evaluation these layers call the libraries'
own forward passes; what scoring replaces is in `first_token` and `fused_lora`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "byte_factors",
    "byte_rate",
    "draws_from",
    "dropped",
    "dropped_unscaled",
    "faster_layers",
]

BYTES = 256
# whole numbers of the size of a floating-point number, whose bits they are read as
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

_of_thread = threading.local()


@contextlib.contextmanager
def draws_from(seed: int) -> Iterator[None]:
    """Masks of bytes are drawn from this seed in this thread, until the context ends."""
    _of_thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        del _of_thread.generator


def byte_rate(rate: float) -> float:
    """The dropout rate that random bytes give for `rate`: the nearest multiple of 1/256, and
    neither 0 nor 1 where `rate` is not. 0.1 → 26/256 = 0.1016.
    """
    return min(BYTES - 1, max(1, round(rate * BYTES))) / BYTES if 0 < rate < 1 else rate


def _random_bytes(count: int) -> torch.Tensor:
    """Bytes, each of the 256 values with the same probability.

    They are those of SFC64 (C. Doty-Humphrey's generator, in numpy), which is several times faster
    than torch's, from a seed that torch's generator draws (`draws_from`'s, else the process's): who
    keeps the state of the one has kept all that is random.
    """
    generator = getattr(_of_thread, "generator", None)
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    words = np.random.SFC64(seed).random_raw(-(-count // 8))
    return torch.from_numpy(words.view(np.uint8))[:count]


@torch.library.custom_op(
    "adapters_xtl::byte_factors",
    mutates_args=(),
    schema="(SymInt[] shape, float rate, ScalarType dtype, Device device) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
def byte_factors(
    shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """What dropout multiplies by: 0 with the probability `byte_rate(rate)`, else what keeps the
    mean; a random byte decides an element.

    It is an operator, which compiled layers call as it is: torch does not compile such draws.
    """
    dropped = round(byte_rate(rate) * BYTES)
    scale = torch.tensor(BYTES / (BYTES - dropped) if dropped < BYTES else 0, dtype=dtype)
    # products of whole numbers are faster than those of bfloat16: 0 or 1 times the scale's bits
    bits = int(scale.view(BITS[dtype.itemsize]))
    kept = _kept(shape, dropped).to(BITS[dtype.itemsize])
    return kept.mul_(bits).view(dtype).to(device)


@byte_factors.register_fake
def _(shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=device)


@torch.library.custom_op(
    "adapters_xtl::byte_bits",
    mutates_args=(),
    schema="(SymInt[] shape, float rate, ScalarType dtype, Device device) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
def byte_bits(
    shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The same as bits to keep of each element, which are all or none: whole numbers, -1 or 0."""
    dropped = round(byte_rate(rate) * BYTES)
    kept = _kept(shape, dropped).neg_().view(torch.int8)
    return kept.to(BITS[dtype.itemsize]).to(device)


@byte_bits.register_fake
def _(shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=BITS[dtype.itemsize], device=device)


def _kept(shape: Sequence[int], dropped: int) -> torch.Tensor:
    """1 where an element is kept, else 0; `dropped` of 256 bytes drop one."""
    drawn = _random_bytes(math.prod(shape)).view(tuple(shape))
    return drawn.ge_(dropped) if dropped < BYTES else drawn.zero_()


class _KeepBits(torch.autograd.Function):
    """The elements whose bits are kept, 0 in place of the others; so does its gradient."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(bits)
        return (states.view(bits.dtype) & bits).view(states.dtype)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (bits,) = context.saved_tensors
        return (gradient.view(bits.dtype) & bits).view(gradient.dtype), None


def dropped(states: torch.Tensor, rate: float, masks: str) -> torch.Tensor:
    """Dropout at a rate, masks as `train.dropout_masks` says."""
    if not rate:
        return states
    if masks == "bytes":
        factors: torch.Tensor = byte_factors(states.shape, rate, states.dtype, states.device)
        return states * factors
    return F.dropout(states, rate)


def dropped_unscaled(states: torch.Tensor, rate: float, masks: str) -> tuple[torch.Tensor, float]:
    """The same as a tensor and the number to multiply it by, or what is computed from it."""
    if masks == "bytes" and 0 < rate < 1:
        bits = byte_bits(states.shape, rate, states.dtype, states.device)
        kept: torch.Tensor = _KeepBits.apply(states, bits)  # type: ignore[no-untyped-call]
        return kept, 1 / (1 - byte_rate(rate))
    return dropped(states, rate, masks), 1.0


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
                float32; "sdpa" (with masks of bytes): all in float32, as torch computes it on a
                CPU with dropout
    """
    heads, size = layer.num_attention_heads, layer.attention_head_size
    device = states.device.type
    if torch.is_autocast_enabled(device):
        # once for the three layers, each of which would otherwise
        compute, of_all = torch.get_autocast_dtype(device), queried is states
        states = states.to(compute)
        queried = states if of_all else queried.to(compute)
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

    A layer gets another class, all of one kind the same: a compiler takes them for the same code.
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
