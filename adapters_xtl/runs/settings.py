"""Settings of a training, and how defaults, recipe and overrides make them.

Weakest to strongest: the method's and the backbone's defaults, the recipe's tables, `--set`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from adapters_xtl.base.errors import Problems, RequestError, clipped, nearest
from adapters_xtl.base.numbers import number, whole
from adapters_xtl.runs.hyper import HYPER_FIELDS, Hyper
from adapters_xtl.runs.recipes import Recipe

__all__ = [
    "EVALUATION_KEYS",
    "SPEED_FIELDS",
    "Defaults",
    "OverrideValues",
    "Overrides",
    "Settings",
    "Speed",
    "parse_override",
    "parse_overrides",
    "resolve_settings",
]

OverrideValues = tuple[tuple[str, Any], ...]  # (key, value), in the order given
# settings of an evaluation, which no training's identity holds
EVALUATION_KEYS = ("eval.max_examples", "eval.merged")
DEEPEST = 8  # lists and tables inside each other that an option's value may have
_LISTS = {f"train.{name}" for name, item in HYPER_FIELDS.items() if isinstance(item.default, tuple)}


@dataclass(frozen=True)
class Speed:
    """Settings that change how long a training takes: the same weights and scores, bit for bit
    (tested on a CPU), so they are no part of a run's identity. Its provenance records them.
    """

    cast_once: bool = field(
        default=True,
        metadata={
            "help": "on a CPU without --memory: frozen linear layers are cast to the compute type"
            " once per training instead of at every step. Off on CUDA and under --memory, whose"
            " estimates assume the casts of one step"
        },
    )
    tokenize_once: bool = field(
        default=True,
        metadata={
            "help": "rows that this process has tokenized before, for the same tokenizer, labels"
            " and lengths, are not tokenized again"
        },
    )
    keep_tokenized: bool = field(
        default=True,
        metadata={
            "help": "tokenized rows are kept in the cache too, for other processes and for"
            " evaluations, within XTL_TOKENIZED_GIB GiB (1)"
        },
    )
    prepare_ahead: bool = field(
        default=True,
        metadata={"help": "the next batch is made in a thread while a training step computes"},
    )


SPEED_FIELDS = {item.name: item for item in fields(Speed)}


@dataclass(frozen=True)
class Settings:
    """What a recipe and its overrides set: hyper-parameters, method options, evaluation limits.

    eval_max_examples  at most so many rows of a language are scored after the training; 0: all
    named              hyper-parameters that the recipe or an override sets
    """

    hyper: Hyper
    method: Mapping[str, Any]
    eval_max_examples: int = 0
    speed: Speed = field(default_factory=Speed)
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Defaults:
    """What holds before any recipe: the method's name, its learning rate and its options, all of
    them on the backbone of that name; and `train`, hyper-parameters that hang on the machine or on
    where the modules are.
    """

    method: str
    lr: float
    options: Mapping[str, Any]
    backbone: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Overrides:
    """Settings given by hand: the flag they came by, and (key, value) in the order given."""

    flag: str
    values: tuple[tuple[str, Any], ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(key for key, _ in self.values)


def parse_override(text: str, flag: str = "--set") -> tuple[str, Any]:
    """`"train.lr=1e-3"` → `("train.lr", 0.001)`. Values are TOML, else strings."""
    key, equals, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not equals or not key or not raw:
        raise RequestError(
            f"{flag} {clipped(text)!r}: expected key=value, e.g. {flag} train.max_steps=20"
        )
    if key.rpartition(":")[2] in _LISTS and not raw.startswith("["):
        return key, [name.strip() for name in raw.split(",") if name.strip()]
    try:
        document = tomllib.loads(f"value = {raw}")
    except (ValueError, RecursionError):  # no TOML, an integer of 5,000 digits, [[[[[…
        return key, raw
    return key, document["value"] if len(document) == 1 else raw


def parse_overrides(
    texts: Iterable[str], flag: str, problems: Problems, parsed: OverrideValues = ()
) -> OverrideValues:
    """The `key=value` texts of a flag, behind those that are `parsed`. A key that is given twice is
    a problem, like a text of another form.
    """
    values = dict(parsed)
    for text in texts:
        with problems.catching():
            key, value = parse_override(text, flag)
            if key in values:
                problems.add(f"{flag} {clipped(key)}: is given twice")
            values[key] = value
    return tuple(values.items())


def _checked(name: str, value: Any, origin: str, problems: Problems) -> Any:
    """`value` as the type of hyper-parameter `name`; its default where that is not possible."""
    item = HYPER_FIELDS[name]
    shown = clipped(repr(value) if isinstance(value, int | float | str) else value)
    if isinstance(item.default, tuple):
        names = value if isinstance(value, list | tuple) else ()
        if names and all(isinstance(part, str) for part in names):
            return tuple(names)
        items = item.metadata["items"]
        problems.add(f"{origin}: train.{name} takes a list of {items}, not {shown}")
        return item.default
    if isinstance(item.default, str):
        choices = item.metadata.get("choices", ())
        if isinstance(value, str) and (value in choices or not choices):
            return value
        if not choices:
            problems.add(f"{origin}: train.{name} takes a text, not {shown}")
            return item.default
        problems.add(f"{origin}: train.{name} is one of {', '.join(choices)}, not {shown}")
        return item.default
    is_whole = isinstance(item.default, int)
    parsed = whole(value) if is_whole else number(value)
    if parsed is None:
        kind = "a whole number" if is_whole else "a number"
        problems.add(f"{origin}: train.{name} takes {kind}, not {shown}")
        return item.default
    low, high = item.metadata["low"], item.metadata["high"]
    above_low = name in ("lr", "epochs")
    if parsed > high or parsed < low or (above_low and parsed <= low):
        bounds = f"{low:g}..{high:g}{' (above 0)' if above_low else ''}"
        problems.add(f"{origin}: train.{name}={parsed:g} is outside {bounds}")
        return item.default
    return parsed


def _unusable(value: Any, depth: int = 0) -> str:
    """Why a TOML value cannot be an option of a method; "" where it can."""
    if depth > DEEPEST:
        return "is nested too deeply"
    if isinstance(value, dict):
        return next(filter(None, (_unusable(item, depth + 1) for item in value.values())), "")
    if isinstance(value, list):
        return next(filter(None, (_unusable(item, depth + 1) for item in value)), "")
    if isinstance(value, float) and not math.isfinite(value):
        return "takes no infinity and no nan"
    if isinstance(value, int) and number(value) is None and not isinstance(value, bool):
        return "is too large a number"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds bytes that are no text"
    return "" if isinstance(value, int | float | str) else "takes no date and no time"


def resolve_settings(
    recipe: Recipe,
    defaults: Defaults,
    overrides: Overrides,
    *,
    embedded: bool,
    problems: Problems,
) -> Settings:
    """The settings that defaults, a recipe and overrides come to, the later the stronger.

    `embedded`: the rows are the embedded ones, to which [train.embedded] applies. Every unknown key
    and every value that its setting cannot take is added to `problems`, those of recipe tables
    that do not apply here too; the setting then keeps the weaker value.
    """
    train: dict[str, Any] = {}
    options: dict[str, Any] = dict(defaults.options)
    speed: dict[str, bool] = {}
    limit = 0

    def set_train(name: str, value: Any, origin: str, *, applies: bool = True) -> None:
        if name not in HYPER_FIELDS:
            problems.add(
                f"{origin}: unknown key 'train.{clipped(name)}'{nearest(name, HYPER_FIELDS)}"
            )
            return
        checked = _checked(name, value, origin, problems)
        if applies:
            train[name] = checked

    def set_option(name: str, value: Any, origin: str, *, applies: bool = True) -> None:
        if reason := _unusable(value):
            problems.add(f"{origin}: method.{clipped(name)} {reason}: {clipped(value)}")
        elif applies:
            options[name] = value

    for table in recipe.tables:
        applies = table.applies(defaults.method, defaults.backbone, embedded=embedded)
        for name, value in table.train.items():
            set_train(name, value, table.origin, applies=applies)
        for name, value in table.options.items():
            set_option(name, value, table.origin, applies=applies)
    for key, value in overrides.values:
        section, _, name = key.partition(".")
        if key in EVALUATION_KEYS[1:]:
            continue  # of no training: the evaluation's plan reads and checks it
        if key == "eval.max_examples":
            parsed = whole(value)
            if parsed is not None and parsed >= 0:
                limit = parsed
            else:
                problems.add(
                    f"{overrides.flag}: eval.max_examples takes a whole number from 0 on, not"
                    f" {clipped(repr(value))}"
                )
        elif section == "train" and name:
            set_train(name, value, overrides.flag)
        elif section == "method" and name:
            set_option(name, value, overrides.flag)
        elif section == "speed" and name in SPEED_FIELDS:
            if isinstance(value, bool):
                speed[name] = value
            else:
                shown = clipped(repr(value))
                problems.add(f"{overrides.flag}: speed.{name} takes true or false, not {shown}")
        else:
            valid_names = [f"train.{item}" for item in HYPER_FIELDS]
            valid_names += [f"speed.{item}" for item in SPEED_FIELDS]
            valid_names += [*EVALUATION_KEYS, "method.<option>"]
            problems.add(
                f"{overrides.flag}: unknown key '{clipped(key)}'{nearest(key, valid_names)}"
            )
    hyper = Hyper(**{"lr": defaults.lr, **defaults.train, **train})
    return Settings(hyper, options, limit, Speed(**speed), frozenset(train))
