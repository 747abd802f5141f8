"""AdamW in 32 or 8 bits, which parameters it decays, and the linear learning-rate schedule.

The arithmetic is that of the Hugging Face `Trainer`, so that hyper-parameters found with it mean
the same here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import re
from collections.abc import Iterator

import torch
from torch import nn

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.extras import need
from adapters_xtl.runs.hyper import Hyper

__all__ = ["learning_rate", "make_optimizer"]

NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.|_)norm(?:$|\.)")
EIGHT_BIT_KERNEL = "bitsandbytes::optimizer_update_8bit_blockwise"


def learning_rate(updates: int, steps: int, hyper: Hyper) -> float:
    """The rate of the next update after `updates` of `steps`: rising linearly from 0 over the
    warm-up (`hyper.warmup` of the steps, rounded up), then falling linearly to 0.
    """
    warmup = math.ceil(steps * hyper.warmup)
    if updates < warmup:
        return hyper.lr * (updates / warmup)
    return hyper.lr * max(0.0, (steps - updates) / max(1, steps - warmup))


def _parameter_groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Everything that trains, in two groups: biases and the weights of norms do not decay."""
    norms = {
        f"{name}.{parameter}"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.LayerNorm)
        for parameter, _ in layer.named_parameters()
    }
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = name in norms or NOT_DECAYED.search(name.lower())
            (rest if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": rest, "weight_decay": 0.0},
    ]


@contextlib.contextmanager
def make_optimizer(model: nn.Module, hyper: Hyper, device: str) -> Iterator[torch.optim.Optimizer]:
    """AdamW over what trains in `model`, for as long as the context lasts.

    RequestError where bitsandbytes is not installed, or cannot run its 8-bit optimizer here.
    """
    groups = _parameter_groups(model, hyper.weight_decay)
    if hyper.optimizer == "adamw":
        # fused: one pass and no copies of all weights, on the CPU a tenth of the default's time
        yield torch.optim.AdamW(groups, lr=hyper.lr, fused=True)
        return
    need("the optimizer adamw8bit", "bitsandbytes")
    from bitsandbytes.optim import AdamW, GlobalOptimManager

    if not torch._C._dispatch_has_kernel_for_dispatch_key(EIGHT_BIT_KERNEL, device.upper()):
        version = importlib.metadata.version("bitsandbytes")
        raise RequestError(
            f"train.optimizer=adamw8bit: bitsandbytes {version} has no 8-bit optimizer for {device}"
        )
    manager = GlobalOptimManager.get_instance()
    try:
        optimizer: torch.optim.Optimizer = AdamW(groups, lr=hyper.lr, optim_bits=8)
        for layer in model.modules():
            if isinstance(layer, nn.Embedding):  # its rows' gradients are too uneven for 8 bits
                manager.register_module_override(layer, "weight", {"optim_bits": 32})
        yield optimizer
    finally:
        # the exceptions are global, by the parameters' position: not for the next training
        manager.initialize()
