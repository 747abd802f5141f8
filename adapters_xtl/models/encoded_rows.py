"""Rows that were encoded before, by their content: what a select slice, a sibling's training or
another evaluation reads again is not tokenized again. What one process keeps in memory, several
keep on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters_xtl import formats
from adapters_xtl.formats import Item, Lengths, Tokenizer
from adapters_xtl.models.encoded_files import EncodedFiles

if TYPE_CHECKING:
    from adapters_xtl.models.network import Model

__all__ = ["EncodedRows", "encode"]

# tokens that are kept at most, some 100 MB; of a set that is larger nothing is kept
ROOM = 16 << 20
PER_ITEM = 100  # tokens that what an item takes besides its ids counts as


class EncodedRows:
    """Keeps the items of sets of rows, the least recently used of which give way; and with `files`
    on disk, too, from where they come when another process has encoded them.

    Two calls share their items where everything that decides them is the same: the tokenizer (one
    object), the format, labels, lengths, and the content of all examples. Items are read, never
    changed, by those who get them.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room, self._taken = room, 0
        self.files: EncodedFiles | None = None
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

        def made() -> list[Item]:
            return formats.load(format).encode(examples, labels, tokenizer, lengths, train=train)

        if self.files is not None and self.files.wants(len(examples)):
            name = self.files.key(sha256, format, labels, tokenizer, lengths, train=train)
            items = self.files.read_or_write(name, made)
        else:
            items = made()
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


def encode(
    model: Model, task: str, examples: Sequence[Mapping[str, Any]], *, train: bool
) -> list[Item]:
    """The items of a task's examples for the model's head of it: see `Format.encode`. They come
    from the rows that the model keeps, where it keeps any.
    """
    spec, rows = model.specs[task], model.encoded_rows or EncodedRows(0)
    return rows.encode(
        spec.format, examples, spec.labels, model.tokenizer, spec.lengths, train=train
    )
