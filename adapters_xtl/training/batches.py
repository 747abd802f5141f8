"""Which items make which optimizer step, and how a step is cut into micro-batches without changing
what it learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from adapters_xtl.formats._items import IGNORED, Item
from adapters_xtl.runs.settings import Hyper

__all__ = ["TrainSet", "batches", "shares", "split", "weighted"]

# batches that are sorted by length together: enough for little padding, few enough to stay shuffled
WINDOW = 50
# Gold that an item may lack while it has other gold → the batch's tensor of it: a loss term with a
# count of its own.
APART = {"trim": "trims"}


@dataclass(frozen=True)
class TrainSet:
    """Items of one task. `stages` (one number an item) orders them: a stage is finished before the
    next begins.
    """

    task: str
    items: Sequence[Item]
    stages: Sequence[int] | None = None


def _by_length(
    order: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches of similar length, in random order: each window of the shuffled items is sorted and
    cut.
    """
    found: list[np.ndarray] = []
    for start in range(0, len(order), size * WINDOW):
        window = order[start : start + size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        found += [window[cut : cut + size] for cut in range(0, len(window), size)]
    return [found[number] for number in rng.permutation(len(found))]


def _passes(
    indices: np.ndarray, lengths: np.ndarray, size: int, wanted: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """`wanted` batches over as many passes as they take; every item once a pass."""
    found: list[np.ndarray] = []
    while len(found) < wanted:
        found += _by_length(rng.permutation(indices), lengths, size, rng)
    return found[:wanted]


def batches(sets: Sequence[TrainSet], hyper: Hyper, seed: int) -> list[tuple[str, np.ndarray]]:
    """(task, item numbers) of every optimizer step.

    One task: all items once an epoch. Several: each task gets steps in proportion to min(size,
    cap), batches of one task each, mixed evenly at random. Stages follow one another, each with its
    share of the steps.
    """
    rng = np.random.default_rng(seed)
    sizes = [min(len(each.items), hyper.cap) if len(sets) > 1 else len(each.items) for each in sets]
    epoch = sum(math.ceil(size / hyper.batch_size) for size in sizes)
    total = hyper.max_steps or max(1, round(epoch * hyper.epochs))
    planned: list[tuple[str, np.ndarray]] = []
    remaining, weight = total, sum(sizes)
    for each, size in zip(sets, sizes, strict=True):
        steps = (
            min(remaining, max(1, round(total * size / weight)))
            if each is not sets[-1]
            else remaining
        )
        remaining -= steps
        lengths = np.array([item.tokens for item in each.items])
        stages = np.array(each.stages if each.stages is not None else np.zeros(len(each.items)))
        left = steps
        for stage in (known := sorted(set(stages.tolist()))):
            indices = np.flatnonzero(stages == stage)
            share = (
                left
                if stage == known[-1]
                else min(left, max(1, round(steps * len(indices) / len(stages))))
            )
            left -= share
            planned += [
                (each.task, batch)
                for batch in _passes(indices, lengths, hyper.batch_size, share, rng)
            ]
    if len(sets) > 1:
        planned = [planned[number] for number in rng.permutation(len(planned))]
    return planned


def split(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in order, in as few parts of at most `size` as it takes, as even as can be."""
    count = math.ceil(len(items) / size)
    edges = [round(number * len(items) / count) for number in range(count + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


def _counts(items: Sequence[Item]) -> dict[str, int]:
    """Targets that count in the loss, for each kind of gold."""
    return {
        name: sum(int(np.count_nonzero(np.asarray(item.gold[name]) != IGNORED)) for item in items)
        for name in items[0].gold
    }


def shares(parts: Sequence[Sequence[Item]]) -> list[dict[str, float]]:
    """For each part of a batch and each kind of gold, its share of the batch's targets that count.

    A format's loss is a sum of means over such targets (words with a known tag, not sequences), so
    a batch's loss is the sum of its parts' losses by these shares.
    """
    counts = [_counts(part) for part in parts]
    whole = {name: max(1, sum(count[name] for count in counts)) for name in counts[0]}
    return [{name: count[name] / whole[name] for name in whole} for count in counts]


def weighted(
    head: Any,
    found: Mapping[str, torch.Tensor],
    batch: Mapping[str, torch.Tensor],
    share: Mapping[str, float],
) -> torch.Tensor:
    """A part's contribution to its batch's loss. `found`: what the model gave for it, {"loss",
    "outputs"}.
    """
    main = next(value for name, value in share.items() if name not in APART)
    total = main * found["loss"]
    for name, tensor in APART.items():
        if share.get(name, main) != main:
            rest = head.loss(
                found["outputs"], {**batch, tensor: torch.full_like(batch[tensor], IGNORED)}
            )
            total = total + (share[name] - main) * (head.loss(found["outputs"], batch) - rest)
    return total
