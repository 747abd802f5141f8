"""Scores as functions of sums over items, and percentile bootstrap intervals over those items.

Every metric here depends on its items only through sums of a few numbers per item (its sufficient
statistics): accuracy on (correct, 1), F1 on (true positives, predicted, gold), EM on (exact, 1).
A resample therefore costs one row of a matrix product instead of a new evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adapters_xtl.base.errors import DataError

Floats = NDArray[np.float64]
Measure = Callable[[Floats], dict[str, Floats]]
Row = Mapping[str, Any]
K = TypeVar("K", bound=Hashable)

_CELLS = 1_000_000  # draws held at once: 8 MB of indices


def _percent(part: Floats, total: Floats, empty: float) -> Floats:
    """100 · part / whole, elementwise; `empty` where whole is 0."""
    safe = np.where(total == 0, 1.0, total)
    return np.where(total == 0, empty, 100.0 * part / safe)


def mean_measure(*names: str) -> Measure:
    """Measure of stats (value per name …, weight): 100 · sum of values / sum of weights, NaN for
    0/0.
    """

    def measure(sums: Floats) -> dict[str, Floats]:
        return {name: _percent(sums[..., i], sums[..., -1], np.nan) for i, name in enumerate(names)}

    return measure


def f1_measure(sums: Floats) -> dict[str, Floats]:
    """Measure of stats (true positives, predicted, gold): f1, precision, recall; 0 where undefined.

    F1 = 2PR/(P+R) = 2·tp/(predicted + gold).
    """
    correct, predicted, gold = sums[..., 0], sums[..., 1], sums[..., 2]
    return {
        "f1": _percent(2.0 * correct, predicted + gold, 0.0),
        "precision": _percent(correct, predicted, 0.0),
        "recall": _percent(correct, gold, 0.0),
    }


@dataclass(frozen=True)
class Items:
    """Sufficient statistics of one language's items.

    stats: (n, s) float64, one row an item; measure: sums of shape (…, s) → metric name → array of
    shape (…); ids: n keys. Items of several languages that are translations of each other carry the
    same id.
    """

    stats: Floats
    measure: Measure
    ids: Sequence[Hashable]

    def score(self) -> dict[str, float]:
        """The metric over all items, 0-100. Raises DataError when it is undefined (no items)."""
        values = {
            name: float(value) for name, value in self.measure(self.stats.sum(axis=0)).items()
        }
        if any(np.isnan(value) for value in values.values()):
            raise DataError("nothing to score: there are no items")
        return values


def interval(
    items: Items | Mapping[str, Items],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    clusters: Mapping[Hashable, Hashable] | None = None,
    parallel: bool = True,
) -> dict[str, list[float]]:
    """Percentile bootstrap interval of each metric: `{"f1": [low, high], …}`, 0-100 scale.

    Clusters are drawn with replacement, as many as there are, `resamples` times; a drawn cluster
    brings all its items. Items with one id are one cluster; `clusters` maps ids to coarser keys
    (question → article). Given a mapping language → Items, the interval is that of the unweighted
    mean over languages: with `parallel` an id is one cluster over all languages (XNLI, XQuAD, MLQA
    …: a drawn item is drawn in every language); without, languages are resampled independently of
    each other (PAN-X, UDPOS, TyDiQA …). The same seed gives the same interval. The interval covers
    the choice of items, not that of a seed, a checkpoint or a tuned threshold. Raises DataError
    without items or on a senseless option.
    """
    groups = {"": items} if isinstance(items, Items) else dict(items)
    if not groups or any(len(group.ids) == 0 for group in groups.values()):
        raise DataError("no items to resample")
    _check_options(resamples, level)
    batches = [list(groups.values())] if parallel else [[group] for group in groups.values()]
    streams = [
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(batches))
    ]
    values: dict[str, list[Floats]] = {}
    for batch, stream in zip(batches, streams, strict=True):
        for name, value in _resampled(batch, clusters or {}, resamples, stream).items():
            values.setdefault(name, []).append(value)
    result = {}
    for name, parts in values.items():
        table = np.concatenate(parts, axis=1)
        defined = ~np.isnan(table)
        table, defined = table[defined.any(axis=1)], defined[defined.any(axis=1)]
        means = np.where(defined, table, 0.0).sum(axis=1) / defined.sum(axis=1)
        # percentages: what rounding puts outside of them is put back
        result[name] = tails(np.clip(means, 0.0, 100.0), level)
    return result


def rows_interval(
    rows: Sequence[Row],
    score: Callable[[Sequence[Row]], Mapping[str, float]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, list[float]]:
    """The same of any score: every resample of the rows is scored anew. Resamples that cannot be
    scored are left out; DataError where none can be.
    """
    if not rows or resamples < 1:
        raise DataError("an interval needs rows and resamples >= 1")
    stream = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = [rows[number] for number in stream.integers(0, len(rows), size=len(rows))]
        try:
            scores = score(drawn)
        except DataError:
            continue
        for name, value in scores.items():
            values.setdefault(name, []).append(value)
    if not values:
        raise DataError("no resample of the rows can be scored")
    return {name: tails(np.array(resampled), level) for name, resampled in values.items()}


def paired_differences(
    first: Mapping[K, Items],
    second: Mapping[K, Items],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Each resample's difference, first - second, in points: metric → (resamples,).

    `first`, `second`: group (a language, or a run and a language) → items of two systems on the
    same rows. The paired bootstrap of Efron and Tibshirani 1993, chapter 8: an id is drawn for both
    systems and in every group that has it. With several groups it is the difference of the
    unweighted means over them. The same seed gives the same resamples. Those that cannot be scored
    are left out. Ids count as independent: where several share a paragraph, a premise or a
    document, intervals of these differences are too narrow. DataError without items or on a
    senseless option.
    """
    _check_options(resamples)
    groups = [items for key in first for items in (first[key], second[key])]
    if not groups or any(len(group.ids) == 0 for group in groups):
        raise DataError("no items to resample")
    stream = np.random.default_rng(seed)
    result = {}
    for name, values in _resampled(groups, {}, resamples, stream).items():
        differences = values[:, 0::2] - values[:, 1::2]
        defined = ~np.isnan(differences)
        differences, defined = differences[defined.any(axis=1)], defined[defined.any(axis=1)]
        if len(differences):
            result[name] = np.where(defined, differences, 0.0).sum(axis=1) / defined.sum(axis=1)
    return result


def paired_rows_differences(
    first: Mapping[K, Sequence[Row]],
    second: Mapping[K, Sequence[Row]],
    ids: Mapping[K, Sequence[Hashable]],
    score: Callable[[Sequence[Row], K], Mapping[str, float]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """The same of any score: `ids` are the rows' ids in each group, and every resample of the rows
    is scored anew. Resamples that cannot be scored are left out; DataError where none can be.
    """
    _check_options(resamples)
    places: dict[Hashable, dict[K, list[int]]] = {}  # id → group → its rows
    for group, keys in ids.items():
        for place, key in enumerate(keys):
            places.setdefault(key, {}).setdefault(group, []).append(place)
    clusters = list(places.values())
    if not clusters:
        raise DataError("no items to resample")
    stream = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = [clusters[number] for number in stream.integers(0, len(clusters), len(clusters))]
        differences: dict[str, list[float]] = {}
        try:
            for group in first:
                chosen = [place for cluster in drawn for place in cluster.get(group, ())]
                scores, others = (
                    score([rows[group][place] for place in chosen], group)
                    for rows in (first, second)
                )
                for name in scores.keys() & others.keys():
                    differences.setdefault(name, []).append(scores[name] - others[name])
        except DataError:
            continue
        for name, parts in differences.items():
            values.setdefault(name, []).append(sum(parts) / len(parts))
    if not values:
        raise DataError("no resample of the rows can be scored")
    return {name: np.array(resampled) for name, resampled in values.items()}


def _check_options(resamples: int, level: float = 0.95) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise DataError(
            f"an interval needs resamples >= 1 and 0 < level < 1, not {resamples} and {level}"
        )


def tails(values: Floats, level: float) -> list[float]:
    """[low, high]: the percentile interval of resampled values, of probability `level`."""
    bounds = np.percentile(values, [50.0 * (1.0 - level), 50.0 * (1.0 + level)])
    return [float(bound) for bound in bounds]


def _resampled(
    batch: Sequence[Items],
    clusters: Mapping[Hashable, Hashable],
    resamples: int,
    stream: np.random.Generator,
) -> dict[str, Floats]:
    """Metric name → (resamples, len(batch)): each resample's value for each group of the batch."""
    numbers: dict[Hashable, int] = {}
    rows = [
        [numbers.setdefault(clusters.get(i, i), len(numbers)) for i in group.ids] for group in batch
    ]
    width = batch[0].stats.shape[1]
    table = np.zeros((len(numbers), len(batch), width))
    for column, (group, where) in enumerate(zip(batch, rows, strict=True)):
        np.add.at(table[:, column], np.asarray(where), group.stats)
    flat = table.reshape(len(numbers), -1)
    sums = np.concatenate([weights @ flat for weights in _weights(len(numbers), resamples, stream)])
    return batch[0].measure(sums.reshape(resamples, len(batch), width))


def _weights(count: int, resamples: int, stream: np.random.Generator) -> Iterator[Floats]:
    """Blocks (b, count), `resamples` rows in all: how often each cluster is drawn."""
    block = max(1, _CELLS // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        picks = stream.integers(0, count, size=(size, count)) + count * np.arange(size)[:, None]
        yield (
            np.bincount(picks.ravel(), minlength=size * count)
            .reshape(size, count)
            .astype(np.float64)
        )
