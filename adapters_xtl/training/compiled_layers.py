"""The encoder's layers compiled for the steps of one training (`train.compiled=layers`).

All layers run the same code, so that torch compiles one of them for all, with any number of
sequences and tokens. Compiled code rounds otherwise than torch's operators and draws other masks
(but those of `train.masks=bytes`, which are an operator of their own): it is part of a run's
identity. Evaluation goes through the libraries' own code.

Compiling takes as long as hundreds of steps, so that shorter trainings are left as they are; that
is decided from the planned steps, which follow from the run's identity too.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.models.network import Model, autocast

__all__ = ["LONG", "CompiledLayers", "compiled_layers"]

LONG = 1000  # steps from which compiling is worth its time
COMPILERS = ("g++", "clang++", "c++", "icpx")
PROBE = (4, 32)  # sequences and tokens of the pass that compiles: neither 0 nor 1 is fixed


class CompiledLayers:
    """Layers that a context compiled; `paused` lets evaluation pass through their own code."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        compiled: list[tuple[Any, Any]] = [
            (layer, getattr(layer, "_compiled_call_impl", None)) for layer in self._layers
        ]
        for layer, _ in compiled:
            layer._compiled_call_impl = None
        try:
            yield
        finally:
            for layer, call in compiled:
                layer._compiled_call_impl = call


@contextlib.contextmanager
def compiled_layers(
    model: Model,
    layers: list[nn.Module],
    steps: int,
    dtype: str,
    device: str,
    notify: Callable[[str], None],
) -> Iterator[CompiledLayers]:
    """Compiles `layers` until the context ends, where `steps` make it worth its time. Where the
    compiler fails, one line says so and the layers stay as they are.
    """
    why = ""
    if steps < LONG:
        why = f"a training of {steps} steps is shorter than compiling is worth ({LONG})"
    elif device == "cpu" and not any(map(shutil.which, COMPILERS)):
        why = "no C++ compiler is here"
    if why:
        notify(f"train.compiled: {why}; the layers run as they are")
        yield CompiledLayers([])
        return
    torch._dynamo.reset()  # what was compiled before in this process decides nothing here
    holder: list[Any] = list(layers)
    try:
        for layer in holder:
            layer.compile(dynamic=True)
        _probe(model, dtype, device)
        compiled = CompiledLayers(layers)
    except Exception as error:
        if out_of_memory(error):
            raise
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        notify(f"train.compiled: compiling failed ({first_line}); the layers run as they are")
        _uncompile(holder)
        compiled = CompiledLayers([])
    try:
        yield compiled
    finally:
        _uncompile(holder)
        torch._dynamo.reset()


def _uncompile(layers: list[Any]) -> None:
    for layer in layers:
        layer._compiled_call_impl = None


def _probe(model: Model, dtype: str, device: str) -> None:
    """One pass there and back, which leaves no gradient and no draw behind."""
    mode = model.training
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    tokens = torch.full(PROBE, 5, dtype=torch.long, device=device)
    with torch.random.fork_rng(devices=devices):
        with autocast(device, dtype):
            states = model.train().states(
                {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            )
        states.float().sum().backward()
    model.zero_grad(set_to_none=True)
    model.train(mode)
