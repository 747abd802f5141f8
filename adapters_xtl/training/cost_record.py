"""What a training took and made, as metrics.json has it."""

from __future__ import annotations

from adapters_xtl.runs.records import SelectedStep, StageRecord, TrainingCost
from adapters_xtl.training.stages import StageResult, TrainingResult

__all__ = ["training_cost"]


def training_cost(
    trained: TrainingResult,
    *,
    trainable: int,
    heads: int,
    total: int,
    stored_bytes: int,
) -> TrainingCost:
    """The record of a training. Parameters: those that train, of these the heads', all; bytes of
    the files in module/ and head/.
    """
    return TrainingCost(
        seconds=round(trained.seconds, 2),
        examples=trained.examples,
        tokens=trained.tokens,
        steps=trained.steps,
        measured_peak_bytes=trained.measured_peak_bytes,
        micro_batch=trained.micro_batch,
        trainable_parameters=trainable,
        head_parameters=heads,
        total_parameters=total,
        stored_bytes=stored_bytes,
        select=_selected_step(trained.stages[-1]),
        stages=tuple(
            StageRecord(
                rows=stage.name,
                steps=stage.steps,
                planned_steps=stage.planned_steps,
                examples=stage.examples,
                select=_selected_step(stage),
            )
            for stage in trained.stages
        ),
        energy_joules=trained.joules,
        prefix=trained.prefix,
        padded_tokens=trained.padded_tokens,
        compiled_layers=trained.compiled_layers,
    )


def _selected_step(stage: StageResult) -> SelectedStep:
    scores = dict(stage.scores)
    return SelectedStep(stage.best_step, scores.pop("score"), scores)
