"""How far the outputs of an exported model are from those of the stack, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapters_xtl.evaluation.predict import by_tokens
from adapters_xtl.export.loaded_module import LoadedModule
from adapters_xtl.formats import Format, Item, Tokenizer
from adapters_xtl.models.network import on_device
from adapters_xtl.models.tensors import autocast

__all__ = ["Difference", "Outputs", "compared", "outputs_of", "stack_outputs"]

TOKENS = 4096  # padded tokens in one forward pass
Outputs = list[np.ndarray]  # float32, one array a batch, padding left out
Call = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Difference:
    """Two models' outputs for the same inputs.

    largest    largest absolute difference of an output
    scale      largest absolute output of the first model
    tolerance  that `largest` may have
    """

    largest: float
    scale: float
    tolerance: float

    @property
    def within(self) -> bool:
        # also False for a difference that is not a number
        return self.largest <= self.tolerance


def outputs_of(
    form: Format,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    call: Call,
    *,
    dtype: str = "float32",
) -> Outputs:
    """What `call` gives for the items, batch by batch: for formats that read every token the
    outputs of each token, else those of each sequence.
    """
    arrays = []
    with torch.inference_mode(), autocast("cpu", dtype):
        for numbers in by_tokens(items, TOKENS):
            batch = on_device(form.collate([items[number] for number in numbers], tokenizer), "cpu")
            outputs = call(batch)
            if form.reads_every_token:
                outputs = outputs[batch["attention_mask"].bool()]
            arrays.append(outputs.float().numpy())
    return arrays


def stack_outputs(loaded: LoadedModule, items: Sequence[Item], dtype: str = "float32") -> Outputs:
    """The outputs of the module itself, with matrix products in `dtype`."""
    form, tokenizer = loaded.source.format, loaded.model.tokenizer
    return outputs_of(form, tokenizer, items, loaded.outputs, dtype=dtype)


def compared(first: Outputs, second: Outputs, relative: float) -> Difference:
    """The largest difference between two models' outputs. The tolerance is `relative` times the
    largest absolute output of the first, or 0.1 where that is more. What the second lacks of the
    first's outputs, behind those that both have, is not compared.
    """
    largest, scale = 0.0, 0.0
    for output, other in zip(first, second, strict=True):
        output = output[..., : other.shape[-1]]
        gap = np.abs(output.astype(np.float64) - other.astype(np.float64))
        largest = max(largest, float(gap.max())) if np.isfinite(gap).all() else float("inf")
        scale = max(scale, float(np.abs(output).max()))
    return Difference(largest, scale, relative * max(scale, 0.1))
