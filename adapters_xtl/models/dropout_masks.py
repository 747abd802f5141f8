"""Dropout whose masks are random bytes (`train.dropout_masks=bytes`): other draws than torch's own,
so that the choice is part of a run's identity.
"""

from __future__ import annotations

import contextlib
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
    """Masks of bytes are drawn from this seed in this thread, until the context ends."""
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

    They come from numpy's SFC64, which draws about twice as many a second as torch's generator. Its
    seed is drawn by torch's (`draws_from`'s, else the process's), so that restoring the state of
    that one repeats the bytes.
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
    below = round(byte_rate(rate) * BYTES)
    drawn = _random_bytes(math.prod(shape)).view(tuple(shape))
    kept = drawn.ge_(below) if below < BYTES else drawn.zero_()
    scale = torch.tensor(BYTES / max(1, BYTES - below), dtype=dtype)
    # 0 or 1 times the bits of the scale: products of integers are faster than those of bfloat16
    integer = INTEGERS[dtype.itemsize]
    return kept.to(integer).mul_(int(scale.view(integer))).view(dtype).to(device)


@byte_factors.register_fake
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
