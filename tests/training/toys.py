"""Toy models on the backbone `tiny`, items of random tokens, and short trainings of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.registry import NAMED
from adapters_xtl.formats import IGNORED, Item, Lengths
from adapters_xtl.methods import Link
from adapters_xtl.models.heads import head_spec
from adapters_xtl.models.network import EncoderSpec, Model, StackSpec, build
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.batches import TrainSet
from adapters_xtl.training.fit import fit
from adapters_xtl.training.stages import Stage, Training, TrainingResult

LABELS = ("no", "yes", "maybe")


def items(format: str, count: int, seed: int = 0) -> list[Item]:
    """Items of random ids and lengths, with gold; some of it lacking, as in real rows."""
    rng = np.random.default_rng(seed)

    def ids() -> np.ndarray:
        inside = rng.integers(5, 9000, int(rng.integers(4, 30)))
        return np.concatenate([[0], inside, [2]]).astype(np.int32)

    made = []
    for number in range(count):
        sequence = ids()
        last = len(sequence) - 2
        if format == "classify":
            made.append(Item(number, (sequence,), gold={"label": int(rng.integers(3))}))
        elif format == "choice":
            made.append(
                Item(
                    number,
                    tuple(ids() for _ in range(rng.integers(2, 5))),
                    gold={"label": int(rng.integers(2))},
                )
            )
        elif format == "tag":
            tags = np.where(rng.random(last) < rng.random(), IGNORED, rng.integers(0, 3, last))
            made.append(
                Item(
                    number,
                    (sequence,),
                    gold={"tags": tags},
                    extra={"first": np.arange(1, last + 1)},
                )
            )
        else:
            lacks = rng.random() < 0.4
            span = (0, 0) if lacks else (int(rng.integers(1, last)), last)
            trim = (IGNORED, IGNORED) if lacks else (int(rng.integers(4)), 0)
            made.append(Item(number, (sequence,), gold={"span": span, "trim": trim}))
    return made


def model(
    format: str = "classify",
    method: str = "lora",
    dropout: bool = False,
    bits: int = 32,
    backbone: Backbone = NAMED["tiny"],
    options: Mapping[str, Any] | None = None,
) -> Model:
    hidden = int(registry.config(backbone)["hidden_size"])
    spec = head_spec(format, LABELS, hidden, 0.1 if dropout else 0.0, Lengths(64, 16))
    built = build(
        EncoderSpec(backbone, method, bits),
        StackSpec([Link("child")], {**DEFAULTS[method], **(options or {})}),
        {"task": spec},
        train=True,
        seed=1,
    )
    if not dropout:
        for module in built.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):  # attention's
                module.dropout_prob = 0.0
    return built


DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"},
    "bottleneck": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
    },
    "full": {},
}


def train(
    built: Model,
    rows: Sequence[Item],
    work: Path,
    *,
    steps: int = 4,
    lines: list[str] | None = None,
    score: Callable[[], dict[str, float]] | None = None,
    hyper: dict[str, Any] | None = None,
    **options: Any,
) -> TrainingResult:
    """A short training of the toy model; unless `score` says otherwise, its last checkpoint is the
    best. `lines` collects what the user is told.
    """
    settings = {"lr": 0.01, "batch_size": 8, "max_steps": steps, "eval_every": 2, "patience": 0}
    counts = iter(range(10**6))
    stages = [Stage("task", [TrainSet("task", rows)], score or (lambda: {"score": next(counts)}))]
    training = Training(
        model=built,
        stages=stages,
        hyper=Hyper(**{**settings, **(hyper or {})}),
        seed=1,
        dtype="float32",
        device="cpu",
        work=work,
        notify=(lines if lines is not None else []).append,
        prepare_ahead=True,
    )
    return fit(replace(training, **options))


def weights(built: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in built.trainable().items()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two parameters."""
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def drift(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> float:
    """|one - other| / |one - start| over all parameters: how far two trainings are apart, as a
    share of what was learnt.

    A norm and no maximum: where a gradient is zero but for rounding, Adam makes whole steps of the
    rounding. `out.bias` is left out for that: a softmax does not see a shift of all its inputs.
    """
    assert set(one) == set(other) == set(start)

    def length(values: dict[str, torch.Tensor]) -> float:
        names = [name for name in one if not name.endswith("out.bias")]
        return float(
            torch.stack([(one[name] - values[name]).square().sum() for name in names]).sum().sqrt()
        )

    return length(other) / length(start)


class FullDevice:
    """A device that holds `room` sequences: beyond it the head raises what an allocator would."""

    def __init__(
        self,
        built: Model,
        room: int,
        steps: Sequence[int] = (),
        error: Exception | None = None,
        training: bool = True,
    ) -> None:
        self.room, self.steps, self.seen, self.raised, self.training = room, steps, 0, 0, training
        self.error = error or torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB."
        )
        built.heads["task"].register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, Any]) -> None:
        if module.training != self.training:
            return
        self.seen += 1
        if len(inputs[0]) > self.room and (not self.steps or self.seen in self.steps):
            self.raised += 1
            raise self.error
