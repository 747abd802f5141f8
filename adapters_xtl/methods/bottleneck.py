"""Bottleneck adapters (Houlsby et al. 2019; Pfeiffer et al. 2020) through the library `adapters`.

Stacked modules run one after the other in each layer (AdapterStack). Parameters of one module, per
layer and place (one place by default, after the feed-forward block): down d·h + h, up h·d + d, with
h = d / reduction_factor.

A fused module is an AdapterFusion layer (Pfeiffer et al. 2021, arXiv 2005.00247) over independent
parents: in each layer attention from its output to the parents' outputs. Parameters per layer and
place: query and key d·d + d each, value d·d.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import RunError
from adapters_xtl.methods._bottleneck_options import (
    REDUCTION_FACTOR,
    bottleneck_shapes,
    bottleneck_width,
    check,
    elements,
    fusion_shapes,
    named_config,
    places_of,
    tensors_of,
)
from adapters_xtl.methods._method import (
    AfterBlock,
    ForeignForm,
    KeptAfterBlock,
    Link,
    Method,
    ModuleSpec,
    ShortLived,
    TensorShapes,
    adapter_name,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METHOD", "Bottleneck"]

# the examples of `adapters` for its bottlenecks; on XLM-R it was not measured here
LEARNING_RATE = 1e-4
# mini: by equal trials on five tasks (benchmarks/results/defaults-mini), tagging takes more by its
# recipes; tiny: for tests
LEARNING_RATES = {"mini": 1e-3, "tiny": 1e-3}
# of mini's 384 dimensions a factor of 16 leaves 24: fewer than XLM-R Large's 64, and too few
ON_MINI = {"reduction_factor": 4}


class Bottleneck(Method):
    defaults: Mapping[str, Any] = {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": REDUCTION_FACTOR,
        "non_linearity": "relu",
    }
    defaults_by_backbone: Mapping[str, Mapping[str, Any]] = {"mini": ON_MINI}
    learning_rate = LEARNING_RATE
    learning_rates = LEARNING_RATES
    compositions: Mapping[str, str] = {
        "stack": "sequential",
        "init": "copy",
        "fuse": "attention over parents",
    }
    bits = (32, 16, 8, 4)
    takes_from_layer = True
    not_folded = (
        "a bottleneck is a non-linear layer behind each block, which no weights of the encoder can"
        " stand for"
    )
    title = "A bottleneck adapter"
    fused_title = "An AdapterFusion layer"
    library = "adapters"
    colour = "#0072B2"

    # ------------------------------------------------------------------ options and sizes

    def check(self, spec: ModuleSpec) -> tuple[dict[str, Any], list[str]]:
        if spec.fused:
            return {}, [
                f"method.{name}: a fused module is one attention layer over its parents and takes"
                " no options; --set-parents reaches theirs"
                for name in spec.options
            ]
        return check(spec, self.defaults)

    def count(self, spec: ModuleSpec) -> int:
        """Of a fused module: as many places as `defaults` say, which only its parents know."""
        hidden, places = spec.shape.hidden, places_of(spec.options)
        if spec.fused:
            layers = spec.shape.layers - spec.from_layer
            return layers * len(places) * (3 * hidden**2 + 2 * hidden)
        return sum(
            elements(part)
            for layer in range(spec.from_layer, spec.shape.layers)
            for part in tensors_of(spec.options, hidden, layer).values()
        ) * len(places)

    # ------------------------------------------------------------------ the network

    def prepare(self, encoder: nn.Module) -> nn.Module:
        """`adapters.init` builds layers of its own and so draws random numbers, once an encoder."""
        from adapters_xtl.backbones import loading, quantised

        quantised.import_bitsandbytes()
        import adapters

        logging.getLogger("adapters.model_mixin").addFilter(_is_news)
        if not hasattr(encoder, "adapters_config"):
            adapters.init(encoder)
            loading.settle_quantised_layers(encoder)
        return encoder

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
        from adapters import BnConfig
        from adapters.composition import Fuse, Stack

        bare: Any = self.prepare(encoder)
        layers = bare.config.num_hidden_layers
        chain = [replace(link, name=adapter_name(link.name)) for link in chain]
        for link in chain[:-1] if fuse else chain:
            source = link.directory or link.start
            if source is not None:
                bare.load_adapter(
                    str(source),
                    load_as=link.name,
                    with_head=False,
                    set_active=False,
                    use_safetensors=True,
                )
            else:
                bare.add_adapter(
                    link.name, config=BnConfig(**options, leave_out=list(range(from_layer)))
                )
            _assert_everywhere(bare, link.name, layers)
        if fuse:
            together = Fuse(*(link.name for link in chain[:-1]))
            if chain[-1].directory is not None:
                bare.load_adapter_fusion(
                    str(chain[-1].directory), load_as=together.name, use_safetensors=True
                )
            else:
                bare.add_adapter_fusion(together)
            bare.train_adapter_fusion(together)
            _assert_fused(bare, chain)
            active: Any = together
        else:
            # train_adapter(Stack(…)) would train the parents too: name the child alone, then
            # activate the whole chain
            bare.train_adapter(chain[-1].name)
            active = Stack(*(link.name for link in chain))
        if not train:
            bare.requires_grad_(False)
        bare.active_adapters = active
        return encoder

    def detach(self, encoder: nn.Module) -> nn.Module | None:
        bare: Any = encoder
        if hasattr(bare, "adapters_config"):
            bare.active_adapters = None
            for name in list(bare.adapters_config.fusions):
                bare.delete_adapter_fusion(name)
            for name in list(bare.adapters_config.adapters):
                bare.delete_adapter(name)
        bare.requires_grad_(False)
        return encoder

    def save(self, encoder: nn.Module, name: str, directory: Path) -> None:
        bare: Any = encoder
        name = adapter_name(name)
        if name not in bare.adapters_config.adapters:
            # the fusion layer, which goes by its parents' names
            bare.save_adapter_fusion(
                str(directory), next(iter(bare.adapters_config.fusions)), use_safetensors=True
            )
            return
        bare.save_adapter(str(directory), name, with_head=False, use_safetensors=True)

    def products(self, encoder: nn.Module) -> Iterable[nn.Linear]:
        from torch import nn as layers

        return [layer for layer in encoder.modules() if isinstance(layer, layers.Linear)]

    def penalty(self, encoder: nn.Module) -> Any:
        """AdapterFusion's regulariser, 0.01 · |V − I|² summed over the layers that train, or None
        where none does.
        """
        bare: Any = encoder
        fused = getattr(getattr(bare, "adapters_config", None), "fusions", None)
        return bare.get_fusion_regularization_loss() if fused else None

    # ------------------------------------------------------------------ files

    def module_files(self, fused: bool = False) -> tuple[str, str]:
        if fused:
            return "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
        return "adapter_config.json", "adapter.safetensors"

    def tensor_shapes(
        self,
        description: Mapping[str, Any],
        backbone: Mapping[str, Any],
        held: Iterable[str],
        fused: bool = False,
    ) -> TensorShapes | None:
        form = shape(backbone, "its backbone")
        name, config = named_config(description, form)
        if fused:
            return fusion_shapes(name, config, form, held)
        return bottleneck_shapes(name, config, form)

    def loading_code(
        self,
        imports: Sequence[str],
        load: Sequence[str],
        folders: Sequence[str],
        names: Sequence[str],
        fused: bool,
    ) -> list[str]:
        block = "Fuse" if fused else "Stack"
        lines = [
            f'model.load_adapter("{folder}/module", load_as="{name}", use_safetensors=True)'
            for folder, name in zip(folders, names, strict=False)
        ]
        if fused:
            lines.append(f'model.load_adapter_fusion("{folders[-1]}/module", use_safetensors=True)')
        return [
            "import adapters",
            f"from adapters.composition import {block}",
            *imports,
            *load,
            "adapters.init(encoder)",
            "model = encoder.eval()",
            *lines,
            f"model.active_adapters = {block}({', '.join(map(repr, names))})",
        ]

    # ------------------------------------------------------------------ modules of others

    foreign = ForeignForm(
        weights="adapter.safetensors",
        pickle="pytorch_adapter.bin",
        resave="save_adapter(…, use_safetensors=True)",
        backbone_key="model_name",
        limits=(
            "taken in are bottleneck adapters without invertible or hypercomplex layers (seq_bn,"
            " double_seq_bn, par_bn)"
        ),
        head_files=("model_head.safetensors", "head_config.json", "pytorch_model_head.bin"),
    )

    def foreign_description(
        self, config: Mapping[str, Any], names: dict[str, str]
    ) -> dict[str, Any]:
        """The library's, without what matters in training only; a name that no bundle takes is
        changed.
        """
        kept = ("hidden_size", "model_class", "model_type", "version")
        table, name = config.get("config"), str(config.get("name"))
        if isinstance(table, dict):
            table = {**table, "init_weights_seed": None, "stochastic_depth": 0.0}
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "adapter"
        if plain != name:
            names |= {
                old: new.replace(f".adapters.{name}.", f".adapters.{plain}.")
                for old, new in names.items()
            }
        return {
            "model_name": "",
            "config": table,
            "name": plain,
            **{key: config[key] for key in kept if key in config},
        }

    def foreign_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: config["config"][name] for name in self.defaults}

    # ------------------------------------------------------------------ memory

    memory_counted = True
    options_counted = frozenset(defaults)

    def kept_after_block(self, spec: ModuleSpec, after: AfterBlock) -> KeptAfterBlock | None:
        if after.place not in places_of(spec.options):
            return None
        hidden, inner = (
            spec.shape.hidden,
            bottleneck_width(spec.options, spec.shape.hidden, after.layer),
        )
        compute = after.compute
        # ReLU's output tells its gradient; other activations keep their input too
        activation = str(spec.options.get("non_linearity", "relu")).lower()
        kept_of_inner = (1 if activation == "relu" else 2) * inner * compute
        copied = compute if compute != 4 else 0  # autocast keeps a copy of float32 weights
        if spec.fused:
            # every parent's output four times over, the query before and after its layer, and
            # |V − I|²
            token = (4 * after.parents + 2) * compute * hidden
            fixed = hidden**2 * (3 * copied + 4)
            if after.gradient:
                token += after.parents * kept_of_inner
                fixed += 2 * after.parents * hidden * inner * copied
            return KeptAfterBlock(token, fixed, max(after.element, compute))
        token, fixed, element = 0, 0, after.element
        for number in range(after.parents + 1):
            trains = number == after.parents
            if trains:
                token += hidden * (element if element == compute else compute)
            if trains or after.gradient:
                token += kept_of_inner
                fixed += hidden * inner * copied * (2 if after.gradient else 1)
            element = max(element, compute)
        return KeptAfterBlock(token, fixed, element)

    def short_lived(self, compute: int, states: int, wide: bool) -> ShortLived:
        return ShortLived(states=5.5, inner=1.6)


METHOD = Bottleneck()


def _is_news(record: logging.LogRecord) -> bool:
    """False for the library's remark, made while modules are being added, that none is active
    yet.
    """
    return "none are activated" not in record.getMessage()


def _assert_everywhere(encoder: Any, name: str, layers: int) -> None:
    """`adapters.init` passes silently over modules that it does not know: see that every wanted
    layer has its module.
    """
    left_out = set(encoder.adapters_config.get(name).leave_out)
    by_layer = encoder.get_adapter(name)
    lacking = [
        number for number in range(layers) if number not in left_out and not by_layer.get(number)
    ]
    if lacking:
        raise RunError(
            f"layers {lacking} of this backbone did not get adapter '{name}'; `adapters` does not"
            " support it"
        )


def _assert_fused(encoder: Any, chain: Sequence[Link]) -> None:
    """One attention layer wherever the parents have a bottleneck, and nothing else that trains."""
    hidden = int(encoder.config.hidden_size)
    places = sum(len(blocks) for blocks in encoder.get_adapter(chain[0].name).values())
    expected = places * (3 * hidden * hidden + 2 * hidden)
    trains = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    if trains != expected:
        raise RunError(f"{trains:,} parameters of the fusion layers would train, not {expected:,}")
