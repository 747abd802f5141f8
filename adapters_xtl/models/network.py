"""The backbone with a stack of modules and the heads of the last one: building and checking."""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from adapters_xtl import formats, methods
from adapters_xtl.backbones import Backbone, loading
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import (
    RequestError,
    RunError,
    XtlError,
    out_of_memory,
)
from adapters_xtl.base.process_memory import peak_resident_bytes, reset_peak_resident
from adapters_xtl.formats import Item, Tokenizer
from adapters_xtl.methods import Link, ModuleSpec
from adapters_xtl.models.encoded_rows import EncodedRows
from adapters_xtl.models.heads import HeadSpec
from adapters_xtl.models.prefix import STATES, Prefix
from adapters_xtl.models.side_by_side import SharedChange
from adapters_xtl.models.tensors import autocast, tensor_digest, tensors_of

__all__ = [
    "EncoderSpec",
    "Host",
    "Model",
    "StackSpec",
    "build",
    "cap_memory",
    "frozen_digest",
    "on_device",
    "peak_memory",
    "reset_peak_memory",
]


QUANTISED = (8, 4)  # bits of linear layers that are not torch's own


def on_device(
    batch: Mapping[str, np.ndarray], device: str | torch.device, *, non_blocking: bool = False
) -> dict[str, torch.Tensor]:
    """A format's batch as tensors on a device."""
    return {
        name: torch.from_numpy(array).to(device, non_blocking=non_blocking)
        for name, array in batch.items()
    }


class Model(nn.Module):
    """Encoder and heads. `model(task, batch)` → {"outputs", "terms": name → loss term, "loss":
    their sum}.

    The batch is what the format's `collate` made, as tensors. The encoder runs under the caller's
    autocast; heads too. "terms" are the format's (see `Format.loss`) and, in training with a
    fusion, "penalty".
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Tokenizer,
        heads: Mapping[str, HeadSpec],
        penalty: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        super().__init__()
        self.penalty = penalty
        # padded tokens that may pass at once without gradients; None: as the device has it
        self.room: int | None = None
        self.encoded_rows: EncodedRows | None = None  # where encoded rows are kept for later
        self._first_layers = SharedChange()
        self.prefix: Prefix | None = None  # set where the layers below the lowest module are fixed
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.specs = dict(heads)
        self.heads = nn.ModuleDict(
            {
                task: formats.load(spec.format).head(spec.hidden, spec.labels, spec.dropout)
                for task, spec in heads.items()
            }
        )

    @property
    def layers(self) -> int:
        """Number of the encoder's layers: hidden states are numbered 0 (embeddings) to this."""
        return int(self._config.num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Width of the encoder's states."""
        return int(self._config.hidden_size)

    @property
    def last_layer(self) -> nn.Module:
        last: nn.Module = self._core.encoder.layer[-1]
        return last

    @property
    def longest(self) -> int:
        """Tokens of the longest input that the encoder reads."""
        return shape(self._config.to_dict()).longest

    @property
    def _core(self) -> Any:
        """The encoder without what its library has put around it."""
        encoder: Any = self.encoder
        return encoder.get_base_model() if hasattr(encoder, "get_base_model") else encoder

    @property
    def _config(self) -> Any:
        encoder: Any = self.encoder
        return encoder.config

    def with_prefix(
        self, batch: dict[str, torch.Tensor], items: Sequence[Item]
    ) -> dict[str, torch.Tensor]:
        """The batch of these items, with the states at the lowest layer with a module where they
        are constants of the texts.
        """
        if self.prefix is None:
            return batch
        return {**batch, STATES: self.prefix.states(items, batch["input_ids"].shape[1])}

    def states(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Hidden states of the last layer, (B, T, hidden)."""
        if self.prefix is not None and STATES in batch:
            return self.prefix.above(batch[STATES], batch["attention_mask"])
        states: torch.Tensor = self._encode(batch, False).last_hidden_state
        return states

    def hidden_states(
        self, batch: Mapping[str, torch.Tensor], top: int
    ) -> tuple[torch.Tensor, ...]:
        """Hidden states 0 (embeddings) to `top`, each (B, T, hidden); the layers above are not
        computed. Threads that are here at the same time have the same `top`.
        """
        core = self._core.encoder

        def cut() -> Callable[[], None]:
            whole = core.layer
            core.layer = whole[: max(top, 1)]
            return lambda: setattr(core, "layer", whole)

        with self._first_layers.made(cut):
            states: tuple[torch.Tensor, ...] = self._encode(batch, True).hidden_states
        return states

    def _encode(self, batch: Mapping[str, torch.Tensor], every: bool) -> Any:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return self.encoder(
            **{name: batch[name] for name in names if name in batch}, output_hidden_states=every
        )

    def forward(
        self, task: str, batch: Mapping[str, torch.Tensor], with_loss: bool = True
    ) -> dict[str, Any]:
        outputs = self.heads[task](self.states(batch), batch)
        if not with_loss:
            return {"outputs": outputs}
        terms = formats.load(self.specs[task].format).loss(outputs, batch)
        if self.penalty is not None and self.training:
            extra = self.penalty(self.encoder)
            if extra is not None:
                terms["penalty"] = extra
        return {"outputs": outputs, "terms": terms, "loss": sum(terms.values())}

    def trainable(self) -> dict[str, torch.Tensor]:
        """Name → parameter, for everything that trains."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }


@dataclass(frozen=True)
class EncoderSpec:
    """The bare encoder that a model is built on.

    bits, dtype  of its weights and of matrix products, as `backbones.loading.load` takes them
    method       that will be attached to it: libraries prepare an encoder for theirs
    offload      whether the table of token embeddings stays in the CPU's memory
    """

    backbone: Backbone
    method: str
    bits: int = 32
    dtype: str = "float32"
    device: str = "cpu"
    offload: bool = False

    def key(self) -> tuple[Any, ...]:
        """What two specs have in common whose encoders are the same."""
        stored_dtype = self.dtype if self.bits in (16, 8, 4) else ""
        return (
            self.backbone.fingerprint,
            self.bits,
            stored_dtype,
            self.device,
            self.method,
            self.offload,
        )


@dataclass(frozen=True)
class StackSpec:
    """The modules on an encoder: the chain, lowest first, and the settings of its last one. No
    chain: the bare encoder.
    """

    chain: Sequence[Link] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    from_layer: int = 0
    compose: str = ""


class Host:
    """One loaded backbone that carries stack after stack: changing the stack reads its few
    megabytes and no backbone.

    A model built on a host is valid until the next one is built on it.
    """

    def __init__(self) -> None:
        self.encoded_rows = EncodedRows()
        self._key: tuple[Any, ...] = ()
        self._model: Model | None = None
        self._digests: Mapping[str, str] = {}  # of every tensor of the bare encoder, by name

    def encoder(self, spec: EncoderSpec) -> tuple[nn.Module, Tokenizer]:
        """The bare encoder, frozen, and its tokenizer: the one that is here, or loaded.

        RunError when the stack that was taken off it has left it changed.
        """
        method = methods.load(spec.method)
        before, self._model = self._model, None
        if before is not None and spec.key() == self._key:
            bare = method.detach(before.encoder)
            if bare is not None:
                self.assert_unchanged(dict(tensors_of(bare)), spec.method)
                return bare.eval(), before.tokenizer
        del before  # gone before the next one is loaded: two do not fit where one just does
        gc.collect()  # the libraries' layers hold circles of references
        if spec.device == "cuda":
            torch.cuda.empty_cache()
        elif spec.device == "mps":
            torch.mps.empty_cache()
        self._key = ()
        encoder, tokenizer = self.load(spec)
        encoder = method.prepare(encoder)
        self._digests = {name: tensor_digest(name, tensor) for name, tensor in tensors_of(encoder)}
        self._key = spec.key()
        return encoder, tokenizer

    def load(self, spec: EncoderSpec) -> tuple[nn.Module, Tokenizer]:
        """The bare encoder and its tokenizer, from their files."""
        return loading.load(
            spec.backbone,
            bits=spec.bits,
            dtype=spec.dtype,
            device=spec.device,
            offload=spec.offload,
        )

    def assert_unchanged(self, tensors: Mapping[str, torch.Tensor], method: str) -> None:
        """RunError unless these tensors of the bare encoder, by name, are as they were loaded."""
        for name, tensor in tensors.items():
            if tensor_digest(name, tensor) != self._digests.get(name):
                self._key = ()  # this encoder is used no more
                raise RunError(
                    f"method {method} changed the frozen backbone ({name}): what trains on it could"
                    " not be loaded again"
                )

    @property
    def digests(self) -> Mapping[str, str]:
        """Name → digest of every tensor of the bare encoder that is here."""
        return self._digests

    def carries(self, model: Model) -> None:
        self._model = model

    def holds(self, model: Model) -> bool:
        """Whether `model` is the one that was built last, and so still whole."""
        return self._model is model


def build(
    encoder_spec: EncoderSpec,
    stack: StackSpec,
    heads: Mapping[str, HeadSpec],
    *,
    train: bool,
    seed: int = 0,
    host: Host | None = None,
) -> Model:
    """The model of a stack. With `train`, only its last module and the heads train, and their
    number is asserted.

    The weights of fresh modules and heads follow from `seed` alone, whatever the process did
    before: the seed is set after the library has prepared the encoder, and again before the heads.
    """
    host = host or Host()
    encoder, tokenizer = host.encoder(encoder_spec)
    method, fuse = methods.load(encoder_spec.method), stack.compose == "fuse"
    own = dict(encoder.named_parameters())
    sizes = shape(cast(Any, encoder).config.to_dict()) if stack.chain and train else None
    torch.manual_seed(seed)
    if stack.chain:
        with _quantised_layers_explained(encoder_spec):
            encoder = method.attach(
                encoder,
                stack.chain,
                stack.options,
                from_layer=stack.from_layer,
                fuse=fuse,
                train=train,
            )
    torch.manual_seed(seed)
    penalty = method.penalty if fuse and train else None
    model = Model(encoder, tokenizer, heads, penalty).to(encoder_spec.device)
    if train:
        frozen = {name: value for name, value in own.items() if not value.requires_grad}
        host.assert_unchanged(frozen, encoder_spec.method)
        head_count = sum(parameter.numel() for parameter in model.heads.parameters())
        total = sum(parameter.numel() for parameter in model.trainable().values())
        if sizes is not None and not fuse:  # a fused module's places are known to its parents alone
            expected = method.count(
                ModuleSpec(stack.options, sizes, stack.from_layer, stack.compose)
            )
            if total != expected + head_count:
                raise RunError(
                    f"{total - head_count:,} parameters of the module would train, {expected:,}"
                    " were expected"
                )
        if not total:
            raise RunError("nothing would train")
    if stack.chain and encoder_spec.bits in QUANTISED:
        with _quantised_layers_explained(encoder_spec):
            _compute_once(model, encoder_spec)
    host.carries(model)
    return model


@contextlib.contextmanager
def _quantised_layers_explained(spec: EncoderSpec) -> Iterator[None]:
    """Turns what a method's library says of quantised layers that it was not made for into a
    RequestError.
    """
    try:
        yield
    except XtlError:
        raise
    except Exception as error:
        if spec.bits not in QUANTISED or out_of_memory(error):
            raise
        first_line = next(iter(str(error).strip().splitlines()), "")
        raise RequestError(
            f"--bits {spec.bits}: method {spec.method} does not compute on a backbone of"
            f" {spec.bits} bits on this device ({type(error).__name__}: {first_line[:200]}); give"
            " --bits 32"
        ) from error


@torch.no_grad()
def _compute_once(model: Model, spec: EncoderSpec) -> None:
    """One pass of two tokens, which draws no random number and changes no weight."""
    modes = {module: module.training for module in model.modules()}
    tokens = torch.zeros((1, 2), dtype=torch.long, device=spec.device)
    with autocast(spec.device, spec.dtype):
        model.eval().states({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
    for module, mode in modes.items():
        module.training = mode


def frozen_digest(model: Model) -> str:
    """sha256 over every frozen parameter and buffer of the encoder, by name: backbone and parents
    together.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(tensors_of(model.encoder), key=lambda item: item[0]):
        if not tensor.requires_grad:
            total.update(tensor_digest(name, tensor).encode())
    return total.hexdigest()


def cap_memory(device: str, gib: float | None) -> None:
    """Lets CUDA's allocator take `gib` GiB and no more (None: all there is); CUDA's own context is
    not in it.
    """
    loading.usable(device)
    if device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(
            1.0 if gib is None else min(1.0, gib * 2**30 / whole)
        )


def reset_peak_memory(device: str) -> None:
    """From here on `peak_memory` counts anew: each run has a peak of its own."""
    reset_peak_resident()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Bytes, since `reset_peak_memory`: the CUDA allocator's peak, or the largest resident size of
    the process.
    """
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return peak_resident_bytes()
