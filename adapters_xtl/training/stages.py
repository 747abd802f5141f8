"""What is trained and how, in stages; and what a training came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from adapters_xtl.models.network import Model
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.records import PrefixCost
from adapters_xtl.training.batches import TrainSet

__all__ = ["Stage", "StageResult", "Training", "TrainingResult"]


@dataclass(frozen=True)
class Stage:
    """One part of a training, with its own schedule, early stopping and choice of a checkpoint.

    name   what the record calls it
    sets   what is learnt, one entry a task
    score  scores the select rows with the model as it is; "score" chooses the checkpoint, every
           number is logged
    """

    name: str
    sets: Sequence[TrainSet]
    score: Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Training:
    """What is trained, and how.

    model          what trains in it requires gradients
    stages         trained one after the other, each from the best checkpoint of the one before,
                   with a fresh optimizer (`batches.stage_steps` says how they share the steps)
    dtype          compute type: "float32", or what autocast runs in
    work           directory of the checkpoints; a complete one found there is resumed from
    notify         takes lines for the user
    micro_batch    examples that pass through the model at once (None: the whole batch)
    checkpointing  whether the encoder's layers compute their activations twice to keep fewer
    cast_once      linear layers that keep what is frozen of them in the compute type meanwhile
    prepare_ahead  whether the next batch is made in a thread while a step computes
    on_log         takes each line of the training's log as it is written; of a training that is
                   resumed also those that were written before
    """

    model: Model
    stages: Sequence[Stage]
    hyper: Hyper
    seed: int
    dtype: str
    device: str
    work: Path
    notify: Callable[[str], None]
    micro_batch: int | None = None
    checkpointing: bool = False
    cast_once: Sequence[nn.Linear] = ()
    prepare_ahead: bool = False
    on_log: Callable[[Mapping[str, Any]], None] = lambda entry: None


@dataclass(frozen=True)
class StageResult:
    """What one stage came to: its steps, those planned, the step whose checkpoint was kept (counted
    from the start of the training), and the scores it had on the select rows. `padded_tokens`: the
    tokens and what their parts were padded with.
    """

    name: str
    steps: int
    planned_steps: int
    examples: int
    tokens: int
    padded_tokens: int
    best_step: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    `seconds` and `joules` (None where the device reports none) are of all parts of a training that
    was resumed. `micro_batch`: examples that passed at once in the end. `log`: one JSON-ready entry
    for each line of train_log.jsonl. `compiled_layers`: how many were compiled in the end.
    `prefix`: what the states below the modules took, None where they are not fixed.
    """

    stages: Sequence[StageResult]
    seconds: float
    joules: float | None
    measured_peak_bytes: int
    micro_batch: int
    log: Sequence[Mapping[str, Any]] = field(repr=False)
    compiled_layers: int = 0
    prefix: PrefixCost | None = None

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def examples(self) -> int:
        return sum(stage.examples for stage in self.stages)

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)

    @property
    def padded_tokens(self) -> int:
        return sum(stage.padded_tokens for stage in self.stages)
