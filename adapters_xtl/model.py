"""The backbone with a stack of modules and the heads of the last one: building, checking, saving, loading."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapters_xtl import backbones, formats, methods
from adapters_xtl.canon import read_json, write_json
from adapters_xtl.errors import MismatchError, RunError
from adapters_xtl.formats.items import Lengths, Tokenizer
from adapters_xtl.methods import Link
from adapters_xtl.spec import Backbone

__all__ = ["HeadSpec", "Model", "build", "frozen_digest", "load_heads"]


@dataclass(frozen=True)
class HeadSpec:
    """What a head is and how its inputs were cut: saved beside its weights as config.json."""

    format: str
    labels: tuple[str, ...]
    hidden: int
    dropout: float
    lengths: Lengths


class Model(nn.Module):
    """Encoder and heads. `model(task, batch)` → {"outputs", "loss" (where the batch has gold)}.

    The batch is what the format's `collate` made. The encoder runs under the caller's autocast; heads too.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Tokenizer, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.specs = dict(heads)
        self.heads = nn.ModuleDict(
            {task: formats.load(spec.format).head(spec.hidden, spec.labels, spec.dropout) for task, spec in heads.items()}
        )

    def states(self, batch: Mapping[str, torch.Tensor], layer: int | None = None) -> torch.Tensor:
        """Hidden states (B, T, hidden): the last layer's, or hidden state `layer` (0: embeddings)."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        out = self.encoder(**{name: batch[name] for name in names if name in batch}, output_hidden_states=layer is not None)
        states: torch.Tensor = out.last_hidden_state if layer is None else out.hidden_states[layer]
        return states

    def forward(self, task: str, batch: Mapping[str, torch.Tensor], with_loss: bool = True) -> dict[str, torch.Tensor]:
        head: Any = self.heads[task]
        outputs = head(self.states(batch), batch)
        return {"loss": head.loss(outputs, batch), "outputs": outputs} if with_loss else {"outputs": outputs}

    def trainable(self) -> dict[str, torch.Tensor]:
        """Name → parameter, for everything that trains."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


def build(backbone: Backbone, *, bits: int, dtype: str, device: str, method: str, chain: Sequence[Link],
          options: Mapping[str, Any], from_layer: int, heads: Mapping[str, HeadSpec], train: bool, seed: int,
          loaded: tuple[nn.Module, Tokenizer] | None = None) -> Model:  # fmt: skip
    """The model of a chain. With `train`, only the last link and the heads train, and their number is asserted."""
    encoder, tokenizer = loaded or backbones.load(backbone, bits=bits, dtype=dtype, device=device)
    torch.manual_seed(seed)
    expected = methods.load(method).footprint(encoder, options, from_layer=from_layer) if chain and train else None
    if chain:
        encoder = methods.load(method).attach(encoder, chain, options, from_layer=from_layer, train=train)
    torch.manual_seed(seed)  # the heads do not depend on what was attached before them
    model = Model(encoder, tokenizer, heads).to(device)
    if train:
        head_count = sum(parameter.numel() for parameter in model.heads.parameters())
        found = sum(parameter.numel() for parameter in model.trainable().values())
        if expected is not None and found != expected + head_count:
            raise RunError(f"{found - head_count:,} parameters of the module would train, {expected:,} were expected")
        if not found:
            raise RunError("nothing would train")
    return model


def frozen_digest(model: Model) -> str:
    """sha256 over every frozen parameter and buffer of the encoder, by name: backbone and parents together."""
    total = hashlib.sha256()
    state = {name: value for name, value in model.encoder.named_parameters() if not value.requires_grad}
    for name, value in sorted({**state, **dict(model.encoder.named_buffers())}.items()):
        total.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_heads(model: Model, directory: Path) -> None:
    """`<directory>/<task>/model.safetensors` and `config.json` for every head."""
    for task, head in model.heads.items():
        folder = directory / task
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().float().contiguous() for name, value in head.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
        write_json(folder / "config.json", asdict(model.specs[task]))


def head_specs(directory: Path) -> dict[str, HeadSpec]:
    """The heads saved under a directory."""
    specs = {}
    for path in sorted(directory.glob("*/config.json")):
        config = read_json(path)
        lengths = Lengths(**config.pop("lengths"))
        specs[path.parent.name] = HeadSpec(**{**config, "labels": tuple(config["labels"]), "lengths": lengths})
    return specs


def load_heads(model: Model, directory: Path) -> None:
    """Weights of every head of the model; MismatchError where a file does not fit its head."""
    for task, head in model.heads.items():
        path = directory / task / "model.safetensors"
        try:
            head.load_state_dict(load_file(str(path)))
        except (RuntimeError, FileNotFoundError) as error:
            raise MismatchError(f"{path}: not the weights of this head: {str(error).splitlines()[0]}") from error
