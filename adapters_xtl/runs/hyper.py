"""Hyper-parameters of a training: their defaults, bounds and help, and what a CPU takes instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from adapters_xtl.backbones import DTYPES
from adapters_xtl.data.shots import BUCKETS, SEQUENTIAL, SHOT_REGIMES

__all__ = [
    "ALL_TOKENS",
    "COMPILED_FROM",
    "FIRST_TOKEN",
    "FIXED",
    "FUSED",
    "HYPER_FIELDS",
    "ON_A_CPU",
    "PEFT",
    "WITH_DROPOUT",
    "Hyper",
]

# what the frozen layers below the first module do in training
WITH_DROPOUT, FIXED = "dropout", "fixed"
PREFIXES = (WITH_DROPOUT, FIXED)
ALL_TOKENS, FIRST_TOKEN = "all", "first"  # at which the last layer is computed in training
PEFT, FUSED = "peft", "fused"  # how LoRA layers compute in training
# what a training on a CPU takes unless its recipe or an override says otherwise: together they make
# trainings on `mini` shorter (benchmarks/results/speed); MNLI's scores with a bottleneck are not
# significantly others, three seeds (benchmarks/results/cpu-defaults.json)
ON_A_CPU: Mapping[str, Any] = {
    "dropout_masks": "bytes",
    "attention": "eager",
    "token_budget": 2048,
    "parallel_passes": 2,
    "last_layer": FIRST_TOKEN,
    "lora": FUSED,
}
# steps from which `train.compiled=auto` compiles: a rule of thumb, so that a step that is a few
# hundredths of a second shorter makes up for most of a minute of compiling; no GPU was measured
COMPILED_FROM = 1500


def _bounded(low: float, high: float, default: Any, help: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclass(frozen=True)
class Hyper:
    """Training settings that are part of a run's identity. 0: derived, where the help says so."""

    lr: float = _bounded(0, 1, 1e-4, "peak learning rate of AdamW")
    epochs: float = _bounded(0, 1000, 2.0, "how often the training rows are gone through")
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
            "help": "most padded tokens that are computed at the same time, in one pass or in"
            " train.parallel_passes of them: a batch is sorted by length and split into passes,"
            " whose gradients add up to that of the whole batch; 0: not split by tokens",
        },
    )
    parallel_passes: int = field(
        default=1,
        metadata={
            **{"low": 1, "high": 256, "omit": True},
            "help": "passes of one training step that are computed at the same time, each with its"
            " share of the processor's threads: a batch is sorted by length and split into so many"
            " passes or more, each with random numbers of its own, whose gradients add up to that"
            " of the whole batch; with fewer threads, in float16 and where layers are recomputed"
            " to save memory fewer are computed at the same time, with the same result up to"
            " rounding (CPU only, with train.dropout_masks=bytes)",
        },
    )
    last_layer: str = field(
        default=ALL_TOKENS,
        metadata={
            **{"choices": (ALL_TOKENS, FIRST_TOKEN), "omit": True},
            "help": "tokens at which the encoder's last layer is computed during training: all, or"
            " the first alone, for heads that read nothing else (classify, choice), with other"
            " dropout masks. Scoring computes the first alone wherever no head reads more",
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
