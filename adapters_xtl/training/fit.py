"""One `fit()` for every method and format: a plain loop over batches whose order is fixed before
the first step.

So a resumed run sees what an uninterrupted one would have. A batch is one optimizer step; how many
of its examples pass through the model at once changes nothing but rounding and dropout's draws, so
a step that runs out of memory is done again in smaller parts. Nothing here is global to the
process: precision, optimizer and schedule belong to one training and go with it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, set_seed

from adapters_xtl import formats
from adapters_xtl.base.errors import RunError, out_of_memory
from adapters_xtl.base.signals import interrupts_deferred
from adapters_xtl.models.faster_layers import faster_layers
from adapters_xtl.models.first_token import first_token_alone
from adapters_xtl.models.fused_lora import fused_lora
from adapters_xtl.models.network import (
    Model,
    peak_memory,
    reset_peak_memory,
)
from adapters_xtl.models.side_by_side import SideBySide
from adapters_xtl.runs.hyper import FIRST_TOKEN
from adapters_xtl.runs.records import PrefixCost
from adapters_xtl.training.batches import (
    Batch,
    batch_order,
    epoch_steps,
    stage_steps,
)
from adapters_xtl.training.cast_once import cast_once
from adapters_xtl.training.checkpoints import (
    StageState,
    TrainingState,
    checkpoint_folder,
    load_checkpoint,
    load_trainable,
    newest_checkpoint,
    random_state,
    read_state,
    save_checkpoint,
    set_random_state,
)
from adapters_xtl.training.compiled_layers import CompiledLayers, compiled_layers
from adapters_xtl.training.micro_batches import LESS_MEMORY, MicroBatches
from adapters_xtl.training.optimizer import learning_rate, make_optimizer
from adapters_xtl.training.passes import Passes, passes_at_once
from adapters_xtl.training.prepared import PreparedBatches
from adapters_xtl.training.progress import Cost, Progress
from adapters_xtl.training.stages import Stage, StageResult, Training, TrainingResult

__all__ = ["fit", "gradient_checkpointing"]


def fit(training: Training) -> TrainingResult:
    """Trains what is trainable in the model and leaves it, in eval mode, at the best checkpoint of
    its last stage.

    The select rows are scored every `hyper.eval_every` steps of a stage (0: ten times a stage) and
    after its last one; a checkpoint is written each time, and when a signal interrupts. RunError
    when the loss is no number, the disk is full, or one example at a time is too much for the
    memory.
    """
    with (
        gradient_checkpointing(training.model, training.checkpointing),
        cast_once(training.cast_once, training.dtype),
        faster_layers(training.model, training.hyper.dropout_masks, training.hyper.attention),
        first_token_alone(training.model, training.hyper.last_layer == FIRST_TOKEN),
        fused_lora(training.model, training.hyper.lora, training.hyper.dropout_masks),
        interrupts_deferred() as interrupted,
    ):
        try:
            return _Loop(training, interrupted).run()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise RunError(
                f"out of memory between steps (optimizer, evaluation or checkpoint); {LESS_MEMORY}"
            ) from error


@contextlib.contextmanager
def gradient_checkpointing(model: Model, enabled: bool) -> Iterator[None]:
    """Recomputes each encoder layer in the backward pass instead of keeping its activations: less
    memory, a third slower.

    The non-reentrant kind: `adapters` works with no other, and it needs no gradient of the inputs.
    """
    if not enabled:
        yield
        return
    encoder: Any = next(
        layer for layer in model.encoder.modules() if isinstance(layer, PreTrainedModel)
    )
    encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if hasattr(encoder, "_require_grads_hook"):
        # `adapters` asks for gradients of the inputs all the same, all the way down
        encoder.disable_input_require_grads()
    try:
        yield
    finally:
        encoder.gradient_checkpointing_disable()


class _Loop:
    """The state of one training while `fit` runs."""

    def __init__(self, training: Training, interrupted: Callable[[], bool]) -> None:
        self.training, self.model, self.hyper = training, training.model, training.hyper
        self.interrupted = interrupted
        self.state = TrainingState()
        self.orders = self._orders()
        self.micro_batches = MicroBatches(
            training.work,
            training.micro_batch or self.hyper.batch_size,
            self.hyper.batch_size,
            training.notify,
            budget=self.hyper.token_budget,
            passes=self.hyper.parallel_passes,
            multiple=8 if training.device == "cuda" else 1,
        )
        self.batches = PreparedBatches(
            self.micro_batches,
            lambda task: formats.load(self.model.specs[task].format),
            self.model.tokenizer,
            pinned=training.device == "cuda",
            ahead=training.prepare_ahead,
        )
        self.progress = Progress(self.hyper.batch_size)
        self.compiled: CompiledLayers
        self.passes: Passes
        self.cost: Cost
        self.states_before: tuple[int, float]  # computed, seconds: of the processes before
        # of the steps since the last line of the log; on the device, which reading it would stop
        self.loss_sum = torch.zeros((), device=training.device)

    def _orders(self) -> list[list[Batch]]:
        """The batches of every stage, from the seed alone."""
        rng = np.random.default_rng(self.training.seed)
        stages = self.training.stages
        steps = stage_steps([epoch_steps(stage.sets, self.hyper) for stage in stages], self.hyper)
        return [
            batch_order(stage.sets, self.hyper, count, rng)
            for stage, count in zip(stages, steps, strict=True)
        ]

    @property
    def total_steps(self) -> int:
        """Steps of the whole training, as far as is known: a stage that stopped early has fewer."""
        begun = self.state.stages
        finished = sum(stage.steps for stage in begun[:-1])
        return finished + sum(map(len, self.orders[max(0, len(begun) - 1) :]))

    def run(self) -> TrainingResult:
        training = self.training
        set_seed(training.seed)
        # `DataLoader` made this draw at its start when it was in use here: with it, trainings are
        # the same as those of earlier versions
        torch.empty((), dtype=torch.int64).random_()
        checkpoint = newest_checkpoint(training.work)
        if checkpoint is not None:
            self.state = read_state(checkpoint)
            self.loss_sum += self.state.unlogged_loss
            training.notify(f"resuming from step {self.state.step} of {self.total_steps}")
            for entry in self.state.log:
                training.on_log(entry)
        self.cost = Cost(training.device, self.state.seconds, self.state.joules)
        self.states_before = self.state.states_computed, self.state.states_seconds
        reset_peak_memory(training.device)
        if self.model.prefix is not None:
            sets = [train_set for stage in training.stages for train_set in stage.sets]
            items = [item for train_set in sets for item in train_set.items]
            self.model.prefix.prepare(items, self.interrupted)
        with (
            self.batches,
            SideBySide(passes_at_once(training)) as side_by_side,
            compiled_layers(
                self.model,
                self.hyper,
                sum(map(len, self.orders)),  # planned, whatever was stopped early or interrupted
                training.dtype,
                training.device,
                training.notify,
            ) as self.compiled,
        ):
            self.passes = Passes(
                training, self.micro_batches, self.batches, side_by_side, self.compiled
            )
            for number in range(max(0, len(self.state.stages) - 1), len(training.stages)):
                self._train_stage(number, checkpoint)
                checkpoint = None
            self.model.eval()
            return self._result()

    def _train_stage(self, number: int, checkpoint: Path | None) -> None:
        """Trains a stage to its end, from a checkpoint within it or from its start, and puts its
        best weights in place.
        """
        training, order = self.training, self.orders[number]
        trainable = self.model.trainable()
        with make_optimizer(self.model, self.hyper, training.device) as optimizer:
            scaler = torch.amp.GradScaler(training.device, enabled=training.dtype == "float16")
            if checkpoint is not None:
                load_checkpoint(checkpoint, trainable, optimizer, scaler)
            else:
                self.state.stages.append(StageState(training.stages[number].name, len(order)))
                self._forget_losses()
                if len(training.stages) > 1:
                    training.notify(
                        f"stage {number + 1} of {len(training.stages)}: {len(order)} steps on"
                        f" {training.stages[number].name}"
                    )
            stage = self.state.stages[-1]
            every = min(len(order), self.hyper.eval_every or max(1, math.ceil(len(order) / 10)))
            log_every = max(1, min(50, every // 5))
            self.passes.forget_gradients()
            self.model.train()
            while not self._is_over(stage):
                rate = learning_rate(stage.steps - stage.skipped, stage.planned, self.hyper)
                coming = order[stage.steps : stage.steps + 2]
                gradient_norm = self._step(coming, rate, optimizer, scaler)
                evaluates = stage.steps % every == 0 or stage.steps == stage.planned
                logs = stage.steps % log_every == 0
                if logs or evaluates:
                    self._check_loss()
                if logs:
                    self._log_loss(rate, gradient_norm)
                self.progress.step(self.state.step, self.total_steps)
                if evaluates:
                    self._evaluate(training.stages[number])
                interrupted = self.interrupted()
                if interrupted:
                    self._check_loss()  # a checkpoint is written of numbers alone
                if evaluates or interrupted:
                    self.state.unlogged_loss = float(self.loss_sum)
                    self._note_cost()
                    save_checkpoint(
                        training.work, self.state, trainable, optimizer, scaler, training.device
                    )
                if interrupted:
                    raise KeyboardInterrupt
        if not stage.best_step:
            raise RunError("no evaluation gave a score that is a number; nothing was kept")
        load_trainable(checkpoint_folder(training.work, stage.best_step), trainable)

    def _is_over(self, stage: StageState) -> bool:
        patience = self.hyper.patience
        stopped = bool(patience) and stage.without_better >= patience
        return stopped or stage.steps >= stage.planned

    def _step(
        self,
        coming: Sequence[Batch],
        rate: float,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> torch.Tensor | None:
        """One optimizer step on the first of the batches that come next; the norm of its gradient
        before clipping (None without clipping).
        """
        self.loss_sum += self.passes.backward(self.state.step + 1, coming, scaler)
        self.state.unlogged_steps += 1
        norm = None
        if self.hyper.clip:
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(self.passes.trained, self.hyper.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        self.passes.forget_gradients()
        stage = self.state.stages[-1]
        stage.skipped += scaler.get_scale() < scale
        stage.steps += 1
        self.state.step += 1
        return norm

    def _check_loss(self) -> None:
        """RunError when a loss since the last line of the log was no number."""
        loss = float(self.loss_sum)
        if not math.isfinite(loss):
            raise RunError(
                f"the loss is {loss} at step {self.state.step}: lower train.lr or raise"
                " train.warmup"
            )

    def _log_loss(self, rate: float, gradient_norm: torch.Tensor | None) -> None:
        """A line of the log: the mean loss of the steps since the last one."""
        loss = float(self.loss_sum) / self.state.unlogged_steps
        self._forget_losses()
        entry: dict[str, float | None] = {"loss": float(f"{loss:.6g}")}
        if gradient_norm is not None:
            entry["grad_norm"] = _finite(float(gradient_norm))
        self.progress.loss = loss
        self._log({**entry, "learning_rate": rate})

    def _forget_losses(self) -> None:
        """The next line of the log is about the steps from here on."""
        self.loss_sum.zero_()
        self.state.unlogged_steps = 0

    def _log(self, entry: Mapping[str, float | None]) -> None:
        """`epoch`: of the stage, as far as it has got."""
        number = len(self.state.stages) - 1
        stage = self.state.stages[-1]
        items = sum(len(train_set.items) for train_set in self.training.stages[number].sets)
        examples = sum(len(batch.items) for batch in self.orders[number][: stage.steps])
        place = {"epoch": round(examples / items, 4), "step": self.state.step}
        several = {"stage": number + 1} if len(self.training.stages) > 1 else {}
        line = {**entry, **place, **several}
        self.state.log.append(line)
        self.training.on_log(line)

    def _evaluate(self, stage: Stage) -> None:
        """Scores the select rows. The random states are put back: the training stays the same."""
        state_before = random_state(self.training.device)
        scores = stage.score()
        set_random_state(state_before)
        self.model.train()
        state, score = self.state.stages[-1], float(scores["score"])
        self._log({f"eval_{name}": _finite(float(value)) for name, value in scores.items()})
        self.progress.score(self.state.step, score)
        if score > state.best.get("score", -math.inf):
            state.best_step, state.without_better = self.state.step, 0
            state.best = {name: float(value) for name, value in scores.items()}
        else:
            state.without_better += 1

    def _note_cost(self) -> None:
        state = self.state
        state.seconds, state.joules = self.cost.so_far()
        prefix = self._prefix_cost()
        if prefix is not None:
            state.states_computed, state.states_seconds = prefix.computed, prefix.seconds

    def _prefix_cost(self) -> PrefixCost | None:
        """What the states below the modules took, those of the processes before this one included;
        None where there are none.
        """
        if self.model.prefix is None:
            return None
        cost, (computed, seconds) = self.model.prefix.cost(), self.states_before
        return replace(
            cost, computed=computed + cost.computed, seconds=round(seconds + cost.seconds, 2)
        )

    def _result(self) -> TrainingResult:
        seconds, joules = self.cost.so_far()
        stages: list[StageResult] = []
        for state, order in zip(self.state.stages, self.orders, strict=True):
            items = [item for batch in order[: state.steps] for item in batch.items]
            padded = self.micro_batches.padded_tokens(
                order[: state.steps], first=1 + sum(stage.steps for stage in stages)
            )
            stages.append(
                StageResult(
                    name=state.name,
                    steps=state.steps,
                    planned_steps=state.planned,
                    examples=len(items),
                    tokens=sum(item.tokens for item in items),
                    padded_tokens=padded,
                    best_step=state.best_step,
                    scores=state.best,
                )
            )
        return TrainingResult(
            stages=stages,
            seconds=seconds,
            joules=joules,
            measured_peak_bytes=peak_memory(self.training.device),
            micro_batch=self.micro_batches.examples(self.orders[-1], self.state.step + 1),
            log=self.state.log,
            compiled_layers=len(self.compiled),
            prefix=self._prefix_cost(),
        )


def _finite(value: float) -> float | None:
    """JSON has no infinity: an overflow in float16 is None in the log."""
    return value if math.isfinite(value) else None
