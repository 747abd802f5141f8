"""Features of parallel units, and how far apart two units are in each of them.

Every feature is a distance from 0 to 1 between units:

language, script, family, item, group, label, genre, random   0 where both have the same, else 1
length      |bucket - bucket'| / 4: fifths of the lengths in tokens, within each language, so that a
            language with longer tokens is not "longer"
overlap     1 - Jaccard index of the two sets of token ids (the backbone's own subwords, without
            special tokens)

`item` is the content that translations share; `group` is what several items share (the premise of
hypotheses, the paragraph of questions). `random` is drawn for each unit, one of four values: a
feature of no influence, whose importance shows what "nothing" looks like.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.representation.languages import family_of
from adapters_xtl.representation.parallel_items import Unit

__all__ = [
    "ALL",
    "CONTENT",
    "JOINTLY",
    "RANDOM",
    "TOGETHER",
    "FeatureDistances",
    "feature_distances",
    "scripts",
]

Array = np.ndarray[Any, Any]
RANDOM = "random"
ALL = (
    *("language", "script", "family", "item", "group", "label", "genre", "length", "overlap"),
    RANDOM,
)
# features of which one follows from another, and the name of all of them permuted together: which
# of them a form gives the weight to is partly chance
TOGETHER = "language+script+family"
CONTENT = "item+group"
JOINTLY: Mapping[str, tuple[str, ...]] = {
    TOGETHER: ("language", "script", "family"),
    CONTENT: ("item", "group"),
}
BUCKETS = 5
RANDOM_VALUES = 4


class FeatureDistances:
    """The distances of n units in each feature.

    names     the features that tell units of these rows apart, in the order of ALL
    matrices  (features, n, n) float32
    left_out  feature → why it is none here
    """

    def __init__(
        self, names: tuple[str, ...], matrices: Array, left_out: Mapping[str, str]
    ) -> None:
        self.names, self.matrices, self.left_out = names, matrices, dict(left_out)

    def of(self, first: Array, second: Array) -> Array:
        """(pairs, features) of pairs of units."""
        return np.ascontiguousarray(self.matrices[:, first, second].T)

    @property
    def permutable(self) -> dict[str, tuple[int, ...]]:
        """Name → numbers of the features that are permuted under it: each feature alone, then those
        that JOINTLY names together, as far as they are here.
        """
        number_of = {name: number for number, name in enumerate(self.names)}
        jointly = {
            name: tuple(number_of[member] for member in members if member in number_of)
            for name, members in JOINTLY.items()
        }
        alone = {name: (number,) for name, number in number_of.items()}
        return {**alone, **{name: numbers for name, numbers in jointly.items() if numbers}}

    def permuted(self, numbers: Sequence[int], first: Array, second: Array, order: Array) -> Array:
        """(pairs, features), as `of`, but with some features of the units in another order: unit u
        has those of unit `order[u]`.
        """
        values = self.of(first, second)
        for number in numbers:
            values[:, number] = self.matrices[number, order[first], order[second]]
        return values

    def shuffled(self, generator: np.random.Generator, units: Array) -> FeatureDistances:
        """The same features, each given to other units at random, within each set of units that
        `units` (n,) numbers: no feature then says anything of its unit.
        """
        matrices = np.empty_like(self.matrices)
        for number, matrix in enumerate(self.matrices):
            order = np.arange(len(units))
            for part in np.unique(units):
                members = np.flatnonzero(units == part)
                order[members] = generator.permutation(members)
            matrices[number] = matrix[np.ix_(order, order)]
        return FeatureDistances(self.names, matrices, self.left_out)


def feature_distances(
    units: Sequence[Unit], tokens: Sequence[Array], generator: np.random.Generator
) -> FeatureDistances:
    """The distances of units in every feature that their rows have.

    tokens  the token ids of each unit, without special tokens
    """
    script_of = scripts(units)
    values: dict[str, list[Any]] = {
        "language": [unit.language for unit in units],
        "script": [script_of[unit.language] for unit in units],
        "family": [family_of(unit.language) for unit in units],
        "item": [unit.item for unit in units],
        "group": [unit.group for unit in units],
        "label": [unit.label for unit in units],
        "genre": [unit.genre for unit in units],
        RANDOM: list(generator.integers(RANDOM_VALUES, size=len(units))),
    }
    names, matrices, left_out = [], [], {}
    for name in ALL:
        if name == "length":
            bucket = _length_buckets(units, tokens)
            matrix = np.abs(bucket[:, None] - bucket[None, :]) / (BUCKETS - 1)
        elif name == "overlap":
            matrix = 1 - _jaccard(tokens)
        else:
            reason = _why_left_out(name, values)
            if reason:
                left_out[name] = reason
                continue
            codes = np.unique([str(value) for value in values[name]], return_inverse=True)[1]
            matrix = codes[:, None] != codes[None, :]
        names.append(name)
        matrices.append(matrix.astype(np.float32))
    return FeatureDistances(tuple(names), np.stack(matrices), left_out)


def _why_left_out(name: str, values: Mapping[str, list[Any]]) -> str:
    """Why a feature tells no units apart; "" where it does."""
    distinct = set(values[name])
    if distinct == {""}:
        return "these rows have none"
    if len(distinct) < 2:
        return "the same in all units"
    if name == "group" and len(distinct) == len(set(values["item"])):
        return "each item has its own"
    if name == "family" and _same_partition(values[name], values["script"]):
        return "the same partition of the languages as script"
    if name in ("script", "family") and _same_partition(values[name], values["language"]):
        return "each language has its own"
    return ""


def _same_partition(first: Sequence[Any], second: Sequence[Any]) -> bool:
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


def scripts(units: Sequence[Unit]) -> dict[str, str]:
    """Language → the script of most letters of its units: the first word of the letters' names in
    Unicode ("LATIN", "CYRILLIC", "CJK").
    """
    counts: dict[str, Counter[str]] = {}
    for unit in units:
        counter = counts.setdefault(unit.language, Counter())
        for text in unit.texts:
            counter.update(
                unicodedata.name(letter, "UNKNOWN").split()[0]
                for letter in text
                if letter.isalpha()
            )
    return {
        language: counter.most_common(1)[0][0] if counter else "UNKNOWN"
        for language, counter in counts.items()
    }


def _length_buckets(units: Sequence[Unit], tokens: Sequence[Array]) -> Array:
    """(n,): which fifth of its language's lengths a unit is in, 0 to 4; equal lengths share one."""
    lengths = np.array([len(ids) for ids in tokens])
    languages = np.array([unit.language for unit in units])
    buckets = np.zeros(len(units))
    for language in np.unique(languages):
        members = languages == language
        edges = np.quantile(lengths[members], np.arange(1, BUCKETS) / BUCKETS)
        buckets[members] = np.searchsorted(edges, lengths[members], side="right")
    return buckets


def _jaccard(tokens: Sequence[Array]) -> Array:
    """(n, n): shared token types by all token types of two units; 1 for two empty ones."""
    distinct = sorted({int(token) for ids in tokens for token in ids})
    column = {token: number for number, token in enumerate(distinct)}
    has = np.zeros((len(tokens), max(len(distinct), 1)), dtype=np.float32)
    for number, ids in enumerate(tokens):
        has[number, [column[int(token)] for token in ids]] = 1
    shared = has @ has.T
    sizes = has.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    index: Array = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return index
