"""Rows that were encoded before, by their content: what a select slice or a sibling's training
reads again is not tokenized again.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xtl import formats
from adapters_xtl.formats import Item, Lengths, Tokenizer

__all__ = ["EncodedRows"]

# tokens that are kept at most, some 100 MB; of a set that is larger nothing is kept
ROOM = 16 << 20
PER_ITEM = 100  # tokens that what an item takes besides its ids counts as


class EncodedRows:
    """Keeps the items of sets of rows, the least recently used of which give way.

    Two calls share their items where everything that decides them is the same: the tokenizer (one
    object), the format, labels, lengths, and the content of all examples. Items are read, never
    changed, by those who get them.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room, self._taken = room, 0
        self._items: OrderedDict[tuple[Any, ...], list[Item]] = OrderedDict()

    def encode(
        self,
        format: str,
        examples: Sequence[Mapping[str, Any]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> list[Item]:
        """What the format's `encode` gives; kept, or taken from what was kept."""
        content = json.dumps([dict(example) for example in examples], sort_keys=True)
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        key = (tokenizer, format, tuple(labels), lengths, train, sha256)
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        items = formats.load(format).encode(examples, labels, tokenizer, lengths, train=train)
        size = _size(items)
        if size <= self._room:
            self._items[key] = items
            self._taken += size
        while self._taken > self._room:
            _, oldest = self._items.popitem(last=False)
            self._taken -= _size(oldest)
        return items


def _size(items: Sequence[Item]) -> int:
    return sum(item.tokens + PER_ITEM for item in items)
