"""The next batch is made in a thread while a step computes: the same bits, and no thread stays.

All other tests of trainings (`toys.train`) run with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import formats
from adapters_xtl.backbones import embedded
from adapters_xtl.formats import Item
from adapters_xtl.training.batches import TrainSet
from adapters_xtl.training.stages import Stage
from tests.training.toys import FullDevice, apart, items, model, train, weights

Made = list[tuple[str, tuple[int, ...]]]  # the thread and the examples of each part, in order


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    embedded.prepare(lambda text: None)
    form, seen = formats.load("classify"), []
    usual = form.collate

    def collate(part: list[Item], *arguments: Any) -> Any:
        seen.append((threading.current_thread().name, tuple(item.owner for item in part)))
        return usual(part, *arguments)

    monkeypatch.setattr(form, "collate", collate, raising=False)
    yield seen
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_batches_made_ahead_change_no_bit(made: Made, tmp_path: Path) -> None:
    """Over two stages, the first of which stops early, and a step that runs out of memory after the
    next batch was cut.
    """
    results, trained, threads = [], [], []
    for ahead in (False, True):
        built, rows = model(dropout=True), items("classify", 24)
        device = FullDevice(built, room=4, steps=(3,))
        scores = iter([1.0, 0.0, *range(9)])
        stages = [
            Stage(name, [TrainSet("task", rows)], lambda scores=scores: {"score": next(scores)})
            for name in ("first", "second")
        ]
        options: dict[str, Any] = {"stages": stages, "prepare_ahead": ahead}
        hyper = {"eval_every": 2, "patience": 1}
        result = train(built, rows, tmp_path / str(ahead), steps=12, hyper=hyper, **options)
        assert device.raised == 1 and [stage.steps for stage in result.stages] == [4, 6]
        results.append((result.log, result.stages))
        trained.append(weights(built))
        threads.append({name for name, _ in made})
        parts = [part for _, part in made]
        made.clear()
        assert len(parts) >= 2 + 2 * 8, "from the third step on in two parts"
    assert results[0] == results[1] and apart(*trained) == 0
    assert threads[0] == {"MainThread"} and threads[1] == {"MainThread", "batches_0"}


def test_what_fails_in_the_thread_fails_the_training(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    form = formats.load("classify")
    usual = form.collate

    def collate(part: list[Item], *arguments: Any) -> Any:
        if len(made) == 2:
            raise ValueError("this batch cannot be made")
        return usual(part, *arguments)

    monkeypatch.setattr(form, "collate", collate)
    steps = []
    built = model()
    built.heads["task"].register_forward_pre_hook(lambda *arguments: steps.append(1))
    with pytest.raises(ValueError, match="cannot be made"):
        train(built, items("classify", 40), tmp_path, steps=5)
    assert len(steps) == 2, "of the third batch, after two steps"
