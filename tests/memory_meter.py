"""Bytes of live tensors, counted at every operation: what an allocator would be asked for, without
one.

Storages are counted once, from the operation that makes them to their end; parameters, buffers and
what is passed as `known` are not counted. Temporaries inside one operation's kernel are not seen.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import bitsandbytes
import torch
from bitsandbytes.autograd._functions import MatMul8bitLt
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Meter", "like_cuda", "storages"]


def storages(model: torch.nn.Module) -> list[torch.UntypedStorage]:
    """Of every parameter and buffer, bitsandbytes' included."""
    found = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
    for module in model.modules():
        state = getattr(module, "state", None)
        found += [
            getattr(state, name).untyped_storage()
            for name in ("CB", "SCB")
            if getattr(state, name, None) is not None
        ]
        quantised = getattr(getattr(module, "weight", None), "quant_state", None)
        if quantised is not None:
            found += [quantised.absmax.untyped_storage(), quantised.code.untyped_storage()]
    return found


class Meter(TorchDispatchMode):
    """`live` and `peak` bytes since the beginning of the block."""

    def __init__(self, model: torch.nn.Module, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._kept = [*storages(model), *(tensor.untyped_storage() for tensor in known)]
        self._seen = {storage._cdata for storage in self._kept}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._seen:
                    self._seen.add(storage._cdata)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


@contextlib.contextmanager
def like_cuda() -> Iterator[None]:
    """Makes the CPU keep what CUDA keeps, for a count of its tensors without it.

    - dropout is one kernel that keeps a byte an element (`at::dropout` takes `native_dropout` on
      CUDA)
    - attention is one kernel with or without dropout; its output lies in memory token by token
    - autocast runs layer norms in float32 (torch/amp: CUDA's list of float32 operations, which the
      CPU's lacks)
    - bitsandbytes uses its int8 product, which gives the input's type (on the CPU it dequantises
      and multiplies)
    - `torch.is_autocast_enabled()` asks about CUDA: peft does, before it casts the input of a
      quantised layer
    """
    attend, norm, enabled = (
        functional.scaled_dot_product_attention,
        functional.layer_norm,
        torch.is_autocast_enabled,
    )

    def dropout(
        input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        return torch.native_dropout(input, p, True)[0] if training and p else input

    def attention(
        query: torch.Tensor, *args: Any, dropout_p: float = 0.0, **options: Any
    ) -> torch.Tensor:
        return attend(
            query.transpose(1, 2).contiguous().transpose(1, 2), *args, dropout_p=0.0, **options
        )

    def layer_norm(
        input: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> torch.Tensor:
        if enabled("cpu"):
            input, weight, bias = input.float(), weight.float(), bias.float()
        return norm(input, shape, weight, bias, eps)

    def matmul(
        A: Any, B: Any, out: Any = None, state: Any = None, threshold: float = 0.0, bias: Any = None
    ) -> torch.Tensor:
        state.threshold = threshold or state.threshold
        found: torch.Tensor = MatMul8bitLt.apply(A, B, out, bias, state)
        return found

    with (
        mock.patch.object(functional, "dropout", dropout),
        mock.patch.object(functional, "layer_norm", layer_norm),
        mock.patch.object(functional, "scaled_dot_product_attention", attention),
        mock.patch.object(bitsandbytes, "matmul", matmul),
        mock.patch.object(torch, "is_autocast_enabled", lambda *kind: enabled(*(kind or ("cpu",)))),
    ):
        yield
