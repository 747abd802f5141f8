"""Heads of a network: what they are, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from adapters_xtl import formats
from adapters_xtl.base.errors import MismatchError
from adapters_xtl.base.files import read_json, write_json
from adapters_xtl.formats import Lengths

__all__ = ["HeadSpec", "head_spec", "head_specs", "load_heads", "save_heads"]


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


def save_heads(heads: nn.ModuleDict, specs: Mapping[str, HeadSpec], directory: Path) -> None:
    """`<directory>/<task>/model.safetensors` and `config.json` for every head."""
    for task, head in heads.items():
        folder = directory / task
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.detach().cpu().float().contiguous()
            for name, value in head.state_dict().items()
        }
        save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
        write_json(folder / "config.json", asdict(specs[task]))


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


def load_heads(heads: nn.ModuleDict, directory: Path) -> None:
    """Reads the weights of every head; MismatchError where a file does not fit its head."""
    for task, head in heads.items():
        path = directory / task / "model.safetensors"
        try:
            head.load_state_dict(load_file(str(path)))
        except (RuntimeError, FileNotFoundError) as error:
            raise MismatchError(
                f"{path}: not the weights of this head: {str(error).splitlines()[0]}"
            ) from error
