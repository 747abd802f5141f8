"""Settings of a training: its hyper-parameters, and how defaults, recipe and overrides make them.

Weakest to strongest: the method's and the backbone's defaults, the recipe's tables, `--set`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from adapters_xtl.backbones import DTYPES
from adapters_xtl.base.errors import Problems, RequestError, clipped, nearest
from adapters_xtl.base.numbers import number, whole
from adapters_xtl.data.shots import BUCKETS, SEQUENTIAL, SHOT_REGIMES
from adapters_xtl.runs.recipes import Recipe

__all__ = [
    "COMPILED_FROM",
    "EVALUATION_KEYS",
    "FIXED",
    "FUSED",
    "HYPER_FIELDS",
    "ON_A_CPU",
    "PEFT",
    "SPEED_FIELDS",
    "WITH_DROPOUT",
    "Defaults",
    "Hyper",
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
# what the frozen layers below the first module do in training
WITH_DROPOUT, FIXED = "dropout", "fixed"
PREFIXES = (WITH_DROPOUT, FIXED)
PEFT, FUSED = "peft", "fused"  # how LoRA layers compute in training
# what a training on a CPU takes unless its recipe or an override says otherwise: a step takes less
# time (benchmarks/results/speed), and MNLI's scores stay within the spread of the seeds
# (benchmarks/results/cpu-defaults.json)
ON_A_CPU: Mapping[str, Any] = {
    "dropout_masks": "bytes",
    "attention": "eager",
    "token_budget": 2048,
    "lora": FUSED,
}
# steps from which `train.compiled=auto` compiles: a rule of thumb, so that a step that is a few
# hundredths of a second shorter makes up for most of a minute of compiling; no GPU was measured
COMPILED_FROM = 1500
DEEPEST = 8  # lists and tables inside each other that an option's value may have


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
    prefix: str = field(
        default=WITH_DROPOUT,
        metadata={
            **{"choices": PREFIXES, "omit": True},
            "help": "layers below --from-layer K: fixed (the default with --from-layer) runs them"
            " without dropout, once for each text, and keeps their output; dropout runs them at"
            " every step, like the layers above",
        },
    )
    optimizer: str = field(
        default="adamw",
        metadata={
            "choices": ("adamw", "adamw8bit"),
            "help": "AdamW, with its state in 32 bits or in 8, which takes less memory",
        },
    )
    dtype: str = field(
        default="auto", metadata={"choices": ("auto", *DTYPES), "help": "compute precision"}
    )
    tasks: tuple[str, ...] = field(
        default=(), metadata={"help": "multi: the tasks trained together", "items": "task names"}
    )
    # fields with "omit" are part of the identity only where they differ from their defaults: the
    # ids of runs that were made before there were such settings stay
    languages: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "languages to train in; none: the task's English rows",
            "items": "language codes",
            "omit": True,
        },
    )
    matched: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "languages whose trainings are made comparable with this one: the items that"
            " all of them have, or equally many where their rows are no translations",
            "items": "language codes",
            "omit": True,
        },
    )
    genres: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "genres of the train and select rows, of a task whose rows name their genre;"
            " none: all rows",
            "items": "genres",
            "omit": True,
        },
    )
    dropout_masks: str = field(
        default="torch",
        metadata={
            **{"choices": ("torch", "bytes"), "omit": True},
            "help": "source of dropout masks during training: torch, or one random byte per element"
            " (CPU only; the rate is rounded to a multiple of 1/256, 0.1 → 0.1016)",
        },
    )
    attention: str = field(
        default="sdpa",
        metadata={
            **{"choices": ("sdpa", "eager"), "omit": True},
            "help": "attention during training: sdpa, torch's kernel (with"
            " train.dropout_masks=bytes explicit attention in float32); eager, explicit attention,"
            " softmax(QKᵀ)V, in the compute type (CPU only)",
        },
    )
    token_budget: int = field(
        default=0,
        metadata={
            **{"low": 0, "high": 10**9, "omit": True},
            "help": "most padded tokens in one forward pass: a batch is sorted by length and split"
            " into several passes, whose gradients add up to that of the whole batch; 0: not split"
            " by tokens",
        },
    )
    lora: str = field(
        default=PEFT,
        metadata={
            **{"choices": (PEFT, FUSED), "omit": True},
            "help": "forward pass of LoRA layers during training: peft's, or a fused one that casts"
            " the input once and adds the update to the layer's output in place; results differ by"
            " rounding",
        },
    )
    compiled: str = field(
        default="off",
        metadata={
            **{"choices": ("off", "auto", "on"), "omit": True},
            "help": "compile the encoder's layers for the training (torch.compile), which changes"
            f" dropout masks and rounding; auto: in trainings of at least {COMPILED_FROM:,} steps,"
            " never on a CPU, where no measurement has shown that compiling saves time",
        },
    )
    shots: int = field(
        default=0,
        metadata={
            **{"low": 0, "high": 10**6, "omit": True},
            "help": "examples of shot_language to train on: so many of each label, or so many"
            " sentences, questions or choices in all; 0: none",
        },
    )
    shot_language: str = field(
        default="", metadata={"omit": True, "help": "language code of the shots"}
    )
    shot_bucket: int = field(
        default=0,
        metadata={
            **{"low": 0, "high": BUCKETS - 1, "omit": True},
            "help": "which of the ten fixed draws of shots is taken",
        },
    )
    shot_regime: str = field(
        default=SEQUENTIAL,
        metadata={
            **{"choices": SHOT_REGIMES, "omit": True},
            "help": "whether the shots are trained on after the English rows, together with them,"
            " or without them",
        },
    )
    shot_steps: int = field(
        default=100,
        metadata={
            **{"low": 1, "high": 10**8, "omit": True},
            "help": "optimizer steps on the shots alone (sequential, target-only)",
        },
    )

    @property
    def after_english(self) -> bool:
        """Whether the training goes on, on shots alone, from the task's English training."""
        return bool(self.shots) and self.shot_regime == SEQUENTIAL

    def against_compiling(self, device: str, steps: int) -> str:
        """Why the layers of a training of so many steps are not to be compiled; "" where they are
        (and compiled is not "off").
        """
        if self.compiled != "auto":
            return ""
        if device == "cpu":
            return "no measurement has shown that compiling pays on a CPU"
        if steps < COMPILED_FROM:
            return f"{steps:,} steps are too few (from {COMPILED_FROM:,} on)"
        return ""


HYPER_FIELDS = {item.name: item for item in fields(Hyper)}
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
