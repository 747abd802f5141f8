"""Weights at 8 and 4 bits, as bitsandbytes has them: what is quantised, and what its layers do
beside their product.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.extras import need
from adapters_xtl.base.untrusted import printable

__all__ = [
    "NF4_BLOCK",
    "import_bitsandbytes",
    "quantisation_options",
    "settle_quantised_layers",
    "weight_dtype",
]

NF4_BLOCK = 64  # weights of a row that share one scale


def import_bitsandbytes() -> None:
    """Imports bitsandbytes where it is installed. To be called before peft and adapters import it,
    which they do at any number of bits.

    It decorates two kernels with `torch.compile`, which imports torch's compiler for seconds,
    though hardly a process calls them. Here they are compiled when they are first called.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    library: Any = torch
    compile_now = library.compile

    def compile_when_called(function: Any = None, **options: Any) -> Callable[..., Any]:
        if function is None:
            return functools.partial(compile_when_called, **options)
        compiled = functools.cache(lambda: compile_now(function, **options))
        return functools.wraps(function)(lambda *args, **named: compiled()(*args, **named))

    library.compile = compile_when_called
    try:
        importlib.import_module("bitsandbytes")
    finally:
        library.compile = compile_now


def weight_dtype(bits: int, dtype: str) -> torch.dtype:
    """The type of the weights that are not quantised."""
    if bits == 32:
        return torch.float32
    if bits == 16:
        return torch.float16 if dtype == "float16" else torch.bfloat16
    storage: torch.dtype = getattr(torch, dtype)
    return storage


def quantisation_options(
    settings: Any, name: str, bits: int, dtype: str, device: str
) -> dict[str, Any]:
    """from_pretrained's arguments for 8 or 4 bits; {} for 32 and 16.

    `settings`: the library's configuration of the encoder. `dtype`: what is not quantised is stored
    in it. RequestError where bitsandbytes is not installed, or 4 bits fit no layer.

    nf4 shares one scale among 64 neighbours in a row. Where a row is no multiple of 64,
    bitsandbytes 0.50 takes the wrong scales on the CPU (20-60% off instead of 9%), so such layers
    stay in `dtype`, on every device.
    """
    if bits not in (8, 4):
        return {}
    need(f"a backbone of {bits}-bit weights", "bitsandbytes")
    import_bitsandbytes()
    if bits == 8:
        return {
            "quantization_config": BitsAndBytesConfig(load_in_8bit=True),
            "device_map": {"": device},
        }
    try:
        with torch.device("meta"):
            shape = AutoModel.from_config(settings, add_pooling_layer=False)
    except (RuntimeError, ValueError, KeyError) as error:
        raise RequestError(
            f"backbone {name}: its config.json cannot be read ({printable(error, 200)})"
        ) from error
    rows = {
        key: module.in_features
        for key, module in shape.named_modules()
        if isinstance(module, nn.Linear)
    }
    uneven = [key for key, width in rows.items() if width % NF4_BLOCK]
    if len(uneven) == len(rows):
        raise RequestError(
            f"backbone {name}: no layer's width is a multiple of {NF4_BLOCK}, so 4 bits do not fit;"
            " use 8"
        )
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=weight_dtype(bits, dtype),
        llm_int8_skip_modules=uneven or None,
    )
    return {"quantization_config": quantised, "device_map": {"": device}}


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """False for the line that bitsandbytes logs at every int8 product, that it uses float16."""
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast")


def _release(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
    """Drops the input that bitsandbytes' int8 product keeps for the gradient of its weight.

    A frozen weight has none, and gradient checkpointing would not free the input either: it is kept
    beside the graph's saved tensors.
    """
    node: Any = output.grad_fn
    if hasattr(node, "A"):
        node.A = None
    if hasattr(node, "tensors"):
        node.tensors = (None, None, None)


def settle_quantised_layers(encoder: nn.Module) -> None:
    """Switches off what bitsandbytes' layers do beside their product.

    On some CPUs they repack nf4 weights in place, and round their scales, at the first forward pass
    in eval mode: the backbone would change, and differ from that of other CPUs. To be called again
    when a library has replaced the layers by its own.
    """
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_worth_logging)
    module: Any
    for module in encoder.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if (
            type(module).__name__.endswith("Linear8bitLt")
            and _release not in module._forward_hooks.values()
        ):
            module.register_forward_hook(_release)
