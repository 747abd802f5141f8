"""Settings of a training: hyper-parameters, recipes and overrides, parsed and checked."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from adapters_xtl.backbones import DTYPES, Backbone
from adapters_xtl.base.errors import Problems, RequestError, nearest

__all__ = [
    "HYPER_FIELDS",
    "Hyper",
    "Settings",
    "parse_override",
    "read_recipe",
    "recipes_dir",
    "resolve_settings",
]

PACKAGE = Path(__file__).parent.parent


def _bounded(low: float, high: float, default: Any, help: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclass(frozen=True)
class Hyper:
    """Training settings that are part of a run's identity. 0: derived, where the help says so."""

    lr: float = _bounded(0, 1, 1e-4, "peak learning rate of AdamW")
    epochs: float = _bounded(0, 1000, 2.0, "passes over the training rows")
    max_steps: int = _bounded(0, 10**8, 0, "optimizer steps; 0: as the epochs give")
    batch_size: int = _bounded(1, 65536, 32, "examples per optimizer step")
    max_length: int = _bounded(8, 8192, 128, "longest input in tokens")
    stride: int = _bounded(0, 4096, 128, "tokens that neighbouring windows of a long input share")
    max_examples: int = _bounded(0, 10**9, 0, "first N training examples after shuffling; 0: all")
    warmup: float = _bounded(
        0, 1, 0.06, "share of the steps with rising learning rate, then linear decay"
    )
    weight_decay: float = _bounded(0, 1, 0.0, "AdamW's decoupled weight decay")
    clip: float = _bounded(0, 1e6, 1.0, "largest gradient norm; 0: no clipping")
    eval_every: int = _bounded(
        0, 10**8, 0, "steps between evaluations on the select split; 0: ten times a run"
    )
    patience: int = _bounded(
        0, 10**6, 5, "evaluations without a better score before stopping; 0: never stop early"
    )
    select_examples: int = _bounded(
        0, 10**9, 2000, "at most so many select rows are scored during training; 0: all"
    )
    cap: int = _bounded(
        1, 10**9, 131072, "multi: a task counts as at most so many examples in the mixture"
    )
    dropout: float = _bounded(0, 0.9, 0.1, "dropout of the head")
    optimizer: str = field(
        default="adamw",
        metadata={"choices": ("adamw", "adamw8bit"), "help": "8 bits: smaller state"},
    )
    dtype: str = field(
        default="auto", metadata={"choices": ("auto", *DTYPES), "help": "compute precision"}
    )
    tasks: tuple[str, ...] = field(
        default=(), metadata={"help": "multi: the tasks trained together"}
    )


HYPER_FIELDS = {item.name: item for item in fields(Hyper)}


@dataclass(frozen=True)
class Settings:
    """What a recipe and its overrides set: hyper-parameters, method options, evaluation limits."""

    hyper: Hyper
    method: Mapping[str, Any]
    eval_max_examples: int = 0


def recipes_dir() -> Path:
    """`recipes/`: beside the package in a checkout, inside it in an installed wheel."""
    inside = PACKAGE / "recipes"
    return inside if inside.is_dir() else PACKAGE.parent / "recipes"


def parse_override(text: str, flag: str = "--set") -> tuple[str, Any]:
    """`"train.lr=1e-3"` → `("train.lr", 0.001)`. Values are TOML, else strings."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key or not raw:
        raise RequestError(f"{flag} {text!r}: expected key=value, e.g. {flag} train.max_steps=20")
    if key == "train.tasks" and not raw.startswith("["):
        return key, [name.strip() for name in raw.split(",") if name.strip()]
    try:
        return key, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key, raw


def _checked(name: str, value: Any, origin: str, problems: Problems) -> Any:
    """`value` as the type of hyper-parameter `name`, or a problem."""
    item = HYPER_FIELDS[name]
    kind: Any = type(item.default)
    if kind is tuple:
        if (
            isinstance(value, (list, tuple))
            and value
            and all(isinstance(part, str) for part in value)
        ):
            return tuple(value)
        problems.add(f"{origin}: train.{name} takes a list of task names, not {value!r}")
        return item.default
    if kind is str:
        if value in item.metadata["choices"]:
            return value
        problems.add(
            f"{origin}: train.{name} is one of {', '.join(item.metadata['choices'])}, not {value!r}"
        )
        return item.default
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or (kind is int and float(value) != int(value)) or not math.isfinite(value):
        problems.add(
            f"{origin}: train.{name} takes {'a whole number' if kind is int else 'a number'},"
            f" not {value!r}"
        )
        return item.default
    low, high = item.metadata["low"], item.metadata["high"]
    exclusive = name in ("lr", "epochs")
    if value > high or value < low or (exclusive and value <= low):
        problems.add(
            f"{origin}: train.{name}={value:g} is outside {low:g}..{high:g}"
            f"{' (above 0)' if exclusive else ''}"
        )
        return item.default
    return kind(value)


def read_recipe(task: str, directory: Path | None = None) -> tuple[dict[str, Any], Path | None]:
    """The recipe's table (empty when the task has none) and its path.

    RequestError on bad TOML, with the line.
    """
    path = (directory or recipes_dir()) / f"{task}.toml"
    if not path.is_file():
        return {}, None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: {error}") from error


def _layers(
    recipe: Mapping[str, Any],
    path: Path | None,
    method: str,
    source: str,
    methods: Iterable[str],
    problems: Problems,
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The tables of a recipe that apply, weakest first, as (origin, train keys, method options)."""
    known = {"train", "method"}
    for key in recipe:
        if key not in known:
            problems.add(f"{path}: unknown table [{key}]{nearest(key, known)}")
    by_method = cast(Mapping[str, Any], recipe.get("method", {}))
    for key in by_method:
        if key not in methods:
            problems.add(f"{path}: unknown method [method.{key}]{nearest(key, methods)}")
    train = cast(Mapping[str, Any], recipe.get("train", {}))
    conditions = {"embedded", *methods}
    plain = {key: value for key, value in train.items() if not isinstance(value, dict)}
    layers: list[tuple[str, dict[str, Any], dict[str, Any]]] = [(str(path), plain, {})]
    for key, value in train.items():
        if isinstance(value, dict) and key not in conditions:
            problems.add(f"{path}: unknown table [train.{key}]{nearest(key, conditions)}")
    for condition in (method, "embedded" if source == "embedded" else ""):
        if condition and isinstance(train.get(condition), dict):
            table = {
                key: value for key, value in train[condition].items() if not isinstance(value, dict)
            }
            layers.append((f"{path} [train.{condition}]", table, {}))
    for key, value in cast(Mapping[str, Any], train.get("embedded", {})).items():
        if isinstance(value, dict) and key not in methods:
            problems.add(f"{path}: unknown table [train.embedded.{key}]{nearest(key, methods)}")
        elif isinstance(value, dict) and key == method and source == "embedded":
            layers.append((f"{path} [train.embedded.{key}]", dict(value), {}))
    if isinstance(by_method.get(method), dict):
        layers.append((f"{path} [method.{method}]", {}, dict(by_method[method])))
    return layers


def resolve_settings(
    *,
    recipe: Mapping[str, Any],
    path: Path | None,
    method: str,
    methods: Iterable[str],
    method_defaults: Mapping[str, Any],
    method_lr: float,
    backbone: Backbone,
    source: str,
    overrides: Iterable[tuple[str, Any]],
    flag: str,
    problems: Problems,
) -> Settings:
    """Defaults, the recipe, its [train.<method>], [train.embedded] and [train.embedded.<method>]
    tables, and overrides; each outweighs those before it.
    """
    methods = tuple(methods)
    train: dict[str, Any] = {"lr": backbone.lr.get(method, method_lr)}
    options: dict[str, Any] = dict(method_defaults)
    limit = 0
    layers = _layers(recipe, path, method, source, methods, problems)
    for key, value in overrides:
        section, _, name = key.partition(".")
        if section == "eval" and name == "max_examples":
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                limit = value
            else:
                problems.add(
                    f"{flag}: eval.max_examples takes a whole number from 0 on, not {value!r}"
                )
        elif section == "train" and name:
            layers.append((flag, {name: value}, {}))
        elif section == "method" and name:
            layers.append((flag, {}, {name: value}))
        else:
            known = [f"train.{item}" for item in HYPER_FIELDS] + [
                "eval.max_examples",
                "method.<option>",
            ]
            problems.add(f"{flag}: unknown key '{key}'{nearest(key, known)}")
    for origin, keys, method_keys in layers:
        for name, value in keys.items():
            if name in HYPER_FIELDS:
                train[name] = _checked(name, value, origin, problems)
            else:
                problems.add(f"{origin}: unknown key 'train.{name}'{nearest(name, HYPER_FIELDS)}")
        options.update(method_keys)
    return Settings(Hyper(**train), options, limit)
