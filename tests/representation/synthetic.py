"""Units and vectors whose features, and the weight of each of them, are known because they were put
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.representation.encoder_results import Material
from adapters_xtl.representation.features import feature_distances
from adapters_xtl.representation.fitted_distances import sample_pairs
from adapters_xtl.representation.metric_learning import FitOptions
from adapters_xtl.representation.parallel_items import Unit

Array = np.ndarray[Any, Any]
LANGUAGES = ("en", "de", "zh", "ru", "ar", "th")
ITEMS = 60
WIDTH = 16  # dimensions in which each feature is written

QUICK = FitOptions(steps=90, batch=96)


def planted_units() -> list[Unit]:
    """Every item in every language, each with one of three labels."""
    return [
        Unit(language, str(item), ("text",), label=("yes", "no", "maybe")[item % 3])
        for language in LANGUAGES
        for item in range(ITEMS)
    ]


def planted_material(options: FitOptions = QUICK) -> Material:
    units = planted_units()
    generator = np.random.default_rng(7)
    tokens = [generator.integers(500, size=generator.integers(4, 20)) for _ in units]
    features = feature_distances(units, tokens, generator)
    return Material(units, features, sample_pairs(units), options)


def planted_vectors(
    units: Sequence[Unit], strengths: Mapping[str, float], generator: np.random.Generator
) -> Array:
    """(units, hidden): for each feature ("language", "item", "label") dimensions that hold a random
    vector of its value, so long as its strength says, and noise of length 1 beside them.
    """
    parts = []
    for feature, strength in strengths.items():
        codes = np.unique([getattr(unit, feature) for unit in units], return_inverse=True)[1]
        vectors = generator.normal(size=(codes.max() + 1, WIDTH))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        parts.append(strength * vectors[codes])
    parts.append(generator.normal(size=(len(units), WIDTH)) / np.sqrt(WIDTH))
    return np.concatenate(parts, axis=1).astype(np.float32)
