"""Which tensors a module and a head must have, from their descriptions: so that weights fit before
they are loaded.

The libraries draw what a file lacks at random and ignore what it has too much; some of their
options import a module by name, fetch something, or are regular expressions. So a description is
read here first, option by option, and the weights must be exactly those it calls for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters_xtl.base.untrusted import Refusal, Tensor, printable, safe_name

__all__ = ["Sizes", "check_shapes", "module_files", "module_shapes", "sizes"]

Shapes = dict[str, tuple[int, ...]]
_PLACES = {"mh_adapter": "attention.output", "output_adapter": "output"}
_ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_orig",
    "gelu_python",
    "gelu_pytorch_tanh",
    "laplace",
    "leakyrelu",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)
_FLAGS = (
    "mh_adapter",
    "output_adapter",
    "original_ln_before",
    "original_ln_after",
    "ln_after",
    "is_parallel",
    "use_gating",
    "adapter_residual_before_ln",
)
# of use only with options that are off
_PHM = (
    "phm_dim",
    "factorized_phm_W",
    "shared_W_phm",
    "shared_phm_rule",
    "factorized_phm_rule",
    "phm_c_init",
    "phm_init_range",
    "learn_phm",
    "hypercomplex_nonlinearity",
    "phm_rank",
    "phm_bias",
)
_FUSION = (
    "key",
    "query",
    "value",
    "query_before_ln",
    "regularization",
    "residual_before",
    "temperature",
    "value_before_softmax",
    "value_initialized",
    "dropout_prob",
)
_IDLE: Mapping[str, Any] = {
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
    "loftq_config": {},
}
# switches of peft, off: False anywhere else is no value that it takes
_SWITCHES = (
    "fan_in_fan_out",
    "lora_bias",
    "use_qalora",
    "ensure_weight_tying",
    "modules_to_save",
    "layer_replication",
)
# what a config.json of a trained encoder may hold beyond its backbone's: transformers writes its
# defaults out
_WRITTEN: Mapping[str, tuple[Any, ...]] = {
    "classifier_dropout": (None,),
    "position_embedding_type": ("absolute",),
    "use_cache": (True,),
    "hidden_act": ("gelu",),
    "layer_norm_eps": (1e-12, 1e-5),
    "initializer_range": (0.02,),
    "hidden_dropout_prob": (0.1,),
    "pad_token_id": (0, 1),
    "attention_probs_dropout_prob": (0.1,),
    "bos_token_id": (0,),
    "eos_token_id": (2,),
}
_NOTES = ("architectures", "dtype", "torch_dtype", "transformers_version")
_ABSENT: tuple[Any, ...] = (None, False, [], {}, 0)
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True)
class Sizes:
    """What a backbone's config says of its tensors."""

    hidden: int
    inner: int
    layers: int
    vocabulary: int
    positions: int
    types: int
    longest: int  # tokens of an input


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Of a config.json; Refusal where a size is not a sensible number."""
    for name in _SIZES:
        if not _natural(config.get(name), 1, 1 << 24):
            raise Refusal(f"its backbone's {name} is {printable(config.get(name), 20)}")
    # RoBERTa and XLM-R count positions from behind the padding's
    first = config.get("pad_token_id", 1) if "roberta" in str(config.get("model_type")) else -1
    longest = (
        int(config["max_position_embeddings"]) - (first if _natural(first, -1, 1 << 24) else 1) - 1
    )
    hidden, inner, layers, vocabulary, positions, types = (config[name] for name in _SIZES)
    return Sizes(hidden, inner, layers, vocabulary, positions, types, longest)


def module_files(method: str, compose: str) -> tuple[str, str]:
    """(description, weights) that the library of a method writes. Refusal for a method that bundles
    do not carry.
    """
    if method == "bottleneck" and compose == "fuse":
        return "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
    known = {
        "bottleneck": ("adapter_config.json", "adapter.safetensors"),
        "lora": ("adapter_config.json", "adapter_model.safetensors"),
        "full": ("config.json", "model.safetensors"),
    }
    if method not in known:
        raise Refusal(f"method {printable(method, 20)!r}: bundles carry {', '.join(known)}")
    return known[method]


def module_shapes(
    method: str, compose: str, config: Any, backbone: Mapping[str, Any], held: Iterable[str]
) -> Shapes:
    """Name → shape of a module's tensors by its description and its backbone's config.json. `held`:
    the names that are there, for what parents decide.
    """
    size = sizes(backbone)
    if not isinstance(config, dict):
        raise Refusal("its description is no JSON object")
    if method == "full":
        return _full(config, backbone, size)
    if method == "lora":
        return _lora(config, size)
    if config.get("hidden_size", size.hidden) != size.hidden:
        raise Refusal(
            f"made for hidden size {printable(config['hidden_size'], 20)}; its backbone has"
            f" {size.hidden}"
        )
    own, name = config.get("config"), config.get("name")
    texts = ("model_class", "model_name", "model_type", "config_id", "version")
    for option, value in config.items():
        plain = option in ("config", "hidden_size", "name", "adapter_names") or (
            option in texts and isinstance(value, str)
        )
        if not plain or (option == "version" and not re.fullmatch(r"adapters\.\d+(\.\w+)*", value)):
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: unknown to this version"
            )
    if not isinstance(own, dict):
        raise Refusal(
            "its description holds no table 'config'"
        )  # a text there would be looked up, or fetched
    if not isinstance(name, str) or not all(map(safe_name, name.split(","))) or "." in name:
        raise Refusal(f"the adapter's name {printable(name, 40)!r} is none")
    if config.get("adapter_names", name.split(",")) != name.split(","):
        raise Refusal("its adapter_names are not those of its name")
    return _fusion(name, own, size, held) if compose == "fuse" else _bottleneck(name, own, size)


def check_shapes(held: Mapping[str, Tensor], wanted: Shapes) -> None:
    """Refusal that names the first tensor which is missing, too much, or of another shape."""
    for name in sorted(set(wanted) - set(held)):
        raise Refusal(
            f"lacks {len(set(wanted) - set(held))} of its {len(wanted)} tensors, e.g."
            f" {printable(name)}"
        )
    for name in sorted(set(held) - set(wanted)):
        raise Refusal(f"holds tensor {printable(name)}, which its description does not call for")
    for name, shape in wanted.items():
        if held[name].shape != shape:
            given = list(held[name].shape)
            raise Refusal(
                f"tensor {name} has shape {given}; its backbone and description give {list(shape)}"
            )


def _natural(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 4096 and all(map(safe_name, value))


def _linears(size: Sizes) -> dict[str, tuple[int, int]]:
    """Every linear layer of the encoder: name → (in, out)."""
    h, inner = size.hidden, size.inner
    inside = {
        "attention.self.query": (h, h),
        "attention.self.key": (h, h),
        "attention.self.value": (h, h),
        "attention.output.dense": (h, h),
        "intermediate.dense": (h, inner),
        "output.dense": (inner, h),
    }
    return {
        f"encoder.layer.{layer}.{name}": shape
        for layer in range(size.layers)
        for name, shape in inside.items()
    }


def _full(config: Mapping[str, Any], backbone: Mapping[str, Any], size: Sizes) -> Shapes:
    """A whole encoder: its config.json must be the backbone's, and bring no code of its own."""
    for option in ("model_type", "num_attention_heads", *_SIZES, *_WRITTEN):
        if option not in config and backbone.get(option) is not None:
            raise Refusal(f"its description lacks the option {option}")
    known = ("float32", "bfloat16", "float16", None)
    if (
        any(config.get(option) not in known for option in ("dtype", "torch_dtype"))
        or not isinstance(config.get("transformers_version", ""), str)
        or not _names(config.get("architectures") or [])
    ):
        raise Refusal("option dtype, architectures or transformers_version is malformed")
    for option, value in config.items():
        if option in backbone and option not in _NOTES and value != backbone[option]:
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: its backbone has"
                f" {backbone[option]!r}"
            )
        if (
            option not in backbone
            and option not in _NOTES
            and value not in _WRITTEN.get(option, ())
        ):
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: its backbone has none"
            )
    h = size.hidden
    found: Shapes = {
        "embeddings.word_embeddings.weight": (size.vocabulary, h),
        "embeddings.position_embeddings.weight": (size.positions, h),
        "embeddings.token_type_embeddings.weight": (size.types, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
    }
    for name, (width, out) in _linears(size).items():
        found |= {f"{name}.weight": (out, width), f"{name}.bias": (out,)}
    for layer in range(size.layers):
        for place in _PLACES.values():
            found |= {
                f"encoder.layer.{layer}.{place}.LayerNorm.{part}": (h,)
                for part in ("weight", "bias")
            }
    return found


def _bottleneck(name: str, config: Mapping[str, Any], size: Sizes) -> Shapes:
    """`BnConfig` of `adapters`; what it has beyond plain bottlenecks is refused by its name."""
    config = {
        "leave_out": [],
        "dropout": 0.0,
        "init_weights": "bert",
        "scaling": 1.0,
        "residual_before_ln": True,
        **config,
    }
    absent = (
        "phm_layer",
        "inv_adapter",
        "inv_adapter_reduction_factor",
        "cross_adapter",
        "stochastic_depth",
        "init_weights_seed",
        "ln_before",
        "architecture",
    )
    for option in absent:
        if config.get(option) not in _ABSENT or (
            option == "stochastic_depth" and not _number(config.get(option, 0), 0, 0)
        ):
            raise Refusal(
                f"option {option} = {printable(config[option], 20)}: bundles carry plain bottleneck"
                " adapters"
            )
    for option in ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"):
        if option not in config:
            raise Refusal(f"its description lacks the option {option}")
    free = (
        "leave_out",
        "dropout",
        "init_weights",
        "scaling",
        "residual_before_ln",
        "reduction_factor",
        "non_linearity",
    )
    for option in config:
        if option not in (*_FLAGS, *_PHM, *absent, *free):
            raise Refusal(f"option {printable(option, 40)}: unknown to this version")
    for option in _FLAGS:
        if not isinstance(config.get(option, False), bool):
            raise Refusal(f"option {option} is no truth value")
    activation = config.get("non_linearity")
    if not isinstance(activation, str) or activation.lower() not in _ACTIVATIONS:
        raise Refusal(f"option non_linearity = {printable(activation, 20)}: unknown")
    residual = config["residual_before_ln"]
    if not (isinstance(residual, bool) or residual == "post_add") or config["init_weights"] not in (
        "bert",
        "mam_adapter",
        "houlsby",
    ):
        raise Refusal("options residual_before_ln or init_weights: unknown value")
    if residual == "post_add" and not config.get("original_ln_before"):
        raise Refusal("option residual_before_ln = post_add needs original_ln_before")
    scaling, left_out = config["scaling"], config["leave_out"]
    if not isinstance(scaling, float) and scaling not in ("learned", "channel"):
        raise Refusal(
            f"option scaling = {printable(scaling, 20)}: a number such as 1.0, learned or channel"
        )
    if not isinstance(left_out, list) or not all(_natural(layer, 0, 10**4) for layer in left_out):
        raise Refusal("option leave_out is no list of layers")
    if not _number(config["dropout"], 0, 0.99):
        raise Refusal("option dropout is out of range")
    h, found = size.hidden, Shapes()
    rest: Shapes = {"adapter_up.bias": (h,)}
    if config.get("ln_after"):
        rest |= {"adapter_norm_after.weight": (h,), "adapter_norm_after.bias": (h,)}
    if config.get("use_gating"):
        rest |= {"gate.weight": (1, h), "gate.bias": (1,)}
    if not isinstance(scaling, float):
        rest["scaling"] = (1,) if scaling == "learned" else (h,)
    for layer in set(range(size.layers)) - set(left_out):
        down = max(1, int(h // _factor(config.get("reduction_factor"), layer)))
        own = {
            **rest,
            "adapter_down.0.weight": (down, h),
            "adapter_down.0.bias": (down,),
            "adapter_up.weight": (h, down),
        }
        for place in (place for flag, place in _PLACES.items() if config.get(flag)):
            found |= {
                f"encoder.layer.{layer}.{place}.adapters.{name}.{part}": shape
                for part, shape in own.items()
            }
    if not found:
        raise Refusal("its description puts an adapter into no layer")
    return found


def _factor(value: Any, layer: int) -> float:
    chosen = value.get(str(layer), value.get("default")) if isinstance(value, dict) else value
    if chosen is None or not _number(chosen, 1e-3, 1e6):
        raise Refusal(
            f"option reduction_factor = {printable(value, 40)}: a number above 0, or one for each"
            " layer"
        )
    return float(chosen)


def _fusion(name: str, config: Mapping[str, Any], size: Sizes, held: Iterable[str]) -> Shapes:
    """An AdapterFusion layer. Its places are its parents'; each one that is there must be there up
    to the top layer.
    """
    for option, value in config.items():
        fits = isinstance(value, bool) or (
            option == "dropout_prob" and (value is None or _number(value, 0, 0.99))
        )
        if option not in _FUSION or not fits:
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: unknown to this version"
            )
    if set(_FUSION) - set(config):
        raise Refusal(f"its description lacks the option {min(set(_FUSION) - set(config))}")
    parts: Shapes = {}
    for part in ("query", "key"):
        if config.get(part):
            parts |= {f"{part}.weight": (size.hidden, size.hidden), f"{part}.bias": (size.hidden,)}
    if config.get("value"):
        parts["value.weight"] = (size.hidden, size.hidden)
    places = re.compile(
        rf"encoder\.layer\.(\d+)\.(attention\.output|output)\.adapter_fusion_layer\.{re.escape(name)}\..+"
    )
    lowest: dict[str, int] = {}
    for tensor in held:
        if match := places.fullmatch(tensor):
            lowest[match[2]] = min(lowest.get(match[2], size.layers), int(match[1]))
    if not lowest or not parts:
        raise Refusal(f"holds no fusion layer '{name}'")
    return {
        f"encoder.layer.{layer}.{place}.adapter_fusion_layer.{name}.{part}": shape
        for place, low in lowest.items()
        for layer in range(low, size.layers)
        for part, shape in parts.items()
    }


def _lora(config: Mapping[str, Any], size: Sizes) -> Shapes:
    """`LoraConfig` of `peft`: options that are known to be plain, all others off."""
    if config.get("peft_type") != "LORA":
        raise Refusal(f"peft_type {printable(config.get('peft_type'), 20)}: bundles carry LORA")
    config = {
        "use_dora": False,
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        **config,
    }
    checks = {
        "r": _natural(config.get("r"), 1, 1 << 16),
        "lora_alpha": _number(config.get("lora_alpha"), 0, 1e9),
        "lora_dropout": _number(config.get("lora_dropout", 0.0), 0, 0.99),
        "bias": config.get("bias", "none") == "none",
        "init_lora_weights": (
            isinstance(how := config.get("init_lora_weights", True), bool) or how == "gaussian"
        ),
        "target_modules": (
            config.get("target_modules") == "all-linear" or _names(config.get("target_modules"))
        ),
        "exclude_modules": config["exclude_modules"] is None or _names(config["exclude_modules"]),
        "layers_pattern": config["layers_pattern"] in (None, "layer", ["layer"], []),
        "layers_to_transform": _layers(config["layers_to_transform"]),
        "use_dora": isinstance(config["use_dora"], bool),
        "use_rslora": isinstance(config.get("use_rslora", False), bool),
        "inference_mode": isinstance(config.get("inference_mode", True), bool),
        "rank_pattern": _pattern(config["rank_pattern"], 1),
        "alpha_pattern": _pattern(config["alpha_pattern"], 0),
    }
    texts = ("peft_version", "base_model_name_or_path", "revision")
    for option in ("r", "target_modules"):  # the library would guess them
        if option not in config:
            raise Refusal(f"its description lacks the option {option}")
    for option, value in config.items():
        fine = checks.get(
            option,
            value is None
            or (option in _IDLE and _IDLE[option] == value)
            or option == "peft_type"
            or (value is False and option in _SWITCHES)
            or (option in texts and isinstance(value, str) and len(value) < 500),
        )
        if not fine:
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: not one that bundles"
                " carry"
            )
    targets, excluded, found = config["target_modules"], config["exclude_modules"] or [], Shapes()
    layers = config["layers_to_transform"]
    chosen = [layers] if isinstance(layers, int) else layers
    for name, (width, out) in _linears(size).items():
        wanted = targets == "all-linear" or _matches(name, targets)
        if (
            not wanted
            or _matches(name, excluded)
            or (chosen and int(name.split(".")[2]) not in chosen)
        ):
            continue
        rank = next(
            (rank for key, rank in config["rank_pattern"].items() if _matches(name, [key])),
            config["r"],
        )
        base = f"base_model.model.{name}.lora_"
        found |= {f"{base}A.weight": (rank, width), f"{base}B.weight": (out, rank)}
        if config["use_dora"]:
            found[f"{base}magnitude_vector"] = (out,)
    if not found:
        raise Refusal("its target_modules match no linear layer of its backbone")
    return found


def _matches(name: str, targets: Iterable[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _layers(value: Any) -> bool:
    return (
        value is None
        or _natural(value, 0, 10**4)
        or (isinstance(value, list) and all(_natural(layer, 0, 10**4) for layer in value))
    )


def _pattern(value: Any, low: int) -> bool:
    return isinstance(value, dict) and all(
        safe_name(name) and _number(each, low, 1 << 16) for name, each in value.items()
    )
