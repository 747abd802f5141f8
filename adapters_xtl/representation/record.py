"""What an analysis of representations keeps in the store, as typed data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "MODEL",
    "RANDOM_WEIGHTS",
    "EncoderResult",
    "FittedDistance",
    "RepresentationRecord",
]

MODEL, RANDOM_WEIGHTS = "model", "random weights"
Layers = tuple[float, ...]  # one number a hidden state, from the embeddings (0) up


@dataclass(frozen=True)
class FittedDistance:
    """How the features explain one distance of one encoder's representations, layer by layer.

    All numbers are 100 times a correlation or a share. `…_by_feature`: feature → layers.

    correlation     Spearman's ρ of the fitted and the real distances of held-out units
    ceiling         what ρ could reach at most, by the split half of the dimensions
    importance      how far ρ falls when a feature of the held-out units is permuted
    weight          the feature's share of the trace of the fitted form
    shuffled_correlation, shuffled_importance  the same of features that were given to other units
                    at random before anything was fitted
    replicates      feature → layers → the importance in each bootstrap sample of the held-out
                    items; samples are the same for every encoder on the same items
    """

    correlation: Layers
    ceiling: Layers
    importance: Mapping[str, Layers]
    weight: Mapping[str, Layers]
    shuffled_correlation: Layers
    shuffled_importance: Mapping[str, Layers]
    replicates: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderResult:
    """One encoder: the run's own (MODEL), or one of random weights.

    seed         of the random weights; 0 for the run's own
    distances    "euclidean", "cosine" → what was fitted
    retrieval    % of units whose nearest English unit is their translation, mean over languages
    cka_backbone  100 × linear CKA with the bare backbone's states of the same layer
    cka_english   100 × linear CKA of each language's units with their English translations, mean
    anisotropy   100 × mean cosine of pairs of units, before the correction
    """

    kind: str
    seed: int
    distances: Mapping[str, FittedDistance]
    retrieval: Layers
    cka_backbone: Layers
    cka_english: Layers
    anisotropy: Layers


@dataclass(frozen=True)
class RepresentationRecord:
    """analysis.json: which rows were compared, and what was found in each encoder.

    task, split    whose report rows the units are
    units          number of units; items, groups: of distinct contents, and of sets of them that
                   never part; parts → number of units
    languages      of the units
    rows_digest    sha256 over the units, in order
    features       the features that were fitted; left_out: feature → why it is none here
    left_out_languages  language → why it has no units
    retrieval_layer  the hidden state that retrieval pools by default
    pairs          part → number of pairs
    """

    task: str
    split: str
    languages: tuple[str, ...]
    left_out_languages: Mapping[str, str]
    units: int
    items: int
    groups: int
    parts: Mapping[str, int]
    pairs: Mapping[str, int]
    rows_digest: str
    features: tuple[str, ...]
    left_out: Mapping[str, str]
    layers: int
    retrieval_layer: int
    encoders: tuple[EncoderResult, ...]

    @property
    def model(self) -> EncoderResult:
        """The run's own encoder."""
        return next(encoder for encoder in self.encoders if encoder.kind == MODEL)
