"""LoRA's options: their table, their check, and the layers that they choose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xtl.backbones.shape import LINEAR_LAYERS, Shape, linear_sizes
from adapters_xtl.base.errors import nearest
from adapters_xtl.base.untrusted import Refusal, printable, safe_name
from adapters_xtl.methods import _options
from adapters_xtl.methods._method import ModuleSpec

__all__ = [
    "ALPHA_PER_RANK",
    "EVERY_LINEAR",
    "RANK",
    "check",
    "layers_of",
    "matches",
    "matches_in_some_layer",
    "plain_description",
    "rank_of",
    "sum_options",
]

RANK = 16
ALPHA_PER_RANK = 2  # LoRA's part is scaled by alpha / r: a larger rank is then not a weaker one
LIBRARY_ALPHA = 8  # of a LoraConfig that names none
LARGEST_RANK = 1 << 16
LARGEST_ALPHA = 1e9
EVERY_LINEAR = "all-linear"

# initialisations that leave the backbone's weights as they are
_PLAIN_INITS = (True, False, "gaussian", "orthogonal")
_REWRITES = "it rewrites the backbone's weights, which every module here leaves as they are"
_NEEDS_DATA = "it needs rows of data before training, which are not given to a method here"
# why an initialisation is refused, by how its name begins
_REFUSED_INITS = {
    "pissa": _REWRITES,
    "olora": _REWRITES,
    "corda": _REWRITES,
    "loftq": _REWRITES,
    "lora_ga": _REWRITES,
    "eva": _NEEDS_DATA,
    "mica": "it trains one half of the module only, which is not counted and saved here",
}
# options with which peft's concatenation of the factors is not the sum of the updates
_NOT_SUMMED = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern")
_OWN_FLAG = "it is set here by"
_NOT_SAVED = "what it adds is not counted, saved and shared here"
_REFUSED: Mapping[str, str] = {
    "bias": "biases belong to the backbone, which stays frozen; takes none",
    "layers_to_transform": f"{_OWN_FLAG} --from-layer",
    "layers_pattern": f"{_OWN_FLAG} --from-layer",
    "inference_mode": f"{_OWN_FLAG} what a module is used for",
    "task_type": f"{_OWN_FLAG} the task",
    "peft_type": f"{_OWN_FLAG} --method",
    "base_model_name_or_path": f"{_OWN_FLAG} --backbone",
    "revision": f"{_OWN_FLAG} --backbone",
    "auto_mapping": f"{_OWN_FLAG} --backbone",
    "modules_to_save": "heads are saved beside the module, and the backbone stays frozen",
    "fan_in_fan_out": "it is for Conv1D layers, which these backbones do not have",
    "layer_replication": _REWRITES,
    "loftq_config": _REWRITES,
    "corda_config": _REWRITES,
    "lora_ga_config": _REWRITES,
    "kasa_config": _REWRITES,
    "eva_config": _NEEDS_DATA,
    "megatron_config": "Megatron's layers are not used here",
    "megatron_core": "Megatron's layers are not used here",
    "trainable_token_indices": "the embedding table stays frozen",
    "ensure_weight_tying": "no tied layers are trained here",
    "alora_invocation_tokens": "it is for generation",
    "use_qalora": "it is for GPTQ, which is not used here",
    "qalora_group_size": "it is for GPTQ, which is not used here",
    "target_parameters": "the layers are chosen by target_modules",
    "runtime_config": "it is not saved with a module",
    "velora_config": _NOT_SAVED,
    "monteclora_config": _NOT_SAVED,
    "arrow_config": _NOT_SAVED,
    "use_bdlora": _NOT_SAVED,
    "peft_version": "it is written by the library",
}
# what `peft` takes where nothing is said
_LIBRARY_DEFAULTS: Mapping[str, Any] = {
    "lora_dropout": 0.0,
    "use_rslora": False,
    "use_dora": False,
    "lora_bias": False,
    "init_lora_weights": True,
    "exclude_modules": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "layers_to_transform": None,
    "layers_pattern": None,
    "modules_to_save": None,
    "fan_in_fan_out": False,
    "layer_replication": None,
    "loftq_config": {},
    "corda_config": None,
    "lora_ga_config": None,
    "kasa_config": None,
    "eva_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "trainable_token_indices": None,
    "ensure_weight_tying": False,
    "alora_invocation_tokens": None,
    "use_qalora": False,
    "qalora_group_size": 16,
    "target_parameters": None,
    "velora_config": None,
    "monteclora_config": None,
    "arrow_config": None,
    "use_bdlora": None,
}


def _initialisation(value: Any) -> Any:
    """Reads init_lora_weights."""
    if isinstance(value, str):
        for start, reason in _REFUSED_INITS.items():
            if value.lower().startswith(start):
                raise ValueError(reason)
    return _options.one_of(*_PLAIN_INITS)(value)


def _layer_names(value: Any) -> Any:
    """Reads target_modules or exclude_modules: a list of names, or a regular expression."""
    if isinstance(value, str) and value:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression ({error})") from error
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return value
    raise ValueError(f"takes {EVERY_LINEAR}, a list of layer names, or a regular expression")


def _pattern(parse: _options.Parser) -> _options.Parser:
    """Reads a table of layer names with a value each."""

    def parse_table(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(map(safe_name, value)):
            raise ValueError("takes a table of plain layer names, e.g. {query = 4}")
        return {name: parse(entry) for name, entry in value.items()}

    return parse_table


_rank = _options.whole(1, LARGEST_RANK)
_alpha = _options.number(0, LARGEST_ALPHA, above=True)
_PARSERS: Mapping[str, _options.Parser] = {
    "r": _rank,
    "lora_alpha": _alpha,
    "lora_dropout": _options.number(0, 1, below=True),
    "target_modules": _layer_names,
    "exclude_modules": _layer_names,
    "use_rslora": _options.flag,
    "use_dora": _options.flag,
    "lora_bias": _options.flag,
    "init_lora_weights": _initialisation,
    "rank_pattern": _pattern(_rank),
    "alpha_pattern": _pattern(_alpha),
}


def matches(name: str, wanted: Iterable[str] | str) -> bool:
    """Whether a layer's full name is one of those that `peft` takes `wanted` for: names or ends of
    names in a list, or a regular expression for the whole name.
    """
    if isinstance(wanted, str):
        return wanted == EVERY_LINEAR or re.fullmatch(wanted, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in wanted)


def layers_of(
    form: Shape, options: Mapping[str, Any], from_layer: int
) -> dict[str, tuple[int, int]]:
    """The linear layers that get a low-rank part: full name → (inputs, outputs)."""
    excluded = options.get("exclude_modules") or ()
    return {
        name: sides
        for name, sides in linear_sizes(form).items()
        if int(name.split(".")[2]) >= from_layer
        and matches(name, options.get("target_modules", EVERY_LINEAR))
        and not matches(name, excluded)
    }


def rank_of(name: str, options: Mapping[str, Any]) -> int:
    pattern: Mapping[str, int] = options.get("rank_pattern") or {}
    own = (rank for end, rank in pattern.items() if matches(name, [end]))
    return int(next(own, options.get("r", RANK)))


def check(spec: ModuleSpec, recorded: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """See `Method.check`. `recorded`: options that are recorded even at their default."""
    options, problems = _options.read_options(
        spec.options,
        _PARSERS,
        _REFUSED,
        _LIBRARY_DEFAULTS,
        "LoraConfig of `peft`",
        recorded,
    )
    if problems:
        return options, problems
    options.setdefault("lora_alpha", ALPHA_PER_RANK * options.get("r", RANK))
    return options, [*_unmatched(spec, options), *_at_odds(options)]


_LAYER = re.compile(r"^(?:.*\.)?layer\.\d+\.")


def matches_in_some_layer(name: str, wanted: Iterable[str] | str) -> bool:
    """Whether a linear layer of an encoder layer is matched; one that is matched in one encoder
    layer counts as matched in all. A regular expression counts as matching all.
    """
    if isinstance(wanted, str):
        return True
    return matches(name, [_LAYER.sub("", pattern) for pattern in wanted])


def _unmatched(spec: ModuleSpec, options: Mapping[str, Any]) -> list[str]:
    """Names in target_modules, exclude_modules and the patterns that match no layer."""
    full = [name for name in linear_sizes(spec.shape) if int(name.split(".")[2]) >= spec.from_layer]
    targeted = list(layers_of(spec.shape, options, spec.from_layer))
    ends = ("query", "key", "value", "dense", *LINEAR_LAYERS)
    problems = []
    for option, among in (
        ("target_modules", full),
        ("exclude_modules", full),
        ("rank_pattern", targeted),
        ("alpha_pattern", targeted),
    ):
        wanted = options.get(option) or ()
        for layer_name in [wanted] if isinstance(wanted, str) else wanted:
            pattern = layer_name if isinstance(wanted, str) else [layer_name]
            if any(matches(name, pattern) for name in among):
                continue
            hint = nearest(layer_name, ends)
            which = "of the layers with a LoRA" if among is targeted else "of the linear layers"
            problems.append(
                f"method.{option}: {printable(layer_name)!r} matches none {which}{hint}"
            )
    if not problems and not targeted:
        problems.append("method.exclude_modules: it leaves no layer that target_modules matches")
    return problems


def _at_odds(options: Mapping[str, Any]) -> list[str]:
    """Options that the library does not take together."""
    problems = []
    ranks = [options.get("r", RANK), *(options.get("rank_pattern") or {}).values()]
    init = options.get("init_lora_weights", True)
    if init == "orthogonal" and any(rank % 2 for rank in ranks):
        problems.append("method.init_lora_weights=orthogonal: takes even ranks only")
    if options.get("lora_bias") and not isinstance(init, bool):
        problems.append(f"method.lora_bias: not together with init_lora_weights={init}")
    if options.get("lora_bias") and options.get("use_dora"):
        problems.append("method.lora_bias: not together with use_dora")
    return problems


def sum_options(options: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """(options of the sum of modules with these, what stands against it).

    Low-rank updates are added exactly by a module whose rank is the sum of theirs.
    """
    problems = []
    for key in _NOT_SUMMED:
        if any(chosen.get(key) for chosen in options):
            problems.append(
                f"--compose sum: modules with method.{key} are not added up: their sum is no plain"
                " LoRA"
            )
    for key in ("target_modules", "exclude_modules"):
        if any(chosen.get(key) != options[0].get(key) for chosen in options):
            problems.append(f"--compose sum: the parents differ in method.{key}")
    rank = sum(int(chosen["r"]) for chosen in options)
    # peft multiplies the factors by their scaling, so that the sum's own is 1
    return {**options[0], "r": rank, "lora_alpha": rank}, problems


def plain_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter_config.json with its defaults filled in. Refusal names the first option that is
    not known to be plain: some of the library's import code by name, fetch something, or are
    regular expressions.
    """
    if description.get("peft_type") != "LORA":
        raise Refusal(f"peft_type {printable(description.get('peft_type'), 20)}: takes LORA")
    for option in ("r", "target_modules"):  # the library would guess them
        if option not in description:
            raise Refusal(f"its description lacks the option {option}")
    config = {**_LIBRARY_DEFAULTS, "lora_alpha": LIBRARY_ALPHA, **description}
    parsers = {
        **_PARSERS,
        "lora_alpha": _options.number(0, LARGEST_ALPHA),
        "alpha_pattern": _pattern(_options.number(0, LARGEST_ALPHA)),
    }
    for option, value in description.items():
        if option in ("target_modules", "exclude_modules"):
            fine = (value == EVERY_LINEAR and option == "target_modules") or _plain_names(value)
            fine = fine or (value is None and option == "exclude_modules")
        elif option == "r":
            fine = type(value) is int and _reads(parsers[option], value)
        elif option in parsers:
            fine = _reads(parsers[option], value)
        elif option == "layers_pattern":
            fine = value in (None, "layer", ["layer"], [])
        elif option == "layers_to_transform":
            fine = value is None or _is_layer(value) or _are_layers(value)
        elif option in ("peft_version", "base_model_name_or_path", "revision"):
            fine = value is None or (isinstance(value, str) and len(value) < 500)
        elif option == "inference_mode":
            fine = isinstance(value, bool)
        else:
            default = _LIBRARY_DEFAULTS.get(option)
            off = value is None or (type(value) is type(default) and value == default)
            fine = off or option == "peft_type"
        if not fine:
            raise Refusal(
                f"option {printable(option, 40)} = {printable(value, 40)}: not one of a plain LoRA"
            )
    return config


def _reads(parse: _options.Parser, value: Any) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _plain_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 4096 and all(map(safe_name, value))


def _is_layer(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**4


def _are_layers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_layer, value))
