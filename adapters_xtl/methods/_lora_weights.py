"""LoRA as part of the encoder's own weights, for good or for a while.

In evaluation a linear layer with LoRA is an affine map of its input, whatever its options: its
matrix and bias are read off its outputs for the unit vectors and for zero, in float64. The
library's own merging is not used: where it adds one module after another, a DoRA module above
others takes its norm of another matrix than in the forward pass.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["write_in", "written_in"]


def write_in(encoder: nn.Module) -> None:
    """Writes the map of every layer with LoRA into the layer itself, in the type of its weight."""
    from torch import nn as layers

    for layer in _layers(encoder):
        base = layer.get_base_layer()
        weight, bias = _affine(layer)
        base.weight.data.copy_(weight)
        if base.bias is not None:
            base.bias.data.copy_(bias)
        elif bias.any():
            base.bias = layers.Parameter(bias.to(base.weight), requires_grad=False)


@contextlib.contextmanager
def written_in(encoder: nn.Module, dtype: str) -> Iterator[None]:
    """A context in which the layers with LoRA compute their maps as plain layers, in `dtype`
    ("float32": in the type of their weights). See `Method.merged`.
    """
    import torch
    from torch import nn as layers

    stored: list[tuple[Any, Any, Any, Any]] = []
    try:
        for layer in _layers(encoder):
            base: Any = layer.get_base_layer()
            weight, bias = _affine(layer)
            kind = base.weight.dtype if dtype == "float32" else getattr(torch, dtype)
            stored.append((layer, base, base.weight, base.bias))
            base.weight = layers.Parameter(weight.to(kind), requires_grad=False)
            if base.bias is not None or bias.any():
                base.bias = layers.Parameter(bias.to(kind), requires_grad=False)
            layer.forward = base.forward
        yield
    finally:
        for layer, base, own_weight, own_bias in stored:
            base.weight, base.bias = own_weight, own_bias
            layer.__dict__.pop(
                "forward", None
            )  # back to the class's; the loop above may have ended early


def _layers(encoder: nn.Module) -> list[Any]:
    from peft.tuners.lora import Linear

    return [part for part in encoder.modules() if isinstance(part, Linear)]


def _affine(layer: Any) -> tuple[Any, Any]:
    """(weight, bias) in float64 of the map; the bias is 0 where it has none."""
    import torch

    base = layer.get_base_layer()
    with torch.no_grad():
        exact = copy.deepcopy(layer).double().eval()
        size, device = base.in_features, base.weight.device
        bias = exact(torch.zeros(1, size, dtype=torch.float64, device=device))
        units = torch.eye(size, dtype=torch.float64, device=device)
        return (exact(units) - bias).T, bias[0]
