"""Formats: how examples become tensors, the head on top, and how outputs become predictions.

A format is one file of this folder: `formats.load("classify")` gives its object, a `Format`.
Nothing outside asks for a format by its name; what differs between formats is a method or a
constant of `Format`. Importing this package, and a format's file, imports no torch.
"""

from __future__ import annotations

import importlib
from functools import cache

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.files import public_files
from adapters_xtl.formats._checks import text_fault
from adapters_xtl.formats._format import (
    Batch,
    Example,
    Fault,
    Format,
    HeadSizes,
    ParallelText,
)
from adapters_xtl.formats._head_config import head_shapes
from adapters_xtl.formats._items import (
    IGNORED,
    Item,
    Lengths,
    Tokenizer,
    encode_batch,
    has_lone_surrogate,
    pad,
    text_items,
)
from adapters_xtl.formats._plain_heads import PlainHead
from adapters_xtl.formats._rows import example_of_columns

__all__ = [
    "IGNORED",
    "Batch",
    "Example",
    "Fault",
    "Format",
    "HeadSizes",
    "Item",
    "Lengths",
    "ParallelText",
    "PlainHead",
    "Tokenizer",
    "encode_batch",
    "example_of_columns",
    "fault",
    "has_lone_surrogate",
    "head_shapes",
    "load",
    "names",
    "pad",
    "text_fault",
    "text_items",
]


def names() -> tuple[str, ...]:
    """Names of all formats, sorted: the files of this folder that do not begin with `_`."""
    return public_files(*__path__)


@cache
def load(name: str) -> Format:
    """The format `name`. RequestError, with the nearest name, when there is none."""
    if name not in names():
        raise RequestError(f"unknown format '{name}'{nearest(name, names())}")
    format: Format = importlib.import_module(f"{__name__}.{name}").FORMAT
    format.name = name
    return format


def fault(name: str, example: Example, labels: tuple[str, ...] | list[str] = ()) -> Fault | None:
    """The first thing wrong with an example of the format `name`, or None."""
    return load(name).fault(example, labels)
