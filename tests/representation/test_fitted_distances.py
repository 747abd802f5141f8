"""Importances of planted features, controls that must be near 0, and changes that are, or are not,
there by construction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adapters_xtl.base.statistics import paired
from adapters_xtl.representation.features import CONTENT, RANDOM, TOGETHER
from adapters_xtl.representation.fitted_distances import fitted_distance, sample_pairs
from adapters_xtl.representation.parallel_items import Unit, parts_of
from adapters_xtl.representation.record import FittedDistance
from tests.representation.synthetic import QUICK, planted_material, planted_vectors

MATERIAL = planted_material()
PLANTED = (
    {"language": 1.5, "item": 0.5, "label": 0.0},
    {"language": 0.0, "item": 1.5, "label": 0.0},
    {"language": 0.3, "item": 0.3, "label": 1.5},
    {"language": 0.0, "item": 0.0, "label": 0.0},
)


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def fitted(request: pytest.FixtureRequest) -> FittedDistance:
    """One layer for each of PLANTED."""
    generator = np.random.default_rng(5)
    layers = [planted_vectors(MATERIAL.units, strengths, generator) for strengths in PLANTED]
    return fitted_distance(
        np.stack(layers, axis=1),
        MATERIAL.features,
        MATERIAL.pairs,
        request.param,
        parts=MATERIAL.parts,
        options=QUICK,
        replicates=True,
    )


def test_the_planted_feature_is_the_most_important_one(fitted: FittedDistance) -> None:
    for layer, feature in enumerate((TOGETHER, "item", "label")):
        alone = {
            name: values[layer]
            for name, values in fitted.importance.items()
            if name not in ("language", "script", "family", CONTENT)
        }
        assert max(alone, key=lambda name: alone[name]) == feature, alone
        assert alone[feature] > 20 and fitted.correlation[layer] > 50
        assert fitted.correlation[layer] <= fitted.ceiling[layer] + 5


def test_what_is_not_there_has_no_importance(fitted: FittedDistance) -> None:
    for layer in range(3):
        assert abs(fitted.importance[RANDOM][layer]) < 3
        assert abs(fitted.importance["length"][layer]) < 3
    assert abs(fitted.importance[TOGETHER][1]) < 3  # no language in the second layer
    assert abs(fitted.correlation[3]) < 10  # noise alone in the fourth


def test_shuffled_features_explain_nothing(fitted: FittedDistance) -> None:
    for layer in range(4):
        assert abs(fitted.shuffled_correlation[layer]) < 12
        largest = max(abs(values[layer]) for values in fitted.shuffled_importance.values())
        assert largest < 10 < max(fitted.importance["label"][2], fitted.importance["item"][1])


def test_bootstrap_samples_vary_around_the_importance(fitted: FittedDistance) -> None:
    samples = np.array(fitted.replicates["label"][2])
    assert len(samples) == 100
    assert samples.std() > 0.1
    assert abs(samples.mean() - fitted.importance["label"][2]) < 3 * samples.std()


def test_no_pair_spans_two_parts_and_no_item_is_in_two() -> None:
    units, parts = MATERIAL.units, MATERIAL.parts
    part_of_item: dict[str, set[str]] = {}
    for unit, part in zip(units, parts, strict=True):
        part_of_item.setdefault(unit.item, set()).add(part)
    assert all(len(of_item) == 1 for of_item in part_of_item.values())
    for part, pairs in MATERIAL.pairs.items():
        assert set(parts[pairs.first]) == set(parts[pairs.second]) == {part}
        assert (pairs.first != pairs.second).all()
        kinds = {
            (units[a].item == units[b].item, units[a].language == units[b].language)
            for a, b in zip(pairs.first, pairs.second, strict=True)
        }
        assert kinds == {(True, False), (False, True), (False, False)}


def test_items_of_one_group_are_never_parted() -> None:
    units = [
        Unit(language, f"{group}-{number}", ("text",), group=f"premise {group}")
        for language in ("en", "de")
        for group in range(20)
        for number in range(3)
    ]
    parts_of_group: dict[str, set[str]] = {}
    for unit, part in zip(units, parts_of(units), strict=True):
        parts_of_group.setdefault(unit.group, set()).add(part)
    assert {len(parts) for parts in parts_of_group.values()} == {1}
    assert len(sample_pairs(units)["held-out"].first) > 0


TRIALS, SEEDS = 20, (1, 2, 3)


def language_changes(strength_before: float, strength_after: float) -> list[dict[str, float]]:
    """For each of TRIALS, the change of language's importance over SEEDS: mean, low, high."""
    generator = np.random.default_rng(11)
    layers = [
        planted_vectors(MATERIAL.units, {"language": strength, "item": 1.0}, generator)
        for _ in range(TRIALS)
        for strength in (strength_before, strength_after)
        for _ in SEEDS
    ]
    fitted = fitted_distance(
        np.stack(layers, axis=1),
        MATERIAL.features,
        MATERIAL.pairs,
        "euclidean",
        parts=MATERIAL.parts,
        options=replace(QUICK, steps=30, batch=64),
    )
    values = np.array(fitted.importance[TOGETHER]).reshape(TRIALS, 2, len(SEEDS))
    changes = []
    for before, after in values:
        difference = paired(
            dict(zip(SEEDS, after, strict=True)), dict(zip(SEEDS, before, strict=True))
        )
        assert difference is not None and difference.interval is not None
        bounds = difference.interval
        changes.append({"mean": bounds.mean, "low": bounds.low, "high": bounds.high})
    return changes


def test_a_change_that_is_there_is_found() -> None:
    changes = language_changes(1.0, 0.3)
    assert sum(change["high"] < 0 for change in changes) >= 18


def test_a_change_that_is_not_there_is_not_found() -> None:
    """About 5 % of intervals of 95 % exclude 0: of 20, five or more with probability 0.003."""
    changes = language_changes(0.7, 0.7)
    assert sum(change["low"] > 0 or change["high"] < 0 for change in changes) <= 4
    assert abs(np.mean([change["mean"] for change in changes])) < 1
