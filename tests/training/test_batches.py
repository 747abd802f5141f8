"""The order of batches, and what a checkpoint is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adapters_xtl.base.files import file_digest
from adapters_xtl.formats._items import Item
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.training.trainer import COMPLETE, TrainSet, batches, newest_checkpoint


def _items(lengths: list[int]) -> list[Item]:
    return [
        Item(number, (np.zeros(length, dtype=np.int32),)) for number, length in enumerate(lengths)
    ]


def _lengths(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(5, 100, count).tolist()


def test_an_epoch_sees_every_item_once() -> None:
    order = batches([TrainSet("a", _items(_lengths(1000)))], Hyper(epochs=2, batch_size=32), seed=1)
    assert len(order) == 64
    first = Counter(int(number) for _, batch in order[:32] for number in batch)
    assert set(first) == set(range(1000)) and set(first.values()) == {1}


def test_batches_hold_similar_lengths_and_stay_shuffled() -> None:
    lengths = np.array(_lengths(6400))
    order = batches(
        [TrainSet("a", _items(lengths.tolist()))], Hyper(epochs=1, batch_size=32), seed=1
    )
    padded = sum(len(batch) * lengths[batch].max() for _, batch in order)
    assert padded / lengths.sum() < 1.1, "length buckets waste under a tenth"
    longest = [lengths[batch].max() for _, batch in order]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.2, (
        "lengths do not drift over the epoch"
    )


def test_the_order_depends_on_the_seed_alone() -> None:
    sets = [TrainSet("a", _items(_lengths(300)))]

    def flat(seed: int) -> list[list[int]]:
        return [batch.tolist() for _, batch in batches(sets, Hyper(epochs=1.5), seed)]

    assert flat(1) == flat(1) and flat(1) != flat(2)


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(0.5, 0, 16), (3, 0, 96), (3, 7, 7), (0.001, 0, 1)]
)
def test_the_number_of_steps(epochs: float, steps: int, expected: int) -> None:
    hyper = Hyper(epochs=epochs, max_steps=steps)
    assert len(batches([TrainSet("a", _items(_lengths(1000)))], hyper, seed=1)) == expected


def test_tasks_are_sampled_in_proportion_up_to_the_cap() -> None:
    sets = [TrainSet("big", _items(_lengths(6400))), TrainSet("small", _items(_lengths(640)))]
    plain = Counter(task for task, _ in batches(sets, Hyper(epochs=1, cap=10**6), seed=1))
    assert plain == {"big": 200, "small": 20}
    capped = Counter(task for task, _ in batches(sets, Hyper(epochs=1, cap=640), seed=1))
    assert capped == {"big": 20, "small": 20}
    order = [task for task, _ in batches(sets, Hyper(epochs=1, cap=640), seed=1)]
    assert 5 <= order[:20].count("big") <= 15, "mixed, not one after the other"


def test_stages_follow_one_another() -> None:
    sets = [TrainSet("a", _items(_lengths(640)), [0] * 480 + [1] * 160)]
    order = batches(sets, Hyper(epochs=2, batch_size=16), seed=1)
    stages = [{int(number >= 480) for number in batch} for _, batch in order]
    assert stages == [{0}] * 60 + [{1}] * 20


def _checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainable.safetensors").write_bytes(b"weights" * step)
    (path / COMPLETE).write_text(
        json.dumps({"trainable.safetensors": file_digest(path / "trainable.safetensors")})
    )
    return path


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    first, second, third, fourth = (_checkpoint(tmp_path, step) for step in (5, 10, 15, 100))
    (fourth / COMPLETE).unlink()
    (third / "trainable.safetensors").write_bytes(b"cut")
    assert newest_checkpoint(tmp_path) == second
    assert not third.exists() and not fourth.exists() and first.exists()
