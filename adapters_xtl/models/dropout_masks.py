"""Dropout whose masks come from random bytes (`train.dropout_masks=bytes`): an element is dropped
where its byte is below a threshold. Other draws than torch's own, at a rate that is a multiple of
1/256, so that the choice is part of a run's identity.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["byte_factors", "byte_rate", "draws_from", "dropped"]

BYTES = 256
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their size in bytes

_of_thread = threading.local()


@contextlib.contextmanager
def draws_from(seed: int) -> Iterator[None]:
    """Masks from bytes are drawn from this seed in this thread, until the context ends."""
    before = getattr(_of_thread, "generator", None)
    _of_thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _of_thread.generator = before


def byte_rate(rate: float) -> float:
    """The dropout rate that random bytes give for `rate`: the nearest multiple of 1/256, and
    neither 0 nor 1 where `rate` is not. 0.1 → 26/256 = 0.1016.
    """
    return min(BYTES - 1, max(1, round(rate * BYTES))) / BYTES if 0 < rate < 1 else rate


def _random_bytes(count: int) -> torch.Tensor:
    """Bytes, each of the 256 values with the same probability.

    They come from numpy's SFC64, which draws about twice as many a second as torch's generator.
    That one (`draws_from`'s, else the process's) draws the state from which SFC64 goes on, so that
    restoring the state of torch's repeats the bytes.
    """
    fast = getattr(_of_thread, "fast", None)
    if fast is None:
        fast = _of_thread.fast = np.random.SFC64(0)
    generator = getattr(_of_thread, "generator", None)
    words = torch.empty(3, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    # SFC64's state is three random words and a count of its draws
    state = np.array([*words.numpy().view(np.uint64), 1], dtype=np.uint64)
    fast.state = {
        "bit_generator": "SFC64",
        "state": {"state": state},
        "has_uint32": 0,
        "uinteger": 0,
    }
    drawn = fast.random_raw(-(-count // 8))
    return torch.from_numpy(drawn.view(np.uint8))[:count]


@functools.cache
def _scale_bits(below: int, dtype: torch.dtype) -> int:
    """The bits of the scale 1 / (1 - below/256), which keeps the mean, as an integer of the same
    size.
    """
    scale = torch.tensor(BYTES / max(1, BYTES - below), dtype=dtype)
    return int(scale.view(INTEGERS[dtype.itemsize]))


def _factors(
    shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    below = round(byte_rate(rate) * BYTES)
    drawn = _random_bytes(math.prod(shape)).view(tuple(shape))
    kept = drawn.ge_(below) if below < BYTES else drawn.zero_()
    # 0 or 1 times the bits of the scale: products of integers are faster than those of bfloat16
    bits = kept.to(INTEGERS[dtype.itemsize]).mul_(_scale_bits(below, dtype))
    return bits.view(dtype).to(device)


_operator = torch.library.custom_op(
    "adapters_xtl::byte_factors",
    _factors,
    mutates_args=(),
    schema="(SymInt[] shape, float rate, ScalarType dtype, Device device) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)


def byte_factors(
    shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """What dropout multiplies by: 0 with the probability p = `byte_rate(rate)`, else 1 / (1 - p).
    One random byte decides for each element.

    Compiled layers call it as an operator of its own: torch.compile does not trace numpy's draws.
    """
    if torch.compiler.is_compiling():
        factors: torch.Tensor = _operator(shape, rate, dtype, device)
        return factors
    return _factors(shape, rate, dtype, device)


@_operator.register_fake
def _(shape: Sequence[int], rate: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def dropped(states: torch.Tensor, rate: float, masks: str) -> torch.Tensor:
    """Dropout at a rate, masks as `train.dropout_masks` says."""
    if not rate:
        return states
    if masks == "bytes":
        factors: torch.Tensor = byte_factors(states.shape, rate, states.dtype, states.device)
        return states * factors
    return F.dropout(states, rate)
