"""`Shape`: the sizes of an encoder that decide its tensors and memory, read from its config.json.

Of XLM-R, RoBERTa and BERT, whose layers have the same six linear layers under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters_xtl.base.errors import RequestError

__all__ = ["LINEAR_LAYERS", "Shape", "block_linears", "linear_sizes", "retrieval_layer", "shape"]

# the linear layers of one encoder layer, in the order in which they compute
LINEAR_LAYERS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
LARGEST_SIZE = 1 << 24
MOST_LAYERS = 1024
_SIZE_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
_DROPOUT_KEYS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class Shape:
    """The numbers of an encoder's config that decide its tensors and its memory.

    `inner`: width of the feed-forward block; `longest`: tokens of an input (RoBERTa and XLM-R count
    positions from behind the padding's).
    """

    layers: int
    hidden: int
    heads: int
    inner: int
    vocab: int
    positions: int
    types: int
    dropout: float = 0.1
    attention_dropout: float = 0.1
    longest: int = 512

    @property
    def linear(self) -> int:
        """Weights of one layer's six linear layers, without biases."""
        return 4 * self.hidden**2 + 2 * self.hidden * self.inner

    @property
    def rest(self) -> int:
        """One layer's biases and layer norms."""
        return 9 * self.hidden + self.inner

    @property
    def tables(self) -> int:
        """Elements of the three embedding tables and their layer norm."""
        return (self.vocab + self.positions + self.types + 2) * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * (self.linear + self.rest) + self.tables


def retrieval_layer(layers: int) -> int:
    """The hidden state that is pooled: 14 of 24 as Phang et al. 2020 (0: embeddings), scaled to
    `layers`.
    """
    return round(14 / 24 * layers)


def block_linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """The linear layers of one encoder layer: name within the layer → (inputs, outputs)."""
    hidden, inner = shape.hidden, shape.inner
    sides = {"intermediate.dense": (hidden, inner), "output.dense": (inner, hidden)}
    return {name: sides.get(name, (hidden, hidden)) for name in LINEAR_LAYERS}


def linear_sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Every linear layer of the encoder: full name → (inputs, outputs)."""
    return {
        f"encoder.layer.{layer}.{name}": sides
        for layer in range(shape.layers)
        for name, sides in block_linears(shape).items()
    }


def shape(config: Mapping[str, Any], name: str = "the config") -> Shape:
    """The shape that a config.json describes.

    RequestError names the keys that it lacks, or holds as no sensible number. `name`: how the
    message calls the config.
    """
    wrong = [key for key in _SIZE_KEYS if not _whole(config.get(key), 1)]
    padding = config.get("pad_token_id", 1)
    padding = 1 if padding is None else padding
    optional = {"type_vocab_size": config.get("type_vocab_size", 1), "pad_token_id": padding}
    wrong += [key for key, value in optional.items() if not _whole(value, 0)]
    wrong += [key for key in _DROPOUT_KEYS if not _rate(config.get(key, 0.1))]
    if wrong:
        raise RequestError(
            f"{name}: {', '.join(wrong)} of its config.json missing, or no sensible number"
        )
    layers, hidden, heads, inner, vocab, positions = (int(config[key]) for key in _SIZE_KEYS)
    if layers > MOST_LAYERS:
        raise RequestError(f"{name}: num_hidden_layers {layers} is more than {MOST_LAYERS}")
    if hidden % heads:
        raise RequestError(
            f"{name}: its hidden_size {hidden} is no multiple of its num_attention_heads {heads}"
        )
    first = int(padding) + 1 if "roberta" in str(config.get("model_type")) else 0
    if positions <= first:
        raise RequestError(
            f"{name}: its max_position_embeddings {positions} leave no position for a token"
        )
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        inner=inner,
        vocab=vocab,
        positions=positions,
        types=int(config.get("type_vocab_size", 1)),
        dropout=float(config.get("hidden_dropout_prob", 0.1)),
        attention_dropout=float(config.get("attention_probs_dropout_prob", 0.1)),
        longest=positions - first,
    )


def _whole(value: Any, low: int) -> bool:
    return type(value) is int and low <= value < LARGEST_SIZE


def _rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
