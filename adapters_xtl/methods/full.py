"""Full fine-tuning: every weight of the encoder trains. Nothing stacks; a child starts from its
parent's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.errors import MismatchError, nearest

if TYPE_CHECKING:
    from torch import nn

    from adapters_xtl.methods import Link

__all__ = ["COMPOSES", "DEFAULTS", "LR", "attach", "check", "footprint", "save"]

LR = 1e-5  # Phang et al. 2020, first author's code
DEFAULTS: Mapping[str, Any] = {}
COMPOSES = {"init": "copy"}


def check(options: Mapping[str, Any]) -> list[str]:
    return [
        f"method.{name}: full fine-tuning has no options{nearest(name, ())}" for name in options
    ]


def attach(
    encoder: nn.Module,
    chain: Sequence[Link],
    options: Mapping[str, Any],
    *,
    from_layer: int = 0,
    train: bool = True,
) -> nn.Module:
    from safetensors.torch import load_file

    source = next(
        (link.directory or link.start for link in reversed(chain) if link.directory or link.start),
        None,
    )
    if source is not None:
        lacking = encoder.load_state_dict(
            load_file(str(source / "model.safetensors")), strict=False
        )
        if lacking.missing_keys or lacking.unexpected_keys:
            raise MismatchError(
                f"{source}: these weights are of another encoder"
                f" ({(lacking.missing_keys or lacking.unexpected_keys)[0]})"
            )
    encoder.requires_grad_(train)
    return encoder


def footprint(encoder: nn.Module, options: Mapping[str, Any], *, from_layer: int = 0) -> int | None:
    return sum(parameter.numel() for parameter in encoder.parameters())


def save(encoder: nn.Module, name: str, directory: Path) -> None:
    from safetensors.torch import save_file

    model: Any = encoder
    directory.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, str(directory / "model.safetensors"), metadata={"format": "pt"})
    (directory / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
