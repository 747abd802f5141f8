"""Vectors of parallel units → what their features explain of them, layer by layer.

The units of a third of the items are held out: the forms are fitted on pairs of train units and
chosen on pairs of select units, and everything that is reported comes from pairs of held-out units.
No pair spans two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters_xtl.representation.features import FeatureDistances
from adapters_xtl.representation.metric_learning import FitOptions, fit, squared_distances
from adapters_xtl.representation.parallel_items import PARTS, Part, Unit, parts_of
from adapters_xtl.representation.record import FittedDistance
from adapters_xtl.representation.similarity import (
    distances,
    ranked,
    split_half_ceiling,
    standardised,
    weighted_ranks,
    weighted_spearman,
)

__all__ = ["Pairs", "corrected", "fitted_distance", "sample_pairs"]

Array = np.ndarray[Any, Any]
MOST_PAIRS: Mapping[Part, int] = {"train": 4000, "select": 1200, "held-out": 1500}
PERMUTATIONS = 4  # of each feature, whose falls of ρ are averaged
RESAMPLES = 100
DIGITS = 4  # of what is recorded


@dataclass(frozen=True)
class Pairs:
    """Pairs of units of one part, (pairs,) int64 each; clusters: of all units, (units,) int64."""

    first: Array
    second: Array
    clusters: Array


def sample_pairs(
    units: Sequence[Unit], most: Mapping[Part, int] = MOST_PAIRS, seed: int = 0
) -> dict[Part, Pairs]:
    """Pairs of distinct units within each part, each pair once: a third are translations of each
    other, a third are of one language, a third are neither. Of pairs drawn evenly hardly any would
    be translations.
    """
    parts, generator = np.array(parts_of(units)), np.random.default_rng(seed)
    language, item = (
        np.unique(names, return_inverse=True)[1]
        for names in ([unit.language for unit in units], [unit.item for unit in units])
    )
    clusters = np.unique([unit.cluster for unit in units], return_inverse=True)[1]
    sampled: dict[Part, Pairs] = {}
    for part in PARTS:
        members = np.flatnonzero(parts == part)
        first, second = (members[index] for index in np.triu_indices(len(members), 1))
        same_item, same_language = item[first] == item[second], language[first] == language[second]
        kept = []
        for stratum in (same_item, same_language, ~same_item & ~same_language):
            places = np.flatnonzero(stratum)
            count = min(len(places), most[part] // 3)
            kept.append(generator.choice(places, size=count, replace=False))
        chosen = np.sort(np.concatenate(kept))
        sampled[part] = Pairs(first[chosen], second[chosen], clusters)
    return sampled


def corrected(vectors: Array, units: Sequence[Unit]) -> Array:
    """The vectors (units, layers, hidden) of each layer, corrected for anisotropy by the mean and
    the deviation of train units (see `similarity.standardised`), float32.
    """
    train = np.array(parts_of(units)) == "train"
    layers = [standardised(vectors[:, layer], train) for layer in range(vectors.shape[1])]
    return np.stack(layers, axis=1).astype(np.float32)


def fitted_distance(
    vectors: Array,
    features: FeatureDistances,
    pairs: Mapping[Part, Pairs],
    kind: str,
    *,
    parts: Array,
    options: FitOptions,
    seed: int = 0,
    replicates: bool = False,
) -> FittedDistance:
    """How the features explain one distance of corrected vectors (units, layers, hidden).

    kind        "euclidean" or "cosine"
    parts       (units,): the part of each unit
    replicates  whether the importances of bootstrap samples of the held-out items are kept
    """
    layers = range(vectors.shape[1])
    real = {
        part: np.stack(
            [distances(vectors[:, layer], two.first, two.second, kind) for layer in layers]
        )
        for part, two in pairs.items()
    }
    held = pairs["held-out"]
    generator = np.random.default_rng(seed)
    orders = _orders(parts, generator)
    ceiling = [
        split_half_ceiling(vectors[:, layer], held.first, held.second, kind, generator)
        for layer in layers
    ]
    shuffled = features.shuffled(generator, parts)
    forms, shuffled_forms = (
        fit(
            of.of(pairs["train"].first, pairs["train"].second),
            real["train"],
            of.of(pairs["select"].first, pairs["select"].second),
            real["select"],
            options,
            seed,
        )
        for of in (features, shuffled)
    )
    real_places = [ranked(values) for values in real["held-out"]]
    weights = _bootstrap_weights(held, generator) if replicates else np.ones((1, len(held.first)))
    correlations, falls = _importances(features, forms, held, real_places, orders, weights)
    shuffled_correlations, shuffled_falls = _importances(
        shuffled, shuffled_forms, held, real_places, orders, weights[:1]
    )

    names = tuple(features.permutable)

    def by_name(values: Array) -> dict[str, tuple[float, ...]]:
        return {name: _percent(values[:, number]) for number, name in enumerate(names)}

    shares = np.diagonal(forms, axis1=1, axis2=2)
    return FittedDistance(
        correlation=_percent(correlations),
        ceiling=_percent(ceiling),
        importance=by_name(falls[0]),
        weight={name: _percent(shares[:, f]) for f, name in enumerate(features.names)},
        shuffled_correlation=_percent(shuffled_correlations),
        shuffled_importance=by_name(shuffled_falls[0]),
        replicates={
            name: tuple(_percent(falls[1:, layer, number]) for layer in layers)
            for number, name in enumerate(names)
        }
        if replicates
        else {},
    )


def _percent(values: Any) -> tuple[float, ...]:
    return tuple(round(100 * float(value), DIGITS) for value in values)


def _orders(parts: Array, generator: np.random.Generator) -> list[Array]:
    """Permutations of the held-out units; the others keep their places."""
    members = np.flatnonzero(parts == "held-out")
    orders = []
    for _ in range(PERMUTATIONS):
        order = np.arange(len(parts))
        order[members] = generator.permutation(members)
        orders.append(order)
    return orders


def _bootstrap_weights(pairs: Pairs, generator: np.random.Generator) -> Array:
    """(1 + RESAMPLES, pairs): how often each pair counts; first every pair once, then in samples of
    the groups of items with replacement. A pair of two groups counts as often as both were drawn
    together, a pair within one as often as that one.
    """
    present, place = np.unique(
        np.concatenate([pairs.clusters[pairs.first], pairs.clusters[pairs.second]]),
        return_inverse=True,
    )
    first, second = place[: len(pairs.first)], place[len(pairs.first) :]
    draws = generator.multinomial(
        len(present), np.full(len(present), 1 / len(present)), size=RESAMPLES
    )
    together = np.where(
        first == second, draws[:, first], draws[:, first] * draws[:, second]
    ).astype(float)
    return np.concatenate([np.ones((1, len(first))), together])


def _importances(
    features: FeatureDistances,
    forms: Array,
    pairs: Pairs,
    real_places: Sequence[Array],
    orders: Sequence[Array],
    weights: Array,
) -> tuple[Array, Array]:
    """(ρ on all pairs, (layers,); the fall of ρ under each row of `weights`, (rows, layers, names),
    in the order of `features.permutable`).
    """
    real_ranks = [weighted_ranks(places, weights) for places in real_places]

    def correlations(feature_distances: Array) -> Array:
        modelled = squared_distances(feature_distances, forms)
        columns = [
            weighted_spearman(weighted_ranks(ranked(of_layer), weights), real, weights)
            for of_layer, real in zip(modelled, real_ranks, strict=True)
        ]
        return np.stack(columns, axis=1)

    whole = correlations(features.of(pairs.first, pairs.second))
    falls = []
    for numbers in features.permutable.values():
        left = [
            correlations(features.permuted(numbers, pairs.first, pairs.second, order))
            for order in orders
        ]
        falls.append(whole - np.mean(left, axis=0))
    return whole[0], np.stack(falls, axis=2)
