"""A backbone's config.json, read and checked here before a library sees any of it.

transformers takes every key of a config.json for an attribute of the model's configuration, and
some of them make it fetch and run code: a hub repository under `_attn_implementation_internal` is
loaded where the package `kernels` is installed (CVE-2026-4372, in all of 4.57), `auto_map` names
Python files. So a config is refused by name for what could run, redirect or change more than an
encoder's sizes, and the library is given the keys of `encoder_settings` alone.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.untrusted import Refusal, parse_json, printable

__all__ = [
    "check_config",
    "MODEL_TYPES",
    "check_tokenizer_config",
    "encoder_settings",
    "read_config",
    "read_object",
]

MODEL_TYPES = ("xlm-roberta", "roberta", "bert")
LARGEST_FILE = 8 << 20  # bytes of a config or an index of weights


class _Range(NamedTuple):
    """What a number of a config may be, both ends included. `needed`: it may not be left out."""

    low: float
    high: float
    needed: bool = False


_WHOLE_NUMBERS = {
    "hidden_size": _Range(1, 1 << 16, needed=True),
    "num_hidden_layers": _Range(1, 1024, needed=True),
    "num_attention_heads": _Range(1, 4096, needed=True),
    "intermediate_size": _Range(1, 1 << 20, needed=True),
    "vocab_size": _Range(1, 1 << 24, needed=True),
    "max_position_embeddings": _Range(1, 1 << 20, needed=True),
    "type_vocab_size": _Range(1, 1 << 16),
    "pad_token_id": _Range(0, (1 << 24) - 1),
    "chunk_size_feed_forward": _Range(0, 0),
}
_NUMBERS = {
    "hidden_dropout_prob": _Range(0, 0.999),
    "attention_probs_dropout_prob": _Range(0, 0.999),
    "layer_norm_eps": _Range(0, 1),
    "initializer_range": _Range(0, 100),
}
_NAMES = {
    "hidden_act": (
        "gelu",
        "gelu_new",
        "gelu_fast",
        "gelu_pytorch_tanh",
        "quick_gelu",
        "relu",
        "silu",
        "swish",
        "tanh",
        "mish",
    ),
    "position_embedding_type": ("absolute", "relative_key", "relative_key_query"),
}
# token ids that a saved checkpoint names; an encoder computes nothing from them
_TOKEN_IDS = ("bos_token_id", "eos_token_id")
_ATTENTIONS = (None, "eager", "sdpa")
_ATTENTION_KEYS = ("_attn_implementation_internal", "_attn_implementation", "attn_implementation")
# keys that are refused unless they are null, false or empty → why
_REFUSED = {
    "auto_map": "names Python code",
    "custom_pipelines": "names Python code",
    "trust_remote_code": "asks to run a repository's code",
    "quantization_config": "says that the weights are quantised; give 32- or 16-bit weights",
    "compression_config": "says that the weights are compressed; give 32- or 16-bit weights",
    "transformers_weights": "names another file of weights",
    "pruned_heads": "leaves out attention heads",
    "is_decoder": "makes a decoder of it",
    "add_cross_attention": "makes a decoder of it",
    "is_encoder_decoder": "makes a decoder of it",
}
_TOKENIZER_REFUSED = ("auto_map", "trust_remote_code")


def read_config(path: Path, where: str, *, sizes_only: bool = False) -> dict[str, Any]:
    """The config.json at `path`, checked. RequestError, one line that begins with `where` and names
    every key that is wrong.

    `sizes_only`: any model type will do, for a plan that loads nothing.
    """
    config = read_object(path, where)
    check_config(config, f"{where}: {path.name}", sizes_only=sizes_only)
    return config


def check_config(config: Mapping[str, Any], where: str, *, sizes_only: bool = False) -> None:
    """RequestError, one line that begins with `where` and names every key that is wrong, for a
    config that is not to be loaded.
    """
    complaints = list(_complaints(config, sizes_only))
    if complaints:
        raise RequestError(f"{where}: {'; '.join(complaints)}")


def encoder_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a checked config that say what the encoder computes: all that a library gets."""
    keys = (*_WHOLE_NUMBERS, *_NUMBERS, *_NAMES, *_TOKEN_IDS)
    return {key: config[key] for key in keys if key in config}


def check_tokenizer_config(path: Path, where: str) -> dict[str, Any]:
    """The tokenizer_config.json at `path`. RequestError when it names code or is no JSON object."""
    config = read_object(path, where)
    named = [key for key in _TOKENIZER_REFUSED if config.get(key)]
    if named:
        raise RequestError(f"{where}: {path.name}: {', '.join(named)} names code, which never runs")
    kind = config.get("tokenizer_class")
    if kind is not None and not isinstance(kind, str):
        raise RequestError(f"{where}: {path.name}: tokenizer_class is no name")
    return config


def read_object(path: Path, where: str) -> dict[str, Any]:
    """The JSON object in a file, within limits of size, depth and digits.

    RequestError, one line, for anything else: no regular file, no UTF-8, a key that occurs twice,
    NaN, a lone surrogate.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refusal("not a regular file")
        with path.open("rb") as file:
            value = parse_json(file.read(LARGEST_FILE + 1), LARGEST_FILE)
        if not isinstance(value, dict):
            raise Refusal("holds no JSON object")
        for text in _texts(value):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise Refusal(f"half a character (a lone surrogate) in '{printable(text)}'")
    except Refusal as refusal:
        raise RequestError(f"{where}: {path.name}: {refusal}") from refusal
    except OSError as error:
        raise RequestError(f"{where}: {path.name} cannot be read ({error.strerror})") from error
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _complaints(config: Mapping[str, Any], sizes_only: bool) -> Iterator[str]:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        yield f"model_type is {_shown(config, 'model_type')}, not one of {', '.join(MODEL_TYPES)}"
    elif kind not in MODEL_TYPES and not sizes_only:
        yield (
            f"model_type '{printable(kind)}' is not one of {', '.join(MODEL_TYPES)}"
            f"{nearest(kind, MODEL_TYPES) if len(kind) < 40 else ''}"
        )
    for key in _ATTENTION_KEYS:
        if key in config and config[key] not in _ATTENTIONS:
            yield f"{key} is {_shown(config, key)}, which may name code; take eager or sdpa"
    for key, reason in _REFUSED.items():
        if config.get(key):
            yield f"{key} {reason}"
    for key, limits in _WHOLE_NUMBERS.items():
        if (key in config or limits.needed) and not _within(config.get(key), limits, whole=True):
            number = f"a whole number from {limits.low:,} to {limits.high:,}"
            yield f"{key} is {_shown(config, key)}, not {number if limits.high else '0'}"
    for key, limits in _NUMBERS.items():
        if key in config and not _within(config[key], limits):
            yield f"{key} is {_shown(config, key)}, not a number from {limits.low} to {limits.high}"
    for key, names in _NAMES.items():
        if key in config and config[key] not in names:
            yield f"{key} is {_shown(config, key)}, not one of {', '.join(names)}"
    for key in _TOKEN_IDS:
        if config.get(key) is not None and not _within(config[key], _Range(0, 1 << 24), whole=True):
            yield f"{key} is {_shown(config, key)}, not a token's id"
    yield from _contradictions(config)


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Numbers that are sound each by itself and not together."""
    hidden, heads, vocabulary, padding, positions = (
        value if type(value := config.get(key)) is int and value >= 0 else None
        for key in (
            "hidden_size",
            "num_attention_heads",
            "vocab_size",
            "pad_token_id",
            "max_position_embeddings",
        )
    )
    if hidden and heads and hidden % heads:
        yield f"hidden_size {hidden:,} is no multiple of num_attention_heads {heads:,}"
    if vocabulary and padding is not None and padding >= vocabulary:
        yield f"pad_token_id {padding:,} is not below vocab_size {vocabulary:,}"
    roberta = "roberta" in str(config.get("model_type"))
    if roberta and positions and positions <= (1 if padding is None else padding) + 1:
        yield f"max_position_embeddings {positions:,} leave no position for a token"


def _within(value: Any, limits: _Range, *, whole: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return False
    return limits.low <= value <= limits.high


def _shown(config: Mapping[str, Any], key: str) -> str:
    """A value for a message: 'missing', or what stands there, cut short."""
    if key not in config:
        return "missing"
    value = config[key]
    if value is None:
        return "null"
    return f"'{printable(value, 60)}'" if isinstance(value, str) else printable(value, 60)
