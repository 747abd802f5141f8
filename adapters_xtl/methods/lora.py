"""LoRA (Hu et al. 2021) through the library `peft`.

Active modules add up in every layer they touch, so a stack is additive, not sequential. Parameters
of one module: r·(in + out) for every linear layer it is put on, with DoRA `out` more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.backbones.shape import LINEAR_LAYERS, linear_sizes, shape
from adapters_xtl.base.errors import RunError
from adapters_xtl.base.untrusted import Refusal
from adapters_xtl.methods import _lora_weights
from adapters_xtl.methods._lora_options import (
    EVERY_LINEAR,
    RANK,
    check,
    layers_of,
    matches,
    matches_in_some_layer,
    plain_description,
    rank_of,
    sum_options,
)
from adapters_xtl.methods._method import (
    ForeignForm,
    Link,
    LowRank,
    Method,
    ModuleSpec,
    ShortLived,
    TensorShapes,
    adapter_name,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METHOD", "Lora"]

# Hu et al. 2021 train RoBERTa Large with an alpha of 2r at rates of this size (from memory); on
# XLM-R it was not measured here
LEARNING_RATE = 3e-4
# mini: among the best of six equal trials (benchmarks/results/defaults-mini); tiny: for tests
LEARNING_RATES = {"mini": 1e-3, "tiny": 1e-3}
RANDOM_B_STD = 0.02  # as BERT's initialisation of linear layers
# the start of a name in a whole model, before the encoder's own
_WHOLE_MODEL = re.compile(r"^(?:base_model\.model\.)?[a-z_]+\.(?=encoder\.layer\.)")


class Lora(Method):
    # and an alpha of twice the rank, where none is given (`_lora_options.ALPHA_PER_RANK`)
    defaults: Mapping[str, Any] = {
        "r": RANK,
        "lora_dropout": 0.0,
        "target_modules": EVERY_LINEAR,
    }
    learning_rate = LEARNING_RATE
    learning_rates = LEARNING_RATES
    compositions: Mapping[str, str] = {
        "stack": "additive",
        "init": "copy",
        "sum": "sum of modules trained apart",
    }
    bits = (32, 16, 8, 4)
    takes_from_layer = True
    not_folded = ""
    title = "A LoRA module"
    library = "peft"
    colour = "#D55E00"

    # ------------------------------------------------------------------ options and sizes

    def check(self, spec: ModuleSpec) -> tuple[dict[str, Any], list[str]]:
        return check(spec, self.defaults)

    def count(self, spec: ModuleSpec) -> int:
        extra = int(bool(spec.options.get("use_dora")))
        extra += int(bool(spec.options.get("lora_bias")))
        return sum(
            rank_of(name, spec.options) * (inputs + outputs) + extra * outputs
            for name, (inputs, outputs) in layers_of(
                spec.shape, spec.options, spec.from_layer
            ).items()
        )

    # ------------------------------------------------------------------ the network

    def attach(
        self,
        encoder: nn.Module,
        chain: Sequence[Link],
        options: Mapping[str, Any],
        *,
        from_layer: int = 0,
        fuse: bool = False,
        train: bool = True,
    ) -> nn.Module:
        from adapters_xtl.backbones import quantised

        quantised.import_bitsandbytes()
        from peft import PeftModel, get_peft_model
        from peft.tuners.lora import LoraLayer

        model: Any = encoder
        names = [adapter_name(link.name) for link in chain]
        for link, name in zip(chain, names, strict=True):
            source = link.directory or link.start
            if source is not None:
                if isinstance(model, PeftModel):
                    model.load_adapter(str(source), adapter_name=name, is_trainable=False)
                else:
                    model = PeftModel.from_pretrained(
                        model, str(source), adapter_name=name, is_trainable=False
                    )
            elif isinstance(model, PeftModel):
                model.add_adapter(name, _config(encoder, options, from_layer))
            else:
                model = get_peft_model(
                    model, _config(encoder, options, from_layer), adapter_name=name
                )
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

    def detach(self, encoder: nn.Module) -> nn.Module | None:
        from peft import PeftModel

        model: Any = encoder
        bare: nn.Module = model.unload() if isinstance(model, PeftModel) else encoder
        if hasattr(bare, "peft_config"):
            del bare.peft_config  # else the next module would be taken for a second one
        return bare.requires_grad_(False)

    def fold(self, encoder: nn.Module) -> nn.Module:
        _lora_weights.write_in(encoder)
        plain = self.detach(encoder)
        assert plain is not None
        return plain

    def merged(self, encoder: nn.Module, dtype: str) -> AbstractContextManager[object]:
        return _lora_weights.written_in(encoder, dtype)

    def randomize(self, encoder: nn.Module) -> None:
        """Draws the zero halves (B) of what trains from N(0, 0.02²): an untrained LoRA would change
        nothing at all.
        """
        from torch import nn as layers

        for name, parameter in encoder.named_parameters():
            if parameter.requires_grad and ".lora_B." in name and name.endswith("weight"):
                layers.init.normal_(parameter, std=RANDOM_B_STD)

    def sum_options(self, options: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
        return sum_options(options)

    def add_up(self, encoder: nn.Module, names: Sequence[str], name: str) -> None:
        model: Any = encoder
        model.base_model.add_weighted_adapter(
            [adapter_name(part) for part in names],
            [1.0] * len(names),
            adapter_name(name),
            combination_type="cat",
        )

    def products(self, encoder: nn.Module) -> Iterable[nn.Linear]:
        """All but those under DoRA, which takes the norm of its layer's weight."""
        from peft.tuners.lora import LoraLayer
        from torch import nn as layers

        under_dora = {
            id(layer.get_base_layer())
            for layer in encoder.modules()
            if isinstance(layer, LoraLayer) and len(layer.lora_magnitude_vector)
        }
        return [
            layer
            for layer in encoder.modules()
            if isinstance(layer, layers.Linear) and id(layer) not in under_dora
        ]

    def save(self, encoder: nn.Module, name: str, directory: Path) -> None:
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        model: Any = encoder
        name = adapter_name(name)
        description, weights = self.module_files()
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            key: value.detach().cpu().contiguous()
            for key, value in get_peft_model_state_dict(
                model, adapter_name=name, save_embedding_layers=False
            ).items()
        }
        save_file(state, str(directory / weights), metadata={"format": "pt"})
        config = model.peft_config[name]
        # the library writes sets in an order of its own in each process, and digests cover the file
        written: dict[str, Any] = {"inference_mode": True}
        for key in ("target_modules", "exclude_modules"):
            if isinstance(getattr(config, key), set):
                written[key] = sorted(getattr(config, key))
        before = {key: getattr(config, key) for key in written}
        vars(config).update(written)
        try:
            config.save_pretrained(str(directory))
        finally:
            vars(config).update(before)
        assert (directory / description).is_file()

    # ------------------------------------------------------------------ files

    def module_files(self, fused: bool = False) -> tuple[str, str]:
        return "adapter_config.json", "adapter_model.safetensors"

    def tensor_shapes(
        self,
        description: Mapping[str, Any],
        backbone: Mapping[str, Any],
        held: Iterable[str],
        fused: bool = False,
    ) -> TensorShapes | None:
        config = plain_description(description)
        form = shape(backbone, "its backbone")
        chosen = config["layers_to_transform"]
        chosen = [chosen] if isinstance(chosen, int) else chosen
        shapes: TensorShapes = {}
        for name, (inputs, outputs) in layers_of(form, config, 0).items():
            if chosen and int(name.split(".")[2]) not in chosen:
                continue
            rank, start = rank_of(name, config), f"base_model.model.{name}.lora_"
            shapes |= {f"{start}A.weight": (rank, inputs), f"{start}B.weight": (outputs, rank)}
            if config["use_dora"]:
                shapes[f"{start}magnitude_vector"] = (outputs,)
            if config["lora_bias"]:
                shapes[f"{start}B.bias"] = (outputs,)
        if not shapes:
            raise Refusal("its target_modules match no linear layer of its backbone")
        return shapes

    def loading_code(
        self,
        imports: Sequence[str],
        load: Sequence[str],
        folders: Sequence[str],
        names: Sequence[str],
        fused: bool,
    ) -> list[str]:
        lines = [
            f'model = PeftModel.from_pretrained(encoder, "{folders[0]}/module",'
            f' adapter_name="{folders[0]}")'
        ]
        lines += [
            f'model.load_adapter("{folder}/module", adapter_name="{folder}")'
            for folder in folders[1:]
        ]
        if len(folders) > 1:
            lines.append(
                f"model.base_model.set_adapter({list(folders)!r})  # active modules add up"
            )
        return ["from peft import PeftModel", *imports, *load, *lines, "model = model.eval()"]

    # ------------------------------------------------------------------ modules of others

    foreign = ForeignForm(
        weights="adapter_model.safetensors",
        pickle="adapter_model.bin",
        resave="save_pretrained(…)",
        backbone_key="base_model_name_or_path",
        limits=(
            "taken in is LoRA on the encoder's linear layers, with bias none and patterns of plain"
            " names"
        ),
        head_prefix="base_model.model.classifier.",
    )

    def foreign_description(
        self, config: Mapping[str, Any], names: dict[str, str]
    ) -> dict[str, Any]:
        """What it was on by full names, and nothing of the task's own model."""
        targets = {
            name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
            for name in names.values()
            if ".lora_" in name
        }
        left_out = (
            "auto_mapping",
            "task_type",
            "modules_to_save",
            "base_model_name_or_path",
            "revision",
            "exclude_modules",
            "layers_to_transform",
            "layers_pattern",
        )
        kept = {key: value for key, value in config.items() if key not in left_out}
        for key in ("rank_pattern", "alpha_pattern"):
            if isinstance(config.get(key), dict):
                kept[key] = {
                    _WHOLE_MODEL.sub("", name): value for name, value in config[key].items()
                }
        return {**kept, "target_modules": sorted(targets), "inference_mode": True}

    def foreign_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        names = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
        return {name: config[name] for name in names if config.get(name) not in (None, False)}

    # ------------------------------------------------------------------ memory

    memory_counted = True
    options_counted = frozenset(
        (
            "r",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "exclude_modules",
            "use_rslora",
            "init_lora_weights",
        )
    )

    def low_rank(self, options: Mapping[str, Any]) -> LowRank:
        wanted = options.get("target_modules", EVERY_LINEAR)
        excluded = options.get("exclude_modules") or ()
        return LowRank(
            layers=tuple(
                matches_in_some_layer(name, wanted) and not matches_in_some_layer(name, excluded)
                for name in LINEAR_LAYERS
            ),
            rank=int(options.get("r", RANK)),
            dropout=float(options.get("lora_dropout", 0)),
        )

    def short_lived(self, compute: int, states: int, wide: bool) -> ShortLived:
        mixed = compute != 4
        return ShortLived(
            states=3.5,
            inner=2.45 if wide else 2.1,
            inner_kept=not mixed,
            inner_copied=mixed and not wide,
        )


METHOD = Lora()


def _config(encoder: Any, options: Mapping[str, Any], from_layer: int) -> Any:
    """`LoraConfig` of a fresh module. A regular expression is written out as the names it matches:
    a stranger's would have to be run to know what it matches.
    """
    from peft import LoraConfig

    form = shape(encoder.config.to_dict())
    chosen = dict(options)
    if isinstance(chosen.get("exclude_modules"), str):
        chosen["exclude_modules"] = [
            name for name in linear_sizes(form) if matches(name, chosen["exclude_modules"])
        ]
    targets = chosen.get("target_modules", EVERY_LINEAR)
    if isinstance(targets, str) and (targets != EVERY_LINEAR or from_layer):
        # with a list of names only does peft take layers_to_transform
        return LoraConfig(**{**chosen, "target_modules": list(layers_of(form, chosen, from_layer))})
    if from_layer:
        layers = list(range(from_layer, form.layers))
        return LoraConfig(**chosen, layers_to_transform=layers, layers_pattern="layer")
    return LoraConfig(**chosen)
