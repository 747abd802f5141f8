"""Methods: how parameters are added to the frozen backbone, one file each, found by listing.

`methods.load("lora")` gives a method's object, a `Method`. Nothing outside compares a method's
name: what differs between methods is a function or a constant of `Method`. Importing this package,
and a method's file, imports no library: naming and planning a run must not cost seconds.
"""

from __future__ import annotations

import importlib
from functools import cache

from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.files import public_files
from adapters_xtl.methods._method import (
    APART,
    COMPOSES,
    AfterBlock,
    ForeignForm,
    KeptAfterBlock,
    Link,
    LowRank,
    Method,
    ModuleSpec,
    ShortLived,
    TensorShapes,
)
from adapters_xtl.methods._saved import check_tensors, expected_tensors

__all__ = [
    "COMPARED",
    "APART",
    "COMPOSES",
    "DEFAULT",
    "REFERENCE",
    "AfterBlock",
    "ForeignForm",
    "KeptAfterBlock",
    "Link",
    "LowRank",
    "Method",
    "ModuleSpec",
    "ShortLived",
    "TensorShapes",
    "check_tensors",
    "expected_tensors",
    "load",
    "names",
]

DEFAULT = "bottleneck"  # of `xtl recipe`
REFERENCE = "full"  # what the others are held against
COMPARED = (REFERENCE, "bottleneck", "lora")  # of `xtl compare`, where none are named


def names() -> tuple[str, ...]:
    """Names of all methods, sorted: the files of this folder that do not begin with `_`."""
    return public_files(*__path__)


@cache
def load(name: str) -> Method:
    """The method `name`. RequestError, with the nearest name, when there is none."""
    if name not in names():
        raise RequestError(f"unknown method '{name}'{nearest(name, names())}")
    method: Method = importlib.import_module(f"{__name__}.{name}").METHOD
    method.name = name
    return method
