"""Numbers that compare representations: distances, Spearman's ρ, linear CKA, retrieval, anisotropy.

All take the vectors of n units as (n, hidden) float arrays; nothing here is learnt.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "DISTANCES",
    "anisotropy",
    "distances",
    "linear_cka",
    "nearest_is_translation",
    "ranked",
    "spearman",
    "split_half_ceiling",
    "standardised",
    "weighted_ranks",
    "weighted_spearman",
]

Array = np.ndarray[Any, Any]
DISTANCES = ("euclidean", "cosine")
_SMALL = 1e-12


def standardised(vectors: Array, reference: Array) -> Array:
    """The vectors with the mean of each dimension taken off and divided by its deviation, both
    those of the rows that `reference` (n, bool) marks.

    The correction for anisotropy of Timkey and van Schijndel 2021 (arXiv 2109.04404, section 4): a
    few dimensions of large mean and variance otherwise decide every distance.
    """
    reference_vectors = vectors[reference].astype(np.float64)
    deviation = reference_vectors.std(axis=0)
    scaled: Array = (vectors - reference_vectors.mean(axis=0)) / np.maximum(deviation, 1e-6)
    return scaled


def distances(vectors: Array, first: Array, second: Array, kind: str) -> Array:
    """Distances (pairs,) of the units `first[p]` and `second[p]`. `kind`: one of DISTANCES; the
    cosine distance is 1 - cos.
    """
    if kind not in DISTANCES:
        raise ValueError(f"distance {kind!r} is none of {', '.join(DISTANCES)}")
    if kind == "cosine":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, _SMALL)
    lengths = np.square(vectors).sum(axis=1)
    products = np.empty(len(first))
    block = 4096  # pairs whose vectors are held at once
    for start in range(0, len(first), block):
        part = slice(start, start + block)
        products[part] = np.vecdot(vectors[first[part]], vectors[second[part]])
    if kind == "cosine":
        cosine_distances: Array = 1 - products
        return cosine_distances
    squares = lengths[first] + lengths[second] - 2 * products
    euclidean: Array = np.sqrt(np.maximum(squares, 0))
    return euclidean


def ranked(values: Array) -> Array:
    """For each value, the number of its place among the distinct values, from 0 on."""
    return np.unique(np.round(values, 9), return_inverse=True)[1].reshape(-1)


def weighted_ranks(places: Array, weights: Array) -> Array:
    """The ranks of p observations that count `weights` times each, by their `ranked` places: (p,),
    (rows, p) → (rows, p), one set of ranks for each row of weights, less their weighted mean.

    Equal values share the mean of the ranks that they take.
    """
    order = np.argsort(places, kind="stable")
    last_of_place = np.flatnonzero(np.append(np.diff(places[order]) > 0, True))
    up_to = np.cumsum(weights[:, order], axis=1)[:, last_of_place]
    before = np.concatenate([np.zeros((len(weights), 1)), up_to[:, :-1]], axis=1)
    ranks = ((before + up_to) / 2)[:, places]
    total = np.maximum(weights.sum(axis=1, keepdims=True), _SMALL)
    centred: Array = ranks - (weights * ranks).sum(axis=1, keepdims=True) / total
    return centred


def weighted_spearman(first: Array, second: Array, weights: Array) -> Array:
    """Spearman's ρ of two variables, given by their `weighted_ranks`: (rows, p) each → (rows,). 0
    where one of them is constant.
    """
    scale = np.sqrt((weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1))
    products = (weights * first * second).sum(axis=1)
    correlation: Array = np.where(scale > _SMALL, products / np.maximum(scale, _SMALL), 0.0)
    return correlation


def spearman(first: Array, second: Array) -> float:
    """Spearman's ρ of two variables given by their `ranked` places, (p,)."""
    ones = np.ones((1, len(first)))
    ranks = (weighted_ranks(first, ones), weighted_ranks(second, ones))
    return float(weighted_spearman(ranks[0], ranks[1], ones)[0])


def split_half_ceiling(
    vectors: Array, first: Array, second: Array, kind: str, generator: np.random.Generator
) -> float:
    """The largest ρ that a model of these distances can be expected to reach.

    The dimensions are split into two random halves; the correlation r of the distances in them,
    stepped up to all dimensions by 2r / (1 + r) (Spearman 1910, Brown 1910), is the distances'
    reliability, and its square root bounds the correlation with anything else.
    """
    width = vectors.shape[1]
    if width < 2:
        return 1.0
    ceilings = []
    for _ in range(3):
        order = generator.permutation(width)
        halves = [
            ranked(distances(vectors[:, part], first, second, kind))
            for part in (order[: width // 2], order[width // 2 :])
        ]
        correlation = max(spearman(*halves), 0.0)
        ceilings.append(np.sqrt(2 * correlation / (1 + correlation)))
    return float(np.mean(ceilings))


def linear_cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment of two representations (n, d1), (n, d2) of the same n units:
    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of the centred matrices, from 0 to 1 (Kornblith et al. 2019, arXiv
    1905.00414, equation 3). 0 where one of them is constant.
    """
    kernels = []
    for vectors in (first, second):
        centred = vectors - vectors.mean(axis=0)
        kernels.append(centred @ centred.T)
    scale = float(np.linalg.norm(kernels[0]) * np.linalg.norm(kernels[1]))
    return float((kernels[0] * kernels[1]).sum() / scale) if scale > _SMALL else 0.0


def anisotropy(vectors: Array, first: Array, second: Array) -> float:
    """The mean cosine of pairs of units (Ethayarajh 2019, arXiv 1909.00512): 0 where directions are
    spread evenly, near 1 where all vectors point the same way.
    """
    return float(1 - distances(vectors, first, second, "cosine").mean())


def nearest_is_translation(source: Array, target: Array) -> Array:
    """Whether the nearest of `target` (n, d) by cosine to each of `source` (n, d) is its own
    translation, which stands in the same row: (n,) bool.
    """
    sides = [
        side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), _SMALL)
        for side in (source, target)
    ]
    return np.asarray((sides[0] @ sides[1].T).argmax(axis=1) == np.arange(len(source)))
