"""LoRA layers with fewer casts, reads and writes than peft's own, in whose place they compute.

peft casts a layer's input to the type of its float32 modules, draws dropout in that type, and
computes W x, B A x, its scaling and the sum one after the other over the outputs. Here the input is
cast once to the compute type, dropout is drawn in it, and s B A x is added to W x in place. Sums
are rounded otherwise, so that in training this is part of a run's identity (`train.lora=fused`). On
a CPU scoring always uses these layers, whatever `train.lora` says.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapters_xtl.models.dropout_masks import dropped

__all__ = ["fused_lora"]


@contextlib.contextmanager
def fused_lora(model: nn.Module, choice: str, masks: str) -> Iterator[int]:
    """LoRA layers of the model as `train.lora` says, their dropout in training as
    `train.dropout_masks` says, until the context ends. Gives the number of layers that are
    replaced: those of `nn.Linear` layers whose modules are plain LoRA.
    """
    replaced: list[tuple[nn.Module, type]] = []
    try:
        if choice == "fused" and "peft" in sys.modules:  # without it there is no such layer
            from peft.tuners.lora import Linear

            library: Any = Linear
            fused = _fused_class(library, masks)
            for layer in model.modules():
                if type(layer) is Linear and _plain(layer):
                    replaced.append((layer, Linear))
                    layer.__class__ = fused
        yield len(replaced)
    finally:
        for layer, before in replaced:
            layer.__class__ = before


@functools.cache
def _fused_class(library: Any, masks: str) -> type:
    """peft's class with a forward pass of its own: one class for all layers, so that
    torch.compile compiles its code once.
    """

    def forward(layer: Any, states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if arguments or options or layer.disable_adapters or layer.merged:
            return library.forward(layer, states, *arguments, **options)
        return _forward(layer, masks, states)

    return type(library.__name__, (library,), {"forward": forward})


def _plain(layer: Any) -> bool:
    """Whether the layer is W x + s B A drop(x) for every module it holds: no DoRA and the like, no
    bias of its own, no weight that lies transposed.
    """
    return (
        type(layer.base_layer) is nn.Linear
        and not layer.fan_in_fan_out
        and not layer.lora_variant
        and not layer.lora_magnitude_vector
        and not any(layer.lora_bias.values())
    )


def _forward(layer: Any, masks: str, states: torch.Tensor) -> torch.Tensor:
    """(..., inputs) → (..., outputs) in the compute type."""
    device = states.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    base = layer.base_layer
    with torch.autocast(device, enabled=False):
        flat = states.flatten(0, -2).to(kind)
        weight = base.weight.to(kind).t()
        sums: torch.Tensor = (
            flat @ weight if base.bias is None else torch.addmm(base.bias.to(kind), flat, weight)
        )
        for name in layer.active_adapters:
            if name not in layer.lora_A:
                continue
            dropout = layer.lora_dropout[name]
            rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
            inner = dropped(flat, rate, masks) @ layer.lora_A[name].weight.to(kind).t()
            outer = layer.lora_B[name].weight.to(kind).t()
            sums = sums.addmm_(inner * layer.scaling[name], outer)
    return sums.view(*states.shape[:-1], sums.shape[-1])
