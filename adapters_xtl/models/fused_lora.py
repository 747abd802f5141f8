"""LoRA layers with fewer casts and fewer passes over memory than peft's own, in whose place they
compute.

peft casts a layer's input to the type of its float32 modules, draws dropout in that type, and
computes W x, B A x, its scaling and the sum one after the other over the outputs. Here the input is
cast once to the compute type, dropout is drawn in it, and s B A x is added to W x in place. Sums
are rounded otherwise, so that in training this is part of a run's identity (`train.lora=fused`). On
a CPU scores are computed through these layers whatever a training has.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from adapters_xtl.models.dropout_masks import dropped

__all__ = ["fused_lora", "outputs"]


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
    """peft's class with a forward pass of its own: one class, which a compiler takes for one code
    whatever the layer.
    """

    def forward(layer: Any, states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if arguments or options or not _computes(layer):
            return library.forward(layer, states, *arguments, **options)
        return _outputs((layer,), masks, states)[0]

    return type(library.__name__, (library,), {"forward": forward, "fused_masks": masks})


def outputs(layers: Sequence[Any], states: torch.Tensor) -> list[torch.Tensor]:
    """What each of several layers gives for the same states, (..., inputs) → (..., outputs). LoRA
    layers that are fused are computed together: A of all of them is one product.
    """
    fused = [getattr(type(layer), "fused_masks", "") for layer in layers]
    if fused[0] and fused == fused[:1] * len(layers) and all(map(_computes, layers)):
        return _outputs(layers, fused[0], states)
    return [layer(states) for layer in layers]


def _computes(layer: Any) -> bool:
    """Whether the modules of a fused layer are to be added to what it gives."""
    return not layer.disable_adapters and not layer.merged


def _plain(layer: Any) -> bool:
    """Whether the layer is W x + s B A drop(x) for every module it holds: W frozen, no DoRA and the
    like, no bias of a module's own, no weight that lies transposed.
    """
    return (
        type(layer.base_layer) is nn.Linear
        and not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
        and not layer.fan_in_fan_out
        and not layer.lora_variant
        and not layer.lora_magnitude_vector
        and not any(layer.lora_bias.values())
    )


def _rate(dropout: nn.Module) -> float:
    return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0


def _outputs(layers: Sequence[Any], masks: str, states: torch.Tensor) -> list[torch.Tensor]:
    """(..., inputs) → (..., outputs) of each layer, in the compute type."""
    device = states.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    modules = [
        _Module(
            number,
            layer.lora_A[name].weight,
            layer.lora_B[name].weight,
            layer.scaling[name],
            _rate(layer.lora_dropout[name]),
        )
        for number, layer in enumerate(layers)
        for name in layer.active_adapters
        if name in layer.lora_A
    ]
    with torch.autocast(device, enabled=False):
        flat = states.flatten(0, -2).to(kind)
        weights = [layer.base_layer.weight.to(kind) for layer in layers]
        biases = [
            None if layer.base_layer.bias is None else layer.base_layer.bias.to(kind)
            for layer in layers
        ]
        if any(module.rate for module in modules):
            sums = list(map(functools.partial(_product, flat), weights, biases))
            for module in modules:
                inner = dropped(flat, module.rate, masks) @ module.down.to(kind).t()
                sums[module.layer].addmm_(inner * module.scaling, module.up.to(kind).t())
        else:
            place = tuple((module.layer, module.scaling) for module in modules)
            downs = [module.down for module in modules]
            ups = [module.up for module in modules]
            sums = list(_Sums.apply(flat, place, *weights, *biases, *downs, *ups))  # type: ignore[no-untyped-call]
    return [part.view(*states.shape[:-1], part.shape[-1]) for part in sums]


class _Module(NamedTuple):
    """A LoRA module: the number of its layer, A (r, inputs), B (outputs, r), s, dropout's rate."""

    layer: int
    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    rate: float


def _product(flat: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())


class _Sums(torch.autograd.Function):
    """W x + s B A x of layers with one input x (N, inputs) and any number of modules each.

    A of all modules lie one below the other, so that A x is one product, and so is their part of
    the input's gradient; sums are added up in place.
    """

    @staticmethod
    def forward(
        context: Any,
        flat: torch.Tensor,
        place: tuple[tuple[int, float], ...],
        *tensors: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        """`place`: the number of its layer and s, for each module. `tensors`: W and then the bias
        or None of each layer, A and then B of each module.
        """
        layers = (len(tensors) - 2 * len(place)) // 2
        weights: Any = tensors[:layers]
        downs: Any = tensors[2 * layers : 2 * layers + len(place)]
        given: Any = tensors[2 * layers + len(place) :]
        ups = [up.to(flat.dtype) for up in given]
        sums = [
            _product(flat, weight, bias)
            for weight, bias in zip(weights, tensors[layers : 2 * layers], strict=True)
        ]
        context.place, context.layers = place, layers
        context.sizes = [down.shape[0] for down in downs]
        if not place:
            context.save_for_backward(*weights)
            return tuple(sums)
        down = torch.cat([down.to(flat.dtype) for down in downs])
        inner = flat @ down.t()
        inners = torch.split(inner, context.sizes, 1)
        for (layer, scaling), part, up in zip(place, inners, ups, strict=True):
            sums[layer].addmm_(part.mul_(scaling), up.t())
        context.save_for_backward(*weights, flat, down, inner, *ups)
        return tuple(sums)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        place, layers = context.place, context.layers
        weights, rest = context.saved_tensors[:layers], context.saved_tensors[layers:]
        gradients = tuple(gradient.contiguous() for gradient in gradients)
        of_input: torch.Tensor | None = None
        if context.needs_input_grad[0]:
            of_input = gradients[0] @ weights[0]
            for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
                of_input.addmm_(gradient, weight)
        if not place:
            return of_input, None, *[None] * 2 * layers
        flat, down, inner, *ups = rest
        of_inner = torch.cat(
            [
                (gradients[layer] @ up).mul_(scaling)
                for (layer, scaling), up in zip(place, ups, strict=True)
            ],
            1,
        )
        if of_input is not None:
            of_input.addmm_(of_inner, down)
        trained = context.needs_input_grad[2 + 2 * layers :][: len(place)]
        of_downs: list[torch.Tensor | None] = [None] * len(place)
        of_ups: list[torch.Tensor | None] = [None] * len(place)
        if any(trained):
            parts = torch.split(inner, context.sizes, 1)
            of_down = torch.split((of_inner.t() @ flat).float(), context.sizes)
            for number, (layer, _) in enumerate(place):
                if trained[number]:
                    of_downs[number] = of_down[number]
                    of_ups[number] = (gradients[layer].t() @ parts[number]).float()
        return of_input, None, *[None] * 2 * layers, *of_downs, *of_ups
