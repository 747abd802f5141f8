"""A signal that comes while a training runs: it ends after a step, and goes on from that step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl.backbones import embedded
from adapters_xtl.base import signals
from adapters_xtl.base.errors import RunError
from adapters_xtl.models.network import Model
from adapters_xtl.training.checkpoints import newest_checkpoint, read_state
from adapters_xtl.training.stages import TrainingResult
from tests.training.toys import apart, items, model, train, weights

STEPS, EVERY = 12, 10  # the loss is logged every second step, the select rows are scored twice


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The package's signal handlers, as in `xtl`; this process's own afterwards."""
    before = {number: signal.getsignal(number) for number in (*signals.SIGNALS, signal.SIGALRM)}
    signals.interrupt_on_signals()
    yield
    signals.acknowledge_interrupt()
    signals._first = None
    for number, handler in before.items():
        signal.signal(number, handler)


def at_step(built: Model, number: int, action: Callable[[], None]) -> None:
    """Calls `action` within the forward pass of step `number` of a training."""
    seen = iter(range(1, 10**6))

    def hook(module: torch.nn.Module, inputs: Any) -> None:
        if module.training and next(seen) == number:
            action()

    built.heads["task"].register_forward_pre_hook(hook)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


Trained = tuple[dict[str, torch.Tensor], TrainingResult]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    embedded.prepare(lambda text: None)
    built, work = model(dropout=True), tmp_path_factory.mktemp("uninterrupted")
    result = train(built, items("classify", 60), work, steps=STEPS, hyper={"eval_every": EVERY})
    return weights(built), result


@pytest.mark.parametrize("step", [1, 5, 10], ids=["first", "not logged", "evaluated"])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    step: int, uninterrupted: Trained, tmp_path: Path
) -> None:
    rows, hyper = items("classify", 60), {"eval_every": EVERY}
    stopped, resumed = (model(dropout=True) for _ in range(2))
    at_step(stopped, step, terminate)
    score = iter(range(9))
    with pytest.raises(KeyboardInterrupt):
        train(
            stopped, rows, tmp_path / "run", steps=STEPS, hyper=hyper,
            score=lambda: {"score": next(score)},
        )  # fmt: skip
    checkpoint = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None and read_state(checkpoint).step == step
    signals.acknowledge_interrupt()
    signals._first = None  # the next call is a process of its own
    torch.manual_seed(99)
    lines: list[str] = []
    result = train(
        resumed, rows, tmp_path / "run", steps=STEPS, hyper=hyper, lines=lines,
        score=lambda: {"score": next(score)},
    )  # fmt: skip
    assert lines == [f"resuming from step {step} of {STEPS}"]
    end, expected = uninterrupted
    assert apart(end, weights(resumed)) == 0
    assert result.log == expected.log and result.stages == expected.stages


def test_a_step_that_takes_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "REPEAT", 0.05)
    built = model()

    def hang() -> None:
        terminate()
        signal.pause()  # until the next signal raises

    at_step(built, 3, hang)
    with pytest.raises(KeyboardInterrupt):
        train(built, items("classify", 16), tmp_path, steps=4)
    assert read_state(newest_checkpoint(tmp_path) or tmp_path).step == 2


def test_no_checkpoint_is_written_of_weights_that_are_no_numbers(tmp_path: Path) -> None:
    built = model()

    def ruin() -> None:
        next(iter(built.trainable().values())).data.fill_(float("nan"))

    at_step(built, 2, ruin)
    at_step(built, 3, terminate)
    with pytest.raises(RunError, match="loss is nan at step"):
        train(built, items("classify", 60), tmp_path, steps=STEPS, hyper={"eval_every": EVERY})
    assert newest_checkpoint(tmp_path) is None
