"""Bottleneck adapters (Houlsby et al. 2019; Pfeiffer et al. 2020) through the library `adapters`.

Stacked modules run one after the other in each layer (AdapterStack). Count of one module, per layer
and place (one place by default, after the feed-forward block): down d·h + h, up h·d + d, with h = d
/ reduction_factor.

A fused module is an AdapterFusion layer (Pfeiffer et al. 2021, arXiv 2005.00247) over independent
parents: in each layer attention from its output to the parents' outputs. Count per layer and place:
query and key d·d + d, value d·d.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl.base.errors import RunError, nearest

if TYPE_CHECKING:
    from torch import nn

    from adapters_xtl.methods import Link

__all__ = ["COMPOSES", "DEFAULTS", "LR", "attach", "check", "detach", "footprint", "save"]

LR = 1e-4  # the library's own examples
DEFAULTS: Mapping[str, Any] = {
    "mh_adapter": False,
    "output_adapter": True,
    "reduction_factor": 16,
    "non_linearity": "relu",
}
COMPOSES = {"stack": "sequential", "init": "copy", "fuse": "attention over parents"}
_COUNTED = {
    "mh_adapter",
    "output_adapter",
    "reduction_factor",
    "non_linearity",
    "original_ln_before",
    "original_ln_after",
    "residual_before_ln",
    "adapter_residual_before_ln",
    "dropout",
    "scaling",
    "init_weights",
    "is_parallel",
}


def check(options: Mapping[str, Any], *, fuse: bool = False) -> list[str]:
    from adapters import BnConfig

    if fuse:
        return [
            f"method.{name}: a fused module is one attention layer over its parents and takes no"
            " options; --set-parents reaches theirs"
            for name in options
        ]

    known = {
        item.name: item
        for item in fields(BnConfig)
        if item.name not in ("architecture", "leave_out")
    }
    problems = [
        f"method.{name}: BnConfig of `adapters` has no such option{nearest(name, known)}"
        for name in options
        if name not in known
    ]
    wrong = [
        f"method.{name}={value!r}: BnConfig takes {known[name].type}"
        for name, value in options.items()
        if name in known and not _fits(value, known[name])
    ]
    factor = options.get("reduction_factor")
    if isinstance(factor, (int, float)) and not isinstance(factor, bool) and factor <= 0:
        wrong.append(f"method.reduction_factor={factor}: must be above 0")
    if options.get("non_linearity") is not None and not wrong:
        from transformers.activations import ACT2FN

        if str(options["non_linearity"]).lower() not in {
            *ACT2FN,
            "swish",
            "leakyrelu",
            "gelu_orig",
        }:
            wrong.append(
                f"method.non_linearity={options['non_linearity']!r}:"
                f" unknown{nearest(str(options['non_linearity']), ACT2FN)}"
            )
    if not (options.get("mh_adapter") or options.get("output_adapter")):
        wrong.append(
            "method.mh_adapter and method.output_adapter are both off: nothing would train"
        )
    return problems + wrong


def _fits(value: Any, item: Any) -> bool:
    """Whether a TOML value suits a dataclass field, going by the field's annotation."""
    text = str(item.type)
    kinds: dict[str, Any] = {
        "bool": bool,
        "int": int,
        "float": (int, float),
        "str": str,
        "Mapping": dict,
        "List": list,
    }
    named = [kind for word, kind in kinds.items() if word in text]
    if isinstance(value, bool):
        return "bool" in text
    return any(isinstance(value, kind) for kind in named) or (
        item.default is not MISSING and value == item.default
    )


def attach(
    encoder: nn.Module,
    chain: Sequence[Link],
    options: Mapping[str, Any],
    *,
    from_layer: int = 0,
    train: bool = True,
    fuse: bool = False,
) -> nn.Module:
    import adapters
    from adapters import BnConfig
    from adapters.composition import Fuse, Stack

    from adapters_xtl.backbones import loading

    bare: Any = encoder
    logging.getLogger("adapters.model_mixin").addFilter(_is_news)
    if not hasattr(bare, "adapters_config"):
        adapters.init(bare)
        loading.settle_quantised_layers(bare)
    layers = bare.config.num_hidden_layers
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
        # train_adapter(Stack(…)) would train the parents too: name the child alone, then activate
        # the whole chain
        bare.train_adapter(chain[-1].name)
        active = Stack(*(link.name for link in chain))
    if not train:
        bare.requires_grad_(False)
    bare.active_adapters = active
    return encoder


def detach(encoder: nn.Module) -> nn.Module:
    bare: Any = encoder
    if hasattr(bare, "adapters_config"):
        bare.active_adapters = None
        for name in list(bare.adapters_config.fusions):
            bare.delete_adapter_fusion(name)
        for name in list(bare.adapters_config.adapters):
            bare.delete_adapter(name)
    bare.requires_grad_(False)
    return encoder


def penalty(encoder: nn.Module) -> Any:
    """AdapterFusion's regulariser, 0.01 · |V − I|² summed over the layers that train, or None where
    none does.
    """
    bare: Any = encoder
    fused = getattr(getattr(bare, "adapters_config", None), "fusions", None)
    return bare.get_fusion_regularization_loss() if fused else None


def _is_news(record: logging.LogRecord) -> bool:
    """False for the library's remark, made while modules are being added, that none is
    active yet.
    """
    return "none are activated" not in record.getMessage()


def _assert_everywhere(encoder: Any, name: str, layers: int) -> None:
    """`adapters.init` passes silently over modules that it does not know: see that every wanted
    layer has its module.
    """
    left_out = set(encoder.adapters_config.get(name).leave_out)
    found = encoder.get_adapter(name)
    lacking = [
        number for number in range(layers) if number not in left_out and not found.get(number)
    ]
    if lacking:
        raise RunError(
            f"layers {lacking} of this backbone did not get adapter '{name}'; `adapters` does not"
            " support it"
        )


def _assert_fused(encoder: Any, chain: Sequence[Link]) -> None:
    """One attention layer wherever the parents have a bottleneck, and nothing else that trains."""
    d = int(encoder.config.hidden_size)
    places = sum(len(found) for found in encoder.get_adapter(chain[0].name).values())
    trains = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    if trains != places * (3 * d * d + 2 * d):
        raise RunError(
            f"{trains:,} parameters of the fusion layers would train, not"
            f" {places * (3 * d * d + 2 * d):,}"
        )


def footprint(
    encoder: nn.Module, options: Mapping[str, Any], *, from_layer: int = 0, fuse: bool = False
) -> int | None:
    config: Any = encoder.config
    if (
        fuse
    ):  # in every layer and place that holds a bottleneck of a parent, which only the parents know
        return None
    if not set(options) <= _COUNTED or not isinstance(options["reduction_factor"], (int, float)):
        return None
    d = int(config.hidden_size)
    h = max(1, int(d // options["reduction_factor"]))
    places = int(bool(options["mh_adapter"])) + int(bool(options["output_adapter"]))
    scale = int(options.get("scaling", 1.0) == "learned")
    return (int(config.num_hidden_layers) - from_layer) * places * (d * h + h + h * d + d + scale)


def save(encoder: nn.Module, name: str, directory: Path) -> None:
    bare: Any = encoder
    if (
        name not in bare.adapters_config.adapters
    ):  # the fusion layer, which goes by its parents' names
        bare.save_adapter_fusion(
            str(directory), next(iter(bare.adapters_config.fusions)), use_safetensors=True
        )
        return
    bare.save_adapter(str(directory), name, with_head=False, use_safetensors=True)
