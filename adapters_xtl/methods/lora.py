"""LoRA (Hu et al. 2021) through the library `peft`.

Active modules add up in every layer they touch, so a stack is additive, not sequential. Count of
one module: r·(in + out) for every linear layer it is put on.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.errors import RunError, nearest

if TYPE_CHECKING:
    from torch import nn

    from adapters_xtl.methods import Link

__all__ = [
    "COMPOSES",
    "DEFAULTS",
    "LR",
    "attach",
    "check",
    "detach",
    "footprint",
    "randomize",
    "save",
]

LR = 5e-4
DEFAULTS: Mapping[str, Any] = {
    "r": 16,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
}
COMPOSES = {"stack": "additive", "init": "copy"}
_COUNTED = {
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "use_rslora",
    "init_lora_weights",
    "exclude_modules",
}
_OURS = {
    "task_type",
    "peft_type",
    "inference_mode",
    "base_model_name_or_path",
    "revision",
    "auto_mapping",
    "layers_to_transform",
    "layers_pattern",
    "runtime_config",
    "modules_to_save",
}


def check(options: Mapping[str, Any]) -> list[str]:
    from peft import LoraConfig

    known = set(inspect.signature(LoraConfig).parameters) - _OURS
    problems = [
        f"method.{name}: LoraConfig of `peft` has no such option{nearest(name, known)}"
        for name in options
        if name not in known
    ]
    if problems:
        return problems
    for name, low in (("r", 1), ("lora_alpha", 0)):
        value = options.get(name, low)
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or value < low
            or (name == "r" and value != int(value))
        ):
            problems.append(
                f"method.{name}={value!r}: takes a {'whole ' if name == 'r' else ''}number from"
                f" {low} on"
            )
    dropout = options.get("lora_dropout", 0.0)
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        problems.append(f"method.lora_dropout={dropout!r}: takes a number from 0 to below 1")
    if not problems:
        try:
            LoraConfig(**options)
        except (ValueError, TypeError) as error:
            problems.append(
                f"method: LoraConfig refuses these options: {str(error).splitlines()[0]}"
            )
    return problems


def _config(encoder: Any, options: Mapping[str, Any], from_layer: int) -> Any:
    from peft import LoraConfig

    if not from_layer:
        return LoraConfig(**options)
    if isinstance(
        options["target_modules"], str
    ):  # peft takes layers_to_transform with a list of names only
        return LoraConfig(**{**options, "target_modules": _linear_from(encoder, from_layer)})
    layers = list(range(from_layer, encoder.config.num_hidden_layers))
    return LoraConfig(**options, layers_to_transform=layers, layers_pattern="layer")


def _linear_from(encoder: Any, layer: int) -> list[str]:
    """Full names of the linear modules of the layers from `layer` up, with or without LoRA on them
    already.
    """
    from torch import nn

    found = []
    for name, module in encoder.named_modules():
        name = name.removeprefix("base_model.model.").removesuffix(".base_layer")
        number = next((int(part) for part in name.split(".") if part.isdigit()), -1)
        if isinstance(module, nn.Linear) and ".lora_" not in name and number >= layer:
            found.append(name)
    return found


def attach(
    encoder: nn.Module,
    chain: Sequence[Link],
    options: Mapping[str, Any],
    *,
    from_layer: int = 0,
    train: bool = True,
) -> nn.Module:
    from peft import PeftModel, get_peft_model
    from peft.tuners.lora import LoraLayer

    model: Any = encoder
    for link in chain:
        source = link.directory or link.start
        if source is not None:
            if isinstance(model, PeftModel):
                model.load_adapter(str(source), adapter_name=link.name, is_trainable=False)
            else:
                model = PeftModel.from_pretrained(
                    model, str(source), adapter_name=link.name, is_trainable=False
                )
        elif isinstance(model, PeftModel):
            model.add_adapter(link.name, _config(encoder, options, from_layer))
        else:
            model = get_peft_model(
                model, _config(encoder, options, from_layer), adapter_name=link.name
            )
    names = [link.name for link in chain]
    # only the tuner's set_adapter takes a list, and it makes all of them trainable: freeze
    # everything but the child
    model.base_model.set_adapter(names)
    model.requires_grad_(False)
    if train:
        model.set_requires_grad(names[-1], True)
    touched = [
        module
        for module in model.modules()
        if isinstance(module, LoraLayer) and names[-1] in module.lora_A
    ]
    if not touched:
        raise RunError(
            f"no layer of this backbone got LoRA '{names[-1]}': target_modules matches nothing"
        )
    if any(
        list(module.active_adapters) != names
        for module in touched
        if set(names) <= set(module.lora_A)
    ):
        raise RunError(
            "peft did not activate the whole stack"
        )  # an upstream change would end here, not in a score
    result: nn.Module = model
    return result


def detach(encoder: nn.Module) -> nn.Module:
    from peft import PeftModel

    model: Any = encoder
    bare: nn.Module = model.unload() if isinstance(model, PeftModel) else encoder
    if hasattr(bare, "peft_config"):
        del bare.peft_config  # else the next module would be taken for a second one
    return bare.requires_grad_(False)


def randomize(encoder: nn.Module) -> None:
    """Draws the zero halves (B) of what trains from N(0, 0.02²): an untrained LoRA would change
    nothing at all.
    """
    from torch import nn as layers

    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad and ".lora_B." in name:
            layers.init.normal_(parameter, std=0.02)


def footprint(encoder: nn.Module, options: Mapping[str, Any], *, from_layer: int = 0) -> int | None:
    from torch import nn as layers

    targets = options["target_modules"]
    if (
        not set(options) <= _COUNTED
        or "exclude_modules" in options
        or not isinstance(targets, (str, list))
    ):
        return None
    if isinstance(targets, str) and targets != "all-linear":
        return None
    total = 0
    for name, module in encoder.named_modules():
        number = next((int(part) for part in name.split(".") if part.isdigit()), -1)
        wanted = targets == "all-linear" or any(
            name == target or name.endswith(f".{target}") for target in targets
        )
        if isinstance(module, layers.Linear) and wanted and number >= from_layer:
            total += int(options["r"]) * (module.in_features + module.out_features)
    return total


def save(encoder: nn.Module, name: str, directory: Path) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    model: Any = encoder
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in get_peft_model_state_dict(
            model, adapter_name=name, save_embedding_layers=False
        ).items()
    }
    save_file(state, str(directory / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = model.peft_config[name]
    before = config.inference_mode, config.target_modules
    config.inference_mode = True
    if isinstance(
        config.target_modules, set
    ):  # written in an order of its own in each process, and digests cover the file
        config.target_modules = sorted(config.target_modules)
    try:
        config.save_pretrained(str(directory))
    finally:
        config.inference_mode, config.target_modules = before
