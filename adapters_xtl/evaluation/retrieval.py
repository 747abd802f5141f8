"""Sentence vectors for retrieval: which hidden state is taken, how long a sentence may be, and the
cache that keeps vectors from one evaluation to the next.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adapters_xtl import formats
from adapters_xtl.backbones.shape import retrieval_layer
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import atomic_write, cache_dir, digest
from adapters_xtl.evaluation.predict import Progress, forward
from adapters_xtl.formats import Item, Lengths
from adapters_xtl.models.encoded_rows import EncodedRows
from adapters_xtl.models.network import Model

__all__ = [
    "MOST_TOKENS",
    "SentenceVectors",
    "embed",
    "layer_of",
    "sentence_length",
    "vectors_of",
]

MOST_TOKENS = 512  # of a sentence, as Phang et al. 2020 (first author's code)
ALL = "all"


@dataclass(frozen=True)
class SentenceVectors:
    """Vectors of sentences, one for each of some hidden states.

    items    the sentences, as the format encodes them
    layers   numbers of the hidden states (0: embeddings)
    vectors  (sentences, layers, hidden) float32, in that order
    cached   whether they were found in the cache
    """

    items: Sequence[Item]
    layers: Sequence[int]
    vectors: np.ndarray
    cached: bool

    def of(self, layer: int) -> np.ndarray:
        """(sentences, hidden) of one hidden state."""
        return self.vectors[:, self.layers.index(layer)]


def layer_of(model: Model, layer: str) -> int:
    """The hidden state whose vectors are scored: the one that was asked for by number, else
    `retrieval_layer`.
    """
    return retrieval_layer(model.layers) if layer in ("", ALL) else int(layer)


def sentence_length(model: Model) -> int:
    """Tokens that are read of a sentence: MOST_TOKENS, or what the backbone reads at most."""
    return min(MOST_TOKENS, model.longest)


def vectors_of(
    model: Model,
    format: str,
    examples: Sequence[Mapping[str, Any]],
    *,
    layer: str,
    device: str,
    dtype: str,
    cache_key: str = "",
    progress: Progress | None = None,
) -> SentenceVectors:
    """Vectors of the examples' sentences. `layer`: a number, "all", or "" for `retrieval_layer`.

    With a `cache_key`, which says by what weights they are made, they are kept in the cache.
    RequestError for a layer that the backbone does not have.
    """
    layers = list(range(model.layers + 1)) if layer == ALL else [layer_of(model, layer)]
    if not all(0 <= number <= model.layers for number in layers):
        raise RequestError(f"layer {layer}: this backbone has hidden states 0 to {model.layers}")
    lengths, rows = Lengths(sentence_length(model)), model.encoded_rows or EncodedRows(0)
    items = rows.encode(format, examples, (), model.tokenizer, lengths, train=False)

    def made() -> np.ndarray:
        return embed(
            model, format, items, layers=layers, device=device, dtype=dtype, progress=progress
        )

    tokens = [item.ids[0].tolist() for item in items]
    key = digest([cache_key, layers, tokens]) if cache_key else ""
    vectors, cached = _cached(key, made)
    return SentenceVectors(items, layers, vectors, cached)


def embed(
    model: Model,
    format: str,
    items: Sequence[Item],
    *,
    layers: Sequence[int],
    device: str,
    dtype: str,
    progress: Progress | None = None,
) -> np.ndarray:
    """What the format makes of the hidden states `layers` of each sentence (their mean over its
    tokens): (sentences, layers, hidden) float32.
    """
    form = formats.load(format)

    def pooled(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        states = model.hidden_states(batch, max(layers))
        by_layer = [form.outputs(states[layer], batch) for layer in layers]
        return [np.stack(vectors) for vectors in zip(*by_layer, strict=True)]

    if not items:
        return np.empty((0, len(layers), model.hidden), dtype=np.float32)
    arrays = forward(model, format, items, pooled, device=device, dtype=dtype, progress=progress)
    return np.stack(arrays)


def _cached(key: str, make: Callable[[], np.ndarray]) -> tuple[np.ndarray, bool]:
    """Returns the cached array of this key and True, or makes it, caches it and returns it with
    False. With an empty key nothing is cached.
    """
    if not key:
        return make(), False
    path = cache_dir() / "embeddings" / key[:2] / f"{key}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False), True
    vectors = make()
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    atomic_write(path, buffer.getvalue())
    return vectors, False
