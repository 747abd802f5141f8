"""Soft ranks and fitted forms, on pairs whose distances follow known weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adapters_xtl.representation.metric_learning import (
    TOLERANCE,
    FitOptions,
    fit,
    soft_ranks,
    squared_distances,
)
from adapters_xtl.representation.similarity import (
    linear_cka,
    ranked,
    spearman,
    standardised,
    weighted_ranks,
    weighted_spearman,
)

Array = np.ndarray[Any, Any]
WEIGHTS = np.array([0.6, 0.3, 0.1, 0.0])
OPTIONS = FitOptions(steps=200, batch=128, temperature=0.1)


def feature_pairs(count: int, generator: np.random.Generator) -> Array:
    """Differences by degrees in four features: with features that are the same or not, many weights
    would give the same order.
    """
    return generator.random((count, 4)).astype(np.float32)


def planted(form: Array, noise: float) -> tuple[Array, Array, Array, Array]:
    """Feature and representation distances of train pairs and of select pairs, of two layers."""
    generator = np.random.default_rng(3)
    parts: list[Array] = []
    for count in (1500, 500):
        differences = feature_pairs(count, generator)
        exact = np.sqrt(squared_distances(differences, form[None]))
        parts += [differences, exact + noise * generator.normal(size=(2, count))]
    return parts[0], parts[1], parts[2], parts[3]


def rho(forms: Array, differences: Array, distances: Array) -> list[float]:
    modelled = squared_distances(differences, forms)
    return [spearman(ranked(a), ranked(b)) for a, b in zip(modelled, distances, strict=True)]


def test_soft_ranks_are_the_ranks_where_the_temperature_is_low() -> None:
    values = torch.tensor([[3.0, -1.0, 10.0, 0.5]])
    assert soft_ranks(values, 0.01)[0].tolist() == pytest.approx([3.0, 1.0, 4.0, 2.0], abs=1e-3)
    warm = soft_ranks(values, 5.0)[0]
    assert warm.sum().item() == pytest.approx(10.0, abs=1e-4)  # 1 + 2 + 3 + 4, however soft
    assert warm.argsort().tolist() == [1, 3, 0, 2]


def test_planted_weights_are_found() -> None:
    forms = fit(*planted(np.diag(WEIGHTS), 0.02), OPTIONS, seed=0)
    for form in forms:  # two layers, fitted side by side
        assert np.diagonal(form) == pytest.approx(WEIGHTS, abs=0.06)
        assert np.count_nonzero(form - np.diag(np.diagonal(form))) == 0


def test_a_diagonal_form_has_no_negative_weight_and_noise_gets_none_of_the_correlation() -> None:
    train, distances, select, select_distances = planted(np.diag(WEIGHTS), 0.0)
    noise = np.random.default_rng(1).normal(size=distances.shape)
    forms = fit(train, noise, select, select_distances * 0 + noise[:, : len(select)], OPTIONS, 0)
    assert (np.diagonal(forms, axis1=1, axis2=2) >= 0).all()
    assert max(map(abs, rho(forms, select, select_distances * 0 + noise[:, :500]))) < 0.2


def test_interactions_find_what_a_diagonal_form_cannot_say() -> None:
    """Two features that cancel each other where a pair differs in both."""
    root = np.array([[1.0, 0, 0, 0], [-0.8, 0.3, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 0.1]])
    form = root @ root.T
    data = planted(form / np.trace(form), 0.01)
    diagonal = fit(*data, OPTIONS, 0)
    whole = fit(*data, FitOptions(interactions=True, steps=200, batch=128), 0)
    assert (np.linalg.eigvalsh(whole) > -1e-9).all()
    assert (whole[:, 0, 1] < -0.1).all()
    of_diagonal, of_whole = (min(rho(forms, data[2], data[3])) for forms in (diagonal, whole))
    assert of_whole > 0.95 and of_whole > of_diagonal + 0.05


def test_a_good_form_is_kept_though_the_fit_goes_on_to_worse_ones() -> None:
    """Train pairs follow the last feature, select pairs the first: the fit leaves the even form that
    it starts from for one that says nothing of select pairs.
    """
    train, of_train, _, _ = planted(np.diag([0, 0, 0, 1.0]), 0.0)
    _, _, select, of_select = planted(np.diag([1.0, 0, 0, 0]), 0.0)
    start = rho(np.stack([np.eye(4) / 4] * 2), select, of_select)
    last = fit(train, of_train, train, of_train, OPTIONS, 0)
    assert min(start) > 0.4 and max(rho(last, select, of_select)) < 0.2
    kept = fit(train, of_train, select, of_select, OPTIONS, 0)
    for before, after in zip(start, rho(kept, select, of_select), strict=True):
        assert after >= before - TOLERANCE


def test_weights_of_spearman_are_repetitions() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(5, size=40), generator.integers(9, size=40)
    weights = generator.integers(4, size=(2, 40)).astype(float)
    for row in weights:
        repeated = [np.repeat(values, row.astype(int)) for values in (first, second)]
        expected = spearman(*(ranked(values) for values in repeated))
        ranks = [weighted_ranks(ranked(values), row[None]) for values in (first, second)]
        assert weighted_spearman(*ranks, row[None])[0] == pytest.approx(expected)
    # by hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    by_hand = spearman(ranked(np.array([1, 5, 5, 9])), ranked(np.array([1, 2, 3, 4])))
    assert by_hand == pytest.approx(0.9486833)
    assert spearman(np.zeros(4, dtype=int), np.arange(4)) == 0.0


def test_cka_does_not_see_rotations_and_scales_but_other_contents() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 8))
    rotation = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    assert linear_cka(vectors, 3 * vectors @ rotation + 5) == pytest.approx(1.0)
    assert linear_cka(vectors, generator.normal(size=(200, 8))) < 0.2


def test_the_correction_learns_nothing_from_units_that_are_held_out() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(2.0, 3.0, size=(50, 4))
    train = np.arange(50) < 30
    changed = np.where(train[:, None], vectors, vectors + 100)
    known = standardised(vectors, train)[train]
    assert known.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert known.std(axis=0) == pytest.approx(np.ones(4))
    assert standardised(changed, train)[train] == pytest.approx(known)
