"""LoRA layers that compute a training step in less time, in place of peft's own while it trains.

peft casts a layer's input to the type of its float32 modules, draws dropout in that type, and makes
the update W x + (B A) x in four passes over the outputs. Here the input is cast once to the compute
type, dropout is drawn in it, and the product with B is added to W x where it lies. Sums are rounded
otherwise, so that this is part of a run's identity (`train.lora=fused`). Evaluation goes through
peft's layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from adapters_xtl.training.faster_layers import dropped

__all__ = ["fused_lora"]


@contextlib.contextmanager
def fused_lora(model: nn.Module, choice: str, masks: str) -> Iterator[int]:
    """LoRA layers of the model as `train.lora` says, dropout as `train.dropout_masks` says, until
    the context ends. Gives the number of layers that are replaced: those of `nn.Linear` layers
    whose modules are plain LoRA.
    """
    replaced: list[Any] = []
    try:
        if choice == "fused":
            from peft.tuners.lora import Linear  # a training without LoRA does not read peft

            for layer in model.modules():
                if type(layer) is Linear and _plain(layer):
                    layer.forward = partial(_forward, layer, masks, layer.forward)
                    replaced.append(layer)
        yield len(replaced)
    finally:
        for layer in replaced:
            del layer.forward  # the class's own is there again


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


def _forward(
    layer: Any, masks: str, usual: Any, states: torch.Tensor, *arguments: Any, **options: Any
) -> torch.Tensor:
    """(..., inputs) → (..., outputs) in the compute type; `usual` is peft's forward."""
    if not layer.training or arguments or options or layer.disable_adapters or layer.merged:
        result: torch.Tensor = usual(states, *arguments, **options)
        return result
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
