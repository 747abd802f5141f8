"""What all formats share: an item (what one forward pass sees of an example), lengths, tokens,
padding. Nothing here needs torch.

Texts are turned into tokens without special ones, in chunks; windows and truncation are cut here,
and what the tokenizer would put around them is put around them (`Frame`). So a length that the
tokenizer's own truncation refuses (a question longer than the window) is an ordinary case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters_xtl.base.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer
else:
    Tokenizer = Any  # importing transformers takes seconds, and annotations are all it is for

__all__ = [
    "CHUNK",
    "IGNORED",
    "Frame",
    "Item",
    "Lengths",
    "Tokenizer",
    "chunks",
    "encode_batch",
    "has_lone_surrogate",
    "pad",
    "pieces",
    "readable",
    "softmax",
    "text_items",
]

IGNORED = -100  # a target that the loss skips, as torch's cross_entropy does
# examples tokenized together: enough for every core, few enough to stay small in memory
CHUNK = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Lengths:
    """`max_length`: longest input in tokens, special ones included; `stride`: tokens that
    neighbouring windows share.
    """

    max_length: int = 128
    stride: int = 128


@dataclass(slots=True)
class Item:
    """One or more token sequences (more for `choice`) that belong to example number `owner`.

    ids and types are int32 arrays, one a sequence; `gold` holds what the loss needs; `extra` what
    decoding needs. `cut` counts the tokens that did not fit.
    """

    owner: int
    ids: tuple[np.ndarray, ...]
    types: tuple[np.ndarray, ...] | None = None
    gold: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    cut: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(ids) for ids in self.ids)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(ids) for ids in self.ids)


def has_lone_surrogate(text: str) -> bool:
    """Whether a text holds half a character, which JSON can spell but no file can hold."""
    return _SURROGATE.search(text) is not None


def readable(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, replaced one for one: offsets keep
    their meaning.
    """
    return _SURROGATE.sub("\ufffd", text)


def chunks(count: int) -> Iterator[range]:
    """0…count-1 in ranges of CHUNK."""
    for start in range(0, count, CHUNK):
        yield range(start, min(start + CHUNK, count))


def pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids of each text, int32, without special tokens and whole."""
    encoded = (
        tokenizer(
            [readable(text) for text in texts],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        if texts
        else []
    )
    return [np.asarray(ids, dtype=np.int32) for ids in encoded]


class Frame:
    """The special tokens that a tokenizer puts around one text or a pair, and its token types, read
    off a probe.

    RequestError for a tokenizer without offsets (a "slow" one).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.is_fast:
            raise RequestError(
                f"{type(tokenizer).__name__} knows no character offsets: the backbone needs a"
                " tokenizer.json"
            )
        self._single = self._parts(tokenizer, "a")
        self._pair = self._parts(tokenizer, "a", "a")
        self.typed = "token_type_ids" in tokenizer.model_input_names

    @staticmethod
    def _parts(tokenizer: Tokenizer, *probe: str) -> tuple[list[np.ndarray], list[int], list[int]]:
        """Special ids before, between and after the texts; their types; the types of the texts."""
        encoded = tokenizer(*probe, return_token_type_ids=True)
        special: list[list[int]] = [[] for _ in range(len(probe) + 1)]
        marks = [0] * (len(probe) + 1)
        kinds = [0] * len(probe)
        seen = 0
        for number, kind, sequence in zip(
            encoded["input_ids"], encoded["token_type_ids"], encoded.sequence_ids(), strict=True
        ):
            if sequence is None:
                special[seen].append(number)
                marks[seen] = kind
            else:
                seen = sequence + 1
                kinds[sequence] = kind
        return [np.asarray(ids, dtype=np.int32) for ids in special], marks, kinds

    def around(self, pair: bool) -> int:
        """Number of special tokens."""
        return sum(len(ids) for ids in (self._pair if pair else self._single)[0])

    def before(self, *, pair: bool, first: int = 0) -> int:
        """Position of the last text's first token, where the text before it has `first` tokens."""
        special = (self._pair if pair else self._single)[0]
        return sum(len(ids) for ids in special[:-1]) + first

    def join(
        self, text: np.ndarray, pair: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(ids, types or None) of the whole sequence, int32."""
        special, marks, kinds = self._single if pair is None else self._pair
        texts = (text,) if pair is None else (text, pair)
        parts, types = [special[0]], [marks[0]]
        for number, ids in enumerate(texts):
            parts += [ids, special[number + 1]]
            types += [kinds[number], marks[number + 1]]
        lengths = [len(ids) for ids in parts]
        kind = np.repeat(np.asarray(types, dtype=np.int32), lengths) if self.typed else None
        return np.concatenate(parts), kind


def _shares(first: int, second: int, room: int, keep_second: bool) -> tuple[int, int]:
    """How many tokens of two texts fit into `room`: the longer one loses first, or only
    the first.
    """
    if first + second <= room:
        return first, second
    if keep_second and second < room:
        return room - second, second
    half = room // 2
    if first <= second:
        kept = first if first <= half else half
        return kept, room - kept
    kept = second if second <= half else half
    return room - kept, kept


def encode_batch(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str | None] | None,
    max_length: int,
    truncation: str = "longest_first",
) -> list[tuple[np.ndarray, np.ndarray | None, int]]:
    """(ids, types or None, tokens cut off) for each text or text pair.

    `truncation`: "longest_first" takes from the longer text, as the tokenizer itself would;
    "only_first" from the first, unless the second alone fills the room.
    """
    frame = Frame(tokenizer)
    result = []
    for chunk in chunks(len(texts)):
        second: Sequence[str | None] = (
            [None] * len(chunk) if pairs is None else [pairs[number] for number in chunk]
        )
        firsts = pieces(tokenizer, [texts[number] for number in chunk])
        seconds = iter(pieces(tokenizer, [text for text in second if text is not None]))
        for one, text in zip(firsts, second, strict=True):
            two = None if text is None else next(seconds)
            room = max_length - frame.around(two is not None)
            length = 0 if two is None else len(two)
            keep, keep_two = _shares(len(one), length, room, truncation == "only_first")
            ids, types = frame.join(one[:keep], None if two is None else two[:keep_two])
            result.append((ids, types, len(one) + length - keep - keep_two))
    return result


def text_items(
    tokenizer: Tokenizer,
    lengths: Lengths,
    texts: Sequence[str],
    pairs: Sequence[str | None] | None,
    golds: Sequence[dict[str, Any]],
) -> list[Item]:
    """One item for each text or text pair, with its gold; what is too long loses tokens from its
    longer side, counted in `cut`.
    """
    encoded = encode_batch(tokenizer, texts, pairs, lengths.max_length)
    return [
        Item(owner, (ids,), None if types is None else (types,), gold, cut=cut)
        for owner, ((ids, types, cut), gold) in enumerate(zip(encoded, golds, strict=True))
    ]


def pad(items: Sequence[Item], tokenizer: Tokenizer, multiple: int = 1) -> dict[str, np.ndarray]:
    """All sequences of all items in order, padded to the longest (to a multiple of `multiple`)."""
    sequences = [ids for item in items for ids in item.ids]
    width = -(-max(len(ids) for ids in sequences) // multiple) * multiple
    ids = np.full((len(sequences), width), tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if items[0].types is not None:
        types = np.zeros((len(sequences), width), dtype=np.int64)
        for row, kind in enumerate(kind for item in items for kind in item.types or ()):
            types[row, : len(kind)] = kind
        batch["token_type_ids"] = types
    return batch


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares of one row of logits, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    shares: np.ndarray = shifted / shifted.sum()
    return shares
