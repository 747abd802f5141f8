"""Frozen linear layers in the compute type while a training runs.

Under autocast every product casts its float32 weight, and for a frozen one the result is the same
at every step (torch keeps it for the length of one forward pass only where it trains). Cast before
the first step, it is the same tensor: no bit of a training changes. Autograd keeps a step's casts
for the backward pass anyway, so that without recomputation a step's peak stays what it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

__all__ = ["cast_once"]


@contextlib.contextmanager
def cast_once(layers: Iterable[nn.Linear], dtype: str) -> Iterator[int]:
    """Puts what is frozen and float32 in these layers into `dtype`, and at the end the very tensors
    back that were there. Gives the number of tensors.

    The layers' weights and biases must be read by products under autocast in `dtype` alone.
    """
    compute: torch.dtype = getattr(torch, dtype)
    stored: list[tuple[torch.Tensor, torch.Tensor]] = []
    if compute != torch.float32:
        stored = [
            (parameter, parameter.data)
            for layer in layers
            for parameter in (layer.weight, layer.bias)
            if parameter is not None
            and parameter.dtype == torch.float32
            and not parameter.requires_grad
        ]
    try:
        for parameter, value in stored:
            parameter.data = value.to(compute)
        yield len(stored)
    finally:
        for parameter, value in stored:
            parameter.data = value
