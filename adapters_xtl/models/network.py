"""The backbone with a stack of modules and the heads of the last one: building, checking, saving,
loading.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapters_xtl import formats, methods
from adapters_xtl.backbones import Backbone, loading
from adapters_xtl.base.errors import MismatchError, RunError
from adapters_xtl.base.files import read_json, write_json
from adapters_xtl.base.process_memory import peak_resident_bytes, reset_peak_resident
from adapters_xtl.formats import Lengths, Tokenizer
from adapters_xtl.memory import activations
from adapters_xtl.methods import Link

__all__ = [
    "HeadSpec",
    "Host",
    "Model",
    "autocast",
    "build",
    "cap_memory",
    "frozen_digest",
    "head_spec",
    "head_specs",
    "load_heads",
    "on_device",
    "peak_memory",
    "reset_peak_memory",
    "save_heads",
]


@dataclass(frozen=True)
class HeadSpec:
    """What a head is and how its inputs were cut: saved beside its weights as config.json.

    `outputs` names what each of its outputs stands for, in order: see `Format.output_names`.
    """

    format: str
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    hidden: int
    dropout: float
    lengths: Lengths


def head_spec(
    format: str, labels: Sequence[str], hidden: int, dropout: float, lengths: Lengths
) -> HeadSpec:
    """The spec of a head of a format, with the names of its outputs."""
    outputs = formats.load(format).output_names(labels)
    return HeadSpec(format, tuple(labels), outputs, hidden, dropout, lengths)


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
        self.room: int | None = (
            # padded tokens that may pass at once without gradients; None: as the device has it
            None
        )
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
    def longest(self) -> int:
        """Tokens of the longest input that the encoder reads."""
        return activations.shape(self._config.to_dict()).longest

    @property
    def _config(self) -> Any:
        encoder: Any = self.encoder
        return encoder.config

    def states(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Hidden states of the last layer, (B, T, hidden)."""
        states: torch.Tensor = self._encode(batch, False).last_hidden_state
        return states

    def hidden_states(
        self, batch: Mapping[str, torch.Tensor], top: int
    ) -> tuple[torch.Tensor, ...]:
        """Hidden states 0 (embeddings) to `top`, each (B, T, hidden); the layers above are not
        computed.
        """
        encoder: Any = self.encoder
        core = (
            encoder.get_base_model().encoder
            if hasattr(encoder, "get_base_model")
            else encoder.encoder
        )
        whole = core.layer
        core.layer = whole[: max(top, 1)]
        try:
            states: tuple[torch.Tensor, ...] = self._encode(batch, True).hidden_states
        finally:
            core.layer = whole
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
            terms["penalty"] = self.penalty(self.encoder)
        return {"outputs": outputs, "terms": terms, "loss": sum(terms.values())}

    def trainable(self) -> dict[str, torch.Tensor]:
        """Name → parameter, for everything that trains."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }


class Host:
    """One loaded backbone that carries stack after stack: changing the stack reads its few
    megabytes and no backbone.

    A model built on a host is valid until the next one is built on it.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._model: Model | None = None

    def encoder(
        self,
        backbone: Backbone,
        *,
        bits: int,
        dtype: str,
        device: str,
        method: str,
        offload: bool = False,
    ) -> tuple[nn.Module, Tokenizer]:
        """The bare encoder, frozen, and its tokenizer: the one that is here, or loaded."""
        key = (
            backbone.fingerprint,
            bits,
            dtype if bits in (16, 8, 4) else "",
            device,
            method,
            offload,
        )
        before, self._model = self._model, None
        if before is not None and key == self._key:
            detach = getattr(methods.load(method), "detach", None)
            if detach is not None:
                bare: nn.Module = detach(before.encoder)
                return bare.eval(), before.tokenizer
        del before  # gone before the next one is loaded: two do not fit where one just does
        gc.collect()  # the libraries' layers hold circles of references
        if device == "cuda":
            torch.cuda.empty_cache()
        self._key = key
        return loading.load(backbone, bits=bits, dtype=dtype, device=device, offload=offload)

    def carries(self, model: Model) -> None:
        self._model = model

    def holds(self, model: Model) -> bool:
        """Whether `model` is the one that was built last, and so still whole."""
        return self._model is model


def build(
    backbone: Backbone,
    *,
    bits: int,
    dtype: str,
    device: str,
    method: str,
    chain: Sequence[Link],
    options: Mapping[str, Any],
    from_layer: int,
    heads: Mapping[str, HeadSpec],
    train: bool,
    seed: int,
    fuse: bool = False,
    host: Host | None = None,
    offload: bool = False,
) -> Model:
    """The model of a chain. With `train`, only the last link and the heads train, and their number
    is asserted.
    """
    host = host or Host()
    encoder, tokenizer = host.encoder(
        backbone, bits=bits, dtype=dtype, device=device, method=method, offload=offload
    )
    torch.manual_seed(seed)
    how = methods.load(method)
    fused: dict[str, Any] = {"fuse": True} if fuse else {}
    expected = (
        how.footprint(encoder, options, from_layer=from_layer, **fused) if chain and train else None
    )
    if chain:
        encoder = how.attach(encoder, chain, options, from_layer=from_layer, train=train, **fused)
    torch.manual_seed(seed)  # the heads do not depend on what was attached before them
    model = Model(
        encoder, tokenizer, heads, getattr(how, "penalty", None) if fuse and train else None
    ).to(device)
    if train:
        head_count = sum(parameter.numel() for parameter in model.heads.parameters())
        found = sum(parameter.numel() for parameter in model.trainable().values())
        if expected is not None and found != expected + head_count:
            raise RunError(
                f"{found - head_count:,} parameters of the module would train, {expected:,} were"
                " expected"
            )
        if not found:
            raise RunError("nothing would train")
    host.carries(model)
    return model


def frozen_digest(model: Model) -> str:
    """sha256 over every frozen parameter and buffer of the encoder, by name: backbone and parents
    together.

    Of their values: bitsandbytes' int8 layers turn their bias into the type of what comes in, to
    and fro.
    """
    total = hashlib.sha256()
    state = {
        name: value for name, value in model.encoder.named_parameters() if not value.requires_grad
    }
    for name, value in sorted({**state, **dict(model.encoder.named_buffers())}.items()):
        exact = (
            value.detach().float()
            if value.dtype in (torch.bfloat16, torch.float16)
            else value.detach()
        )
        total.update(f"{name} {tuple(exact.shape)} {exact.dtype}\n".encode())
        total.update(exact.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_heads(model: Model, directory: Path) -> None:
    """`<directory>/<task>/model.safetensors` and `config.json` for every head."""
    for task, head in model.heads.items():
        folder = directory / task
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.detach().cpu().float().contiguous()
            for name, value in head.state_dict().items()
        }
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
        write_json(folder / "config.json", asdict(model.specs[task]))


def head_specs(directory: Path) -> dict[str, HeadSpec]:
    """The heads saved under a directory."""
    specs = {}
    for path in sorted(directory.glob("*/config.json")):
        config = read_json(path)
        lengths = Lengths(**config.pop("lengths"))
        specs[path.parent.name] = HeadSpec(
            **{
                **config,
                "labels": tuple(config["labels"]),
                "outputs": tuple(config["outputs"]),
                "lengths": lengths,
            }
        )
    return specs


def load_heads(model: Model, directory: Path) -> None:
    """Weights of every head of the model; MismatchError where a file does not fit its head."""
    for task, head in model.heads.items():
        path = directory / task / "model.safetensors"
        try:
            head.load_state_dict(load_file(str(path)))
        except (RuntimeError, FileNotFoundError) as error:
            raise MismatchError(
                f"{path}: not the weights of this head: {str(error).splitlines()[0]}"
            ) from error


def autocast(device: str, dtype: str) -> Any:
    """Context in which matrix products run in `dtype`; "float32": as the weights are."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=getattr(torch, dtype))


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
