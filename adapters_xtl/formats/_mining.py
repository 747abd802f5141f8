"""Bitext mining and nearest-neighbour search on sentence vectors: exact, in float32, with faiss.

Margin scoring follows Artetxe and Schwenk 2019 (arXiv 1811.01136) as XTREME runs it: x is the other
language ("source"), y is English ("target"). With m_i the mean similarity of i to its k neighbours
on the other side, the score of a pair is x_i·y_j over (ratio), minus (distance) or regardless of
(absolute) (m_i + m_j) / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapters_xtl.base.errors import DataError, nearest

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Mined = tuple[float, int, int]
# (score, source index, target index); the indices count the side's distinct sentences

MARGINS = ("ratio", "distance", "absolute")
RETRIEVALS = ("max", "intersect", "fwd", "bwd", "given")
_BLOCK = 4096  # rows scored at once, against k neighbours each


def _matrix(values: ArrayLike) -> Vectors:
    """A fresh (n, d) float32 array, C order."""
    matrix = np.array(values, dtype=np.float32, order="C")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"sentence vectors must be rows of numbers, not of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise DataError("a sentence vector holds NaN or infinity")
    return matrix


def unify(sentences: Sequence[str], vectors: ArrayLike) -> tuple[list[str], Vectors]:
    """The distinct sentences in order of first occurrence, each with the vector of its *last*
    occurrence.
    """
    matrix = _matrix(vectors)
    if len(sentences) != len(matrix):
        raise DataError(f"{len(sentences)} sentences for {len(matrix)} vectors")
    last = {sentence: row for row, sentence in enumerate(sentences)}
    return list(last), matrix[list(last.values())]


def _neighbours(queries: Vectors, index: Vectors, k: int, dist: str) -> tuple[Vectors, Rows]:
    """Similarities and row numbers, both (n, min(k, rows of the index)), of each query's nearest
    rows.
    """
    search: Any = (faiss.IndexFlatIP if dist == "cosine" else faiss.IndexFlatL2)(index.shape[1])
    search.add(index)
    similarities, rows = search.search(np.ascontiguousarray(queries), min(k, len(index)))
    return (similarities if dist == "cosine" else 1 / (1 + similarities)), rows


@dataclass(frozen=True)
class _Side:
    """One direction: vectors projected towards the other side, their neighbours there, mean
    similarity.
    """

    vectors: Vectors
    rows: Rows
    mean: Vectors


@dataclass(frozen=True)
class _Space:
    x: Vectors
    y: Vectors
    forward: _Side
    backward: _Side
    margin: str

    def scores(self, side: _Side, other: Vectors, other_mean: Vectors, rows: Rows) -> Vectors:
        """(n, k) scores of each vector of `side` with the vectors of `other` that `rows` (n, k)
        names.
        """
        blocks = []
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            dots = np.vecdot(
                side.vectors[part, None], other[rows[part]]
            )  # one BLAS dot a pair, as the original
            level = (side.mean[part, None] + other_mean[rows[part]]) / 2
            if self.margin == "ratio":
                dots = dots / level
            elif self.margin == "distance":
                dots = dots - level
            blocks.append(dots)
        return np.concatenate(blocks)

    def best(self, forwards: bool) -> tuple[Vectors, Rows]:
        """Of each vector of one side: its best score among its neighbours, and which neighbour has
        it.
        """
        side, back, other = (
            (self.forward, self.backward, self.y)
            if forwards
            else (self.backward, self.forward, self.x)
        )
        scores = self.scores(side, other, back.mean, side.rows)
        column = scores.argmax(axis=1)[:, None]
        return np.take_along_axis(scores, column, 1)[:, 0], np.take_along_axis(
            side.rows, column, 1
        )[:, 0]


def _space(
    src_sentences: Sequence[str],
    trg_sentences: Sequence[str],
    x: ArrayLike,
    y: ArrayLike,
    margin: str,
    k: int,
    dist: str,
    shift: bool,
) -> _Space:
    if margin not in MARGINS:
        raise DataError(f"unknown margin {margin!r}{nearest(margin, MARGINS)}")
    if k < 1:
        raise DataError(f"the neighbourhood must be at least 1, not {k}")
    src, trg = unify(src_sentences, x)[1], unify(trg_sentences, y)[1]
    if src.shape[1] != trg.shape[1]:
        raise DataError(
            f"source vectors have {src.shape[1]} numbers, target vectors {trg.shape[1]}"
        )
    if dist == "cosine":
        faiss.normalize_L2(src)
        faiss.normalize_L2(trg)
    delta = src.mean(axis=0) - trg.mean(axis=0) if shift else np.float32(0)
    sides = []
    for vectors, other in ((src - delta, trg), (trg + delta, src)):
        similarity, rows = _neighbours(vectors, other, k, dist)
        sides.append(_Side(vectors, rows, similarity.mean(axis=1)))
    return _Space(src, trg, sides[0], sides[1], margin)


def mine_bitext(
    src_sentences: Sequence[str],
    trg_sentences: Sequence[str],
    x: ArrayLike,
    y: ArrayLike,
    *,
    retrieval: str = "max",
    margin: str = "ratio",
    neighborhood: int = 4,
    threshold: float = 0.0,
    dist: str = "cosine",
    shift: bool = False,
) -> list[Mined]:
    """Pairs of distinct sentences that are likely translations; x (n, d) and y (m, d) are their
    vectors.

    Repeated sentences (equal raw lines) are unified first, see `unify`; `mined` indices count
    distinct ones. dist "cosine": vectors to unit length, similarity is the dot product. Any other:
    no normalisation, neighbours by squared L2 distance d², similarity 1/(1+d²) for the means, while
    the score keeps the dot product. `neighborhood` is capped by the other side's size. `shift`
    moves each side by the difference of the two means, for neighbours and scores. retrieval:

    - max: all forward and backward bests by falling score, greedily, each sentence once; a pair not
      above `threshold` (strictly) is left out but still uses up its sentences;
    - intersect: pairs that are each other's best, in source order, with the forward score;
    - fwd, bwd: the best of every source (target) sentence, in order;
    - given: line i with line i, for every line (the official mode `score`).

    All but max ignore `threshold`. Neither vectors nor lists are changed. Raises DataError for an
    unknown option, unequal lengths, or a vector with NaN.
    """
    if retrieval not in RETRIEVALS:
        raise DataError(f"unknown retrieval {retrieval!r}{nearest(retrieval, RETRIEVALS)}")
    space = _space(src_sentences, trg_sentences, x, y, margin, neighborhood, dist, shift)
    if retrieval == "given":
        return _given(space, src_sentences, trg_sentences)
    forward, best_target = space.best(True)
    backward, best_source = space.best(False)
    src, trg = np.arange(len(best_target)), np.arange(len(best_source))
    if retrieval == "fwd":
        return _mined(forward, src, best_target)
    if retrieval == "bwd":
        return _mined(backward, best_source, trg)
    if retrieval == "intersect":
        mutual = best_source[best_target] == src
        return _mined(forward[mutual], src[mutual], best_target[mutual])
    scores = np.concatenate([forward, backward])
    pairs = _mined(scores, np.concatenate([src, best_source]), np.concatenate([best_target, trg]))
    kept, used_src, used_trg = [], set[int](), set[int]()
    for place in np.argsort(-scores, kind="stable"):
        score, i, j = pairs[place]
        if i not in used_src and j not in used_trg:
            used_src.add(i)
            used_trg.add(j)
            if score > threshold:
                kept.append((score, i, j))
    return kept


def _given(
    space: _Space, src_sentences: Sequence[str], trg_sentences: Sequence[str]
) -> list[Mined]:
    if len(src_sentences) != len(trg_sentences):
        raise DataError(f"{len(src_sentences)} source lines for {len(trg_sentences)} target lines")
    places = []
    for sentences in (src_sentences, trg_sentences):
        numbers = {sentence: i for i, sentence in enumerate(dict.fromkeys(sentences))}
        places.append(np.array([numbers[sentence] for sentence in sentences]))
    src, trg = places
    lines = replace(space.forward, vectors=space.forward.vectors[src], mean=space.forward.mean[src])
    return _mined(space.scores(lines, space.y, space.backward.mean, trg[:, None])[:, 0], src, trg)


def _mined(scores: Vectors, src: Rows, trg: Rows) -> list[Mined]:
    return list(zip(scores.tolist(), src.tolist(), trg.tolist(), strict=True))


def nearest_rows(queries: ArrayLike, index: ArrayLike, *, dist: str = "cosine") -> list[int]:
    """Row of `index` (m, d) nearest to each row of `queries` (n, d).

    dist "cosine": squared L2 between unit vectors; "l2": as the vectors are.
    Tatoeba's predictions are `nearest_rows(english, foreign)`. The arrays are left as they are.
    """
    if dist not in ("cosine", "l2"):
        raise DataError(f"unknown distance {dist!r}{nearest(dist, ('cosine', 'l2'))}")
    query, base = _matrix(queries), _matrix(index)
    if query.shape[1] != base.shape[1]:
        raise DataError(f"queries have {query.shape[1]} numbers, the index {base.shape[1]}")
    if dist == "cosine":
        faiss.normalize_L2(query)
        faiss.normalize_L2(base)
    rows: list[int] = _neighbours(query, base, 1, "l2")[1][:, 0].tolist()
    return rows


def sorted_rows(sentences: Sequence[str]) -> list[int]:
    """Row numbers in the order of the stripped texts (by code point, stable): XTREME sorts
    Tatoeba's English side so, and the label of a sorted line is the row it came from.
    """
    return sorted(range(len(sentences)), key=lambda row: sentences[row].strip())
