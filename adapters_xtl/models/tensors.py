"""An encoder's tensors by name, their digests, and the type in which they are multiplied."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["autocast", "tensor_digest", "tensors_of"]


def autocast(device: str, dtype: str) -> Any:
    """Context in which matrix products run in `dtype`; "float32": as the weights are."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=getattr(torch, dtype))


def tensors_of(encoder: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Its parameters and buffers, by name."""
    yield from encoder.named_parameters()
    yield from encoder.named_buffers()


def tensor_digest(name: str, tensor: torch.Tensor) -> str:
    """sha256 over a tensor's name, shape and values.

    Of the values, not the type: bitsandbytes' int8 layers turn their bias into the type of what
    comes in, to and fro.
    """
    value = tensor.detach()
    exact = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    total = hashlib.sha256(f"{name} {tuple(exact.shape)} {exact.dtype}\n".encode())
    total.update(exact.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
