"""Metric-Learning Encoding Models: how much each feature of a text decides its representation.

After Jalouzot et al. 2024 (arXiv 2402.11608): the distance of two units by their features,
d² = δᵀ W δ with δ the distances in single features, is to rank pairs of units as the distance of
their representations does. W is diagonal and not negative, or, with interactions, any positive
semi-definite form. It is fitted by gradient ascent on Spearman's ρ with soft ranks; how much a
feature matters is then how far ρ falls on held-out units when that feature is permuted.

The fits of all layers run side by side; no layer changes another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adapters_xtl.representation.similarity import ranked, spearman

__all__ = ["TOLERANCE", "FitOptions", "fit", "soft_ranks", "squared_distances"]

Array = np.ndarray[Any, Any]
TOLERANCE = 0.01  # of ρ, by which a later form may be worse than the best before it


@dataclass(frozen=True)
class FitOptions:
    """How a form is fitted.

    interactions  W is any positive semi-definite form, instead of a diagonal one
    rate          of Adam at the first step; it falls to 0 by the last
    batch         pairs that are ranked against each other in one step
    temperature   of the soft ranks, in standard deviations of the distances
    check_every   steps between two looks at the pairs that select the best form
    """

    interactions: bool = False
    steps: int = 300
    batch: int = 320
    rate: float = 0.1
    temperature: float = 0.25
    check_every: int = 15


def soft_ranks(values: torch.Tensor, temperature: float) -> torch.Tensor:
    """Differentiable ranks along the last dimension: (…, n) → (…, n), from 1 for the smallest.

    rank(v_i) = 1 + Σ_{j≠i} sigmoid((v_i - v_j) / temperature), the approximation of Qin, Liu and Li
    2010 ("A general approximation framework for direct optimization of information retrieval
    measures", equation 9); exact ranks in the limit of temperature 0. It costs n² operations, which
    for batches of a few hundred pairs is less than the sorting of Blondel et al. 2020 (arXiv
    2002.08871).
    """
    gaps = (values.unsqueeze(-1) - values.unsqueeze(-2)) / temperature
    return torch.sigmoid(gaps).sum(dim=-1) + 0.5  # sigmoid(0) = 1/2 is the value against itself


def squared_distances(feature_distances: Array, forms: Array) -> Array:
    """d² = δᵀ W δ of each pair under each form: (pairs, features), (layers, features, features) →
    (layers, pairs).
    """
    products = np.einsum("pf,lfg->lpg", feature_distances, forms, optimize=True)
    result: Array = np.einsum("lpg,pg->lp", products, feature_distances, optimize=True)
    return result


def fit(
    feature_distances: Array,
    representation_distances: Array,
    selecting_features: Array,
    selecting_distances: Array,
    options: FitOptions,
    seed: int,
) -> Array:
    """The form W of each layer, (layers, features, features) float64, its trace 1.

    feature_distances         (pairs, features) of pairs of train units
    representation_distances  (layers, pairs) of the same pairs
    selecting_…               the same of pairs of units that are not trained on: of the forms that
                              the fit passes, each layer keeps the last whose ρ on them is within
                              TOLERANCE of the highest. (The very highest is often an early form
                              that chance put there: other seeds of the fit then give importances
                              that differ by points.)
    """
    pairs, features = feature_distances.shape
    layers = len(representation_distances)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.from_numpy(np.asarray(feature_distances, dtype=np.float32))
    targets = torch.from_numpy(np.asarray(representation_distances, dtype=np.float32))
    # W = A Aᵀ is positive semi-definite; of a diagonal A only the diagonal is a parameter
    start = torch.full((layers, features), features**-0.5)
    root = torch.diag_embed(start) if options.interactions else start
    root = root.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([root], lr=options.rate)
    places = [ranked(distances) for distances in selecting_distances]
    best = _forms(root)
    best_score = _scores(selecting_features, places, best)
    batch = min(options.batch, pairs)
    for step in range(1, options.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * (1 - (step - 1) / options.steps)
        chosen = torch.randperm(pairs, generator=generator)[:batch]
        differences, wanted = inputs[chosen], targets[:, chosen]
        if options.interactions:
            modelled = (differences @ root).square().sum(dim=-1)
        else:
            modelled = root.square() @ differences.square().T
        loss = -_soft_spearman(modelled, wanted, options.temperature).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % options.check_every == 0 or step == options.steps:
            forms = _forms(root)
            scores = _scores(selecting_features, places, forms)
            good = scores > best_score - TOLERANCE
            # copies: the parameters go on changing
            best[good] = forms[good].copy()
            best_score = np.maximum(best_score, scores)
    return best


def _forms(root: torch.Tensor) -> Array:
    """W of each layer as a fresh array, its trace 1."""
    values = root.detach().double()
    forms = values @ values.mT if values.ndim == 3 else torch.diag_embed(values.square())
    array: Array = forms.numpy().copy()
    traces = np.trace(array, axis1=1, axis2=2)[:, None, None]
    scaled: Array = array / np.maximum(traces, 1e-12)
    return scaled


def _soft_spearman(
    modelled: torch.Tensor, wanted: torch.Tensor, temperature: float
) -> torch.Tensor:
    """(layers,): the correlation of the soft ranks of `modelled` (layers, n) with the exact ranks
    of `wanted`.
    """
    spread = modelled.std(dim=-1, keepdim=True).clamp_min(1e-9)
    soft = soft_ranks(modelled / spread, temperature)
    exact = wanted.argsort(dim=-1).argsort(dim=-1).to(soft.dtype)
    soft = soft - soft.mean(dim=-1, keepdim=True)
    exact = exact - exact.mean(dim=-1, keepdim=True)
    norms = soft.norm(dim=-1) * exact.norm(dim=-1)
    correlation: torch.Tensor = (soft * exact).sum(dim=-1) / norms.clamp_min(1e-9)
    return correlation


def _scores(feature_distances: Array, places: list[Array], forms: Array) -> Array:
    """(layers,): Spearman's ρ of each layer's form on the pairs that select."""
    modelled = squared_distances(feature_distances, forms)
    return np.array(
        [
            spearman(ranked(of_layer), wanted)
            for of_layer, wanted in zip(modelled, places, strict=True)
        ]
    )
