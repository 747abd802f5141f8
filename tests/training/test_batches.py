"""The order of batches, and what a checkpoint is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import file_digest
from adapters_xtl.formats import Item
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.training.batches import (
    Batch,
    TrainSet,
    batch_order,
    epoch_steps,
    padded_tokens,
    split_by_tokens,
    stage_steps,
)
from adapters_xtl.training.checkpoints import COMPLETE, STATE, newest_checkpoint


def _items(lengths: list[int]) -> list[Item]:
    return [
        Item(number, (np.zeros(length, dtype=np.int32),)) for number, length in enumerate(lengths)
    ]


def batches(sets: list[TrainSet], hyper: Hyper, seed: int) -> list[Batch]:
    """The batches of a training of one stage."""
    (steps,) = stage_steps([epoch_steps(sets, hyper)], hyper)
    return batch_order(sets, hyper, steps, np.random.default_rng(seed))


def _lengths(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(5, 100, count).tolist()


def test_an_epoch_sees_every_item_once() -> None:
    order = batches([TrainSet("a", _items(_lengths(1000)))], Hyper(epochs=2, batch_size=32), seed=1)
    assert len(order) == 64
    first = Counter(item.owner for batch in order[:32] for item in batch.items)
    assert set(first) == set(range(1000)) and set(first.values()) == {1}


def test_a_small_set_among_large_ones_has_a_step() -> None:
    """Rounding would give all twenty to the first two."""
    sets = [TrainSet(name, _items([9] * size)) for name, size in (("a", 800), ("b", 800), ("c", 8))]
    order = batches(sets, Hyper(batch_size=8, max_steps=20), seed=1)
    assert Counter(batch.task for batch in order) == {"a": 10, "b": 9, "c": 1}


def test_sets_without_a_share_divide_what_is_left() -> None:
    sets = [TrainSet(name, _items([9] * 80)) for name in "bc"]
    fixed = TrainSet("a", _items([9] * 80), step_share=0.2)
    hyper = Hyper(batch_size=8, max_steps=100)
    for of_both in (sets, sets[::-1]):
        order = batches([fixed, *of_both], hyper, seed=1)
        assert Counter(batch.task for batch in order) == {"a": 20, "b": 40, "c": 40}


def test_batches_hold_similar_lengths_and_stay_shuffled() -> None:
    lengths = np.array(_lengths(6400))
    order = batches(
        [TrainSet("a", _items(lengths.tolist()))], Hyper(epochs=1, batch_size=32), seed=1
    )
    padded = sum(len(b.items) * max(item.length for item in b.items) for b in order)
    assert padded / lengths.sum() < 1.1, "length buckets waste under a tenth"
    longest = [max(item.length for item in batch.items) for batch in order]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.2, (
        "lengths do not drift over the epoch"
    )


def test_parts_fill_a_budget_from_the_short_end() -> None:
    """The longest are fewest; an item beyond the budget passes alone; widths are rounded up."""

    def parts(*arguments: int) -> list[list[int]]:
        found = split_by_tokens(_items([30, 5, 9, 10, 70, 6, 11]), *arguments)
        return [[item.length for item in part] for part in found]

    assert parts(60, 99) == [[5, 6, 9, 10, 11], [30], [70]]
    assert parts(60, 2) == [[5, 6], [9, 10], [11, 30], [70]]
    assert parts(48, 99, 16) == [[5, 6, 9], [10, 11], [30], [70]]
    assert padded_tokens(_items([5, 6, 9])) == 27 and padded_tokens(_items([5, 9]), 16) == 32


def test_the_order_depends_on_the_seed_alone() -> None:
    sets = [TrainSet("a", _items(_lengths(300)))]

    def flat(seed: int) -> list[list[int]]:
        order = batches(sets, Hyper(epochs=1.5), seed)
        return [[item.owner for item in batch.items] for batch in order]

    assert flat(1) == flat(1) and flat(1) != flat(2)


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(0.5, 0, 16), (3, 0, 96), (3, 7, 7), (0.001, 0, 1)]
)
def test_the_number_of_steps(epochs: float, steps: int, expected: int) -> None:
    hyper = Hyper(epochs=epochs, max_steps=steps)
    assert len(batches([TrainSet("a", _items(_lengths(1000)))], hyper, seed=1)) == expected


def test_tasks_are_sampled_in_proportion_up_to_the_cap() -> None:
    sets = [TrainSet("big", _items(_lengths(6400))), TrainSet("small", _items(_lengths(640)))]
    plain = Counter(batch.task for batch in batches(sets, Hyper(epochs=1, cap=10**6), seed=1))
    assert plain == {"big": 200, "small": 20}
    capped = Counter(batch.task for batch in batches(sets, Hyper(epochs=1, cap=640), seed=1))
    assert capped == {"big": 20, "small": 20}
    order = [batch.task for batch in batches(sets, Hyper(epochs=1, cap=640), seed=1)]
    assert 5 <= order[:20].count("big") <= 15, "mixed, not one after the other"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 1.0}, [6265, 68]),  # XCOPA on the hub's sizes: SIQA, then COPA
        ({"epochs": 0.001}, [6, 1]),
        ({"max_steps": 20}, [10, 10]),
        ({"max_steps": 1000}, [864, 136]),  # two epochs, the default, of the smaller
        ({"max_steps": 2}, [1, 1]),
        ({"max_steps": 3}, [2, 1]),
        ({"epochs": 1.0, "max_steps": 12666}, [12530, 136]),
        ({"epochs": 1.0, "max_steps": 6334}, [6266, 68]),
    ],
)
def test_how_stages_share_the_steps(settings: dict[str, Any], expected: list[int]) -> None:
    assert stage_steps([6265, 68], Hyper(**settings)) == expected


def test_steps_are_shared_whatever_the_order_of_the_stages() -> None:
    assert stage_steps([68, 10, 6265], Hyper(max_steps=1000)) == [136, 20, 844]
    assert stage_steps([5], Hyper(max_steps=77)) == [77]


def test_a_task_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="a: no row"):
        batches([TrainSet("a", [])], Hyper(max_steps=3), seed=1)


def _checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainable.safetensors").write_bytes(b"weights" * step)
    (path / STATE).write_text("{}")
    digests = {file.name: file_digest(file) for file in path.iterdir()}
    (path / COMPLETE).write_text(json.dumps(digests))
    return path


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    first, second, third, fourth = (_checkpoint(tmp_path, step) for step in (5, 10, 15, 100))
    (fourth / COMPLETE).unlink()
    (third / "trainable.safetensors").write_bytes(b"cut")
    assert newest_checkpoint(tmp_path) == second
    assert not third.exists() and not fourth.exists() and first.exists()
