"""How much of the disk a part of the package's cache may take: a variable of the environment."""

from __future__ import annotations

import os

from adapters_xtl.base.errors import RequestError

__all__ = ["GIB", "cache_budget"]

GIB = 2**30


def cache_budget(variable: str, default_gib: float) -> int:
    """Bytes that the variable allows in GiB, or by default; 0 keeps nothing.

    RequestError where it holds no number from 0 on.
    """
    text = os.environ.get(variable, "").strip()
    try:
        gib = float(text) if text else default_gib
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**30:
        raise RequestError(f"{variable}={text}: takes a number of GiB from 0 on; 0 keeps nothing")
    return int(gib * GIB)
