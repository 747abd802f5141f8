"""Which items make which optimizer step, how steps are shared among stages, and how a step is cut
into micro-batches without changing what it learns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.formats import Format, Item
from adapters_xtl.runs.hyper import Hyper

__all__ = [
    "Batch",
    "TrainSet",
    "batch_order",
    "divide_evenly",
    "epoch_steps",
    "loss_weights",
    "padded_tokens",
    "split",
    "split_by_tokens",
    "split_evenly",
    "stage_steps",
    "weighted",
]

# batches that are sorted by length together: enough for little padding, few enough to stay shuffled
WINDOW = 50
PENALTY = "penalty"  # the loss term that a fusion adds: see `adapters_xtl.models.network.Model`


@dataclass(frozen=True)
class TrainSet:
    """The items of one task that one stage of a training learns from.

    step_share  fraction of the stage's steps; 0: the sets without one divide what the others leave
                by their sizes. An epoch has as many steps as the sets without one have batches.
    """

    task: str
    items: Sequence[Item]
    step_share: float = 0.0


@dataclass(frozen=True)
class Batch:
    """What one optimizer step learns from: items of one task."""

    task: str
    items: Sequence[Item]


def _sizes(sets: Sequence[TrainSet], hyper: Hyper) -> list[int]:
    """How many examples each set counts for: all of its items, in a mixture at most `cap`; none
    where it has a `step_share`.
    """
    by_size = [len(train_set.items) if not train_set.step_share else 0 for train_set in sets]
    mixed = sum(not train_set.step_share for train_set in sets) > 1
    return [min(size, hyper.cap) for size in by_size] if mixed else by_size


def epoch_steps(sets: Sequence[TrainSet], hyper: Hyper) -> int:
    """Optimizer steps of one epoch of a stage (in a mixture: over `cap` of its items)."""
    return sum(math.ceil(size / hyper.batch_size) for size in _sizes(sets, hyper))


def stage_steps(steps_per_epoch: Sequence[int], hyper: Hyper) -> list[int]:
    """Optimizer steps of each stage of a training, given the steps of one of its epochs.

    With `epochs`, every stage has that many of its own. `max_steps` counts the steps of all stages
    together. It is shared evenly, but no stage gets more than its `epochs` ask for while another
    has less than that: of 20 steps, a stage of 6,000 and one of 25 get 10 each; of 1,000 steps, 975
    and 25. What exceeds the epochs of all stages is shared in proportion to them. RequestError when
    there are fewer steps than stages.
    """
    steps_per_stage = [max(1, round(steps * hyper.epochs)) for steps in steps_per_epoch]
    total = hyper.max_steps or sum(steps_per_stage)
    if total < len(steps_per_stage):
        raise RequestError(
            f"train.max_steps={total}: the training has {len(steps_per_stage)} stages, and each"
            " takes a step at least"
        )
    if total < sum(steps_per_stage):
        return divide_evenly(total, steps_per_stage)
    shared, remaining = [], total
    for stage, steps in enumerate(steps_per_stage):
        shared.append(round(remaining * steps / sum(steps_per_stage[stage:])))
        remaining -= shared[-1]
    return shared


def divide_evenly(total: int, limits: Sequence[int]) -> list[int]:
    """`total` in equal parts, of which none is larger than its limit.

    `total` is at most the sum of `limits`. (20, [6000, 25]) → [10, 10]; (1000, [6000, 25]) → [975,
    25].
    """
    shared, remaining = [0] * len(limits), total
    by_size = sorted(range(len(limits)), key=lambda number: limits[number])
    for position, number in enumerate(by_size):
        shared[number] = min(limits[number], remaining // (len(by_size) - position))
        remaining -= shared[number]
    return shared


def _by_length(
    order: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches of similar length, in random order: each window of the shuffled items is sorted and
    cut.
    """
    batches: list[np.ndarray] = []
    for start in range(0, len(order), size * WINDOW):
        window = order[start : start + size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[cut : cut + size] for cut in range(0, len(window), size)]
    return [batches[number] for number in rng.permutation(len(batches))]


def _epochs(
    lengths: np.ndarray, size: int, count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """`count` batches over as many epochs as they take; every item once an epoch."""
    batches: list[np.ndarray] = []
    while len(batches) < count:
        batches += _by_length(rng.permutation(len(lengths)), lengths, size, rng)
    return batches[:count]


def batch_order(
    sets: Sequence[TrainSet], hyper: Hyper, steps: int, rng: np.random.Generator
) -> list[Batch]:
    """The batch of each of a stage's `steps` optimizer steps.

    One task: all items once an epoch. Several: each task gets steps in proportion to min(size,
    cap), at least one where there are as many steps as sets; batches of one task each, mixed evenly
    at random. A set with a `step_share` comes before
    those without. DataError for a task without items.
    """
    order: list[Batch] = []
    for train_set in sets:
        if not train_set.items:
            raise DataError(f"{train_set.task}: no row is left to train on")
    remaining, sizes = steps, _sizes(sets, hyper)
    by_size = 1 - sum(train_set.step_share for train_set in sets)
    for number, (train_set, size) in enumerate(zip(sets, sizes, strict=True)):
        last = number == len(sets) - 1
        share = train_set.step_share or by_size * size / sum(sizes)
        sets_after = len(sets) - 1 - number  # each gets a step, if there are enough
        wanted = min(remaining - sets_after, round(steps * share))
        count = remaining if last else min(remaining, max(1, wanted))
        remaining -= count
        lengths = np.array([item.tokens for item in train_set.items])
        order += [
            Batch(train_set.task, [train_set.items[item] for item in chosen])
            for chosen in _epochs(lengths, hyper.batch_size, count, rng)
        ]
    if len(sets) > 1:
        order = [order[number] for number in rng.permutation(len(order))]
    return order


def split(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in order, in as few parts of at most `size` as it takes, as even as can be."""
    count = math.ceil(len(items) / size)
    edges = [round(number * len(items) / count) for number in range(count + 1)]
    return [items[low:high] for low, high in pairwise(edges)]


def padded_tokens(items: Sequence[Item], multiple: int = 1) -> int:
    """Tokens of one pass of these items, padding counted: every sequence as long as the longest of
    them, and that rounded up to a multiple of `multiple`.
    """
    width = max(item.length for item in items)
    return sum(len(item.ids) for item in items) * (-(-width // multiple) * multiple)


def split_by_tokens(
    items: Sequence[Item], budget: int, size: int, multiple: int = 1
) -> list[Sequence[Item]]:
    """The items from short to long, in as few parts of neighbours as have at most `size` items and
    at most `budget` padded tokens each. An item with more is a part of its own.

    Parts are filled from the short end: the one that is not full has the longest items, so that
    the fewest sequences are padded to the greatest length.
    """
    parts: list[list[Item]] = []
    sequences = 0
    for item in sorted(items, key=lambda item: item.length):
        sequences += len(item.ids)
        width = -(-item.length // multiple) * multiple
        if not parts or len(parts[-1]) == size or sequences * width > budget:
            parts.append([])
            sequences = len(item.ids)
        parts[-1].append(item)
    return list(parts)


def split_evenly(
    items: Sequence[Item], passes: int, budget: int, size: int, multiple: int = 1
) -> list[Sequence[Item]]:
    """The items from short to long, in parts of neighbours with about equally many padded tokens,
    of which any `passes` together have at most `budget` of them (0: no bound) and `size` items.

    An item with more is a part of its own. There are as few parts as that takes, rounded up
    to a multiple of `passes` where the items are enough.
    """
    most = padded_tokens(items, multiple)
    high = min(most, budget // passes) if budget else most
    size = max(1, size // passes) if size < len(items) else size
    count = len(split_by_tokens(items, high, size, multiple))
    count = math.ceil(count / passes) * passes
    low = 0
    while high - low > 1:  # the smallest budget of a part with which there are no more parts
        middle = (low + high) // 2
        if len(split_by_tokens(items, middle, size, multiple)) <= count:
            high = middle
        else:
            low = middle
    return split_by_tokens(items, high, size, multiple)


def loss_weights(form: Format, parts: Sequence[Sequence[Item]]) -> list[dict[str, float]]:
    """For each part of a batch and each term of the format's loss, its share of the batch's targets
    of that kind (words with a known tag, not sequences).

    A term is a mean over such targets, so a batch's loss is the sum of its parts' terms by these
    weights. The term without targets, PENALTY, has the same weight in every part.
    """
    counts: list[Counter[str]] = []
    for part in parts:
        counts.append(Counter())
        for item in part:
            counts[-1].update(form.targets(item))
    names = sorted({name for count in counts for name in count})
    total = {name: max(1, sum(count[name] for count in counts)) for name in names}
    return [
        {**{name: count[name] / total[name] for name in names}, PENALTY: 1 / len(parts)}
        for count in counts
    ]


def weighted(terms: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """A part's contribution to its batch's loss. `terms`: the terms of the part's own loss."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
