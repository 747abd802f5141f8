"""The encoder's layers compiled for the steps of one training (`train.compiled`).

From the first trained layer on, all layers run the same code on the same kinds of tensors, so that
torch compiles one of them for all of them, with any number of sequences and tokens. Only the first
differs: its input needs no gradient. It runs as it is, since compiling it would take as long again
as compiling the others. Compiled code rounds otherwise than torch's operators and draws other
masks: it is part of a run's identity. Evaluation runs no compiled code.

Whatever fails in compiling or in compiled code is told in one line, and the training goes on from
the same state with the layers as they are.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._functorch import config as functorch_config
from transformers import PreTrainedModel

from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.models.first_token import is_first_token_layer
from adapters_xtl.models.network import Model
from adapters_xtl.models.tensors import autocast
from adapters_xtl.runs.hyper import Hyper

__all__ = ["CompiledLayers", "compiled_layers"]

PROBE = (3, 11)  # sequences and tokens of the pass that compiles: unlike each other and any size


class CompiledLayers:
    """The layers that run compiled, until `drop` puts their own code back."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._layers: list[tuple[Any, type]] = []  # with the class that each had
        self._notify = notify
        self._mask_dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return len(self._layers)

    def compile(self, layers: list[Any]) -> None:
        for layer in layers:
            # `adapters` makes a class of the same parts for each layer: each would be compiled
            kind, first = type(layer), type(layers[0])
            if kind.__bases__ == first.__bases__ and kind.__name__ == first.__name__:
                layer.__class__ = first
            usual = layer.forward
            compiled = torch.compile(usual, dynamic=True, fullgraph=True)
            layer.forward = partial(self._forward, layer, usual, compiled)
            self._layers.append((layer, kind))

    def take_off(self) -> None:
        for layer, kind in self._layers:
            del layer.forward  # the class's own is there again
            layer.__class__ = kind
        self._layers.clear()

    def drop(self, error: Exception) -> None:
        """Says why no layer is compiled from here on."""
        self.take_off()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else ''}"[:200].rstrip(": ")
        self._notify(f"train.compiled: {reason}; the training goes on without compiled layers")

    def _forward(
        self,
        layer: Any,
        usual: Any,
        compiled: Any,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        """A layer's forward pass, compiled where a training computes gradients.

        One sequence and one token are sizes that torch compiles for alone, and so is the mask None
        that a batch without padding has.
        """
        batch, tokens = states.shape[:2]
        if not layer.training or not torch.is_grad_enabled() or batch == 1 or tokens == 1:
            return usual(states, attention_mask, *arguments, **options)
        if attention_mask is None:
            shape = (batch, 1, tokens, tokens)
            attention_mask = states.new_zeros(shape, dtype=self._mask_dtype)
        self._mask_dtype = attention_mask.dtype
        return compiled(states, attention_mask, *arguments, **options)


@contextlib.contextmanager
def compiled_layers(
    model: Model,
    hyper: Hyper,
    steps: int,
    dtype: str,
    device: str,
    notify: Callable[[str], None],
) -> Iterator[CompiledLayers]:
    """Compiles the layers above the first trained one until the context ends, where
    `hyper.compiled` and the planned `steps` say so. One line tells why they are not.
    """
    compiled = CompiledLayers(notify)
    if hyper.compiled == "off":
        yield compiled
        return
    layers = _alike(model)
    reason = hyper.against_compiling(device, steps) or _reason_against(layers)
    if reason:
        notify(f"train.compiled={hyper.compiled}: {reason}; no layer is compiled")
        yield compiled
        return
    torch._dynamo.reset()  # what this process compiled before decides nothing here
    try:
        # eliminating common subexpressions would merge equal calls of our random operator:
        # dropouts of one shape would share a mask
        with functorch_config.patch(cse=False):
            notify(f"compiling {len(layers)} layers for {steps:,} steps")
            compiled.compile(layers)
            try:
                _probe(model, dtype, device)
            except Exception as error:
                if out_of_memory(error):
                    raise
                compiled.drop(error)
            yield compiled
    finally:
        compiled.take_off()
        torch._dynamo.reset()


def _alike(model: Model) -> list[Any]:
    """The encoder's layers above the first that has something to train, without a last one that is
    computed at the first token alone.
    """
    encoder: Any = next(
        layer for layer in model.encoder.modules() if isinstance(layer, PreTrainedModel)
    )
    layers = list(encoder.encoder.layer)
    trained = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    alike = layers[trained.index(True) + 1 :] if any(trained) else []
    return alike[:-1] if alike and is_first_token_layer(alike[-1]) else alike


def _reason_against(layers: list[nn.Module]) -> str:
    """Why these layers are not compiled; "" where they are."""
    if not layers:
        return "above the first trained layer there is none, or only a last one at the first token"
    if any(
        not parameter.is_floating_point() for layer in layers for parameter in layer.parameters()
    ):
        return "quantised weights have kernels of their own"
    # torch's compiler takes seconds to import
    from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir

    folders = {Path(default_cache_dir()), Path(cache_dir())}
    return next(filter(None, map(_unsafe, sorted(folders))), "")


def _unsafe(folder: Path) -> str:
    """Why torch should keep no compiled code in a directory, and execute none from there; "" where
    it may.

    Its own place is named for the user and lies in the machine's temporary directory, where anybody
    may make it first. One that is this user's is closed to writing by others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not hasattr(os, "getuid"):
            return ""  # Windows: the temporary directory is the user's
        owners = {folder.lstat().st_uid, folder.stat().st_uid}  # of a link and where it leads
        if owners != {os.getuid()}:
            return f"{folder} is another user's, who could put code there (TMPDIR names another)"
        mode = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(mode & ~(stat.S_IWGRP | stat.S_IWOTH))
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def _probe(model: Model, dtype: str, device: str) -> None:
    """A forward and a backward pass, which leave no gradient and no draw behind."""
    mode = model.training
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    tokens = torch.full(PROBE, 5, dtype=torch.long, device=device)
    seen = torch.ones_like(tokens)
    seen[0, -1] = 0
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about what it reads of the tensors
        with autocast(device, dtype):
            states = model.train().states({"input_ids": tokens, "attention_mask": seen})
        total: Any = states.float().sum()
        total.backward()
    model.zero_grad(set_to_none=True)
    model.train(mode)
