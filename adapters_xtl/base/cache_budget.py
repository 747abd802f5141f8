"""How much of the disk the parts of the package's cache may take: variables of the environment."""

from __future__ import annotations

import os

from adapters_xtl.base.errors import RequestError

__all__ = ["GIB", "STATES", "TOKENIZED", "cache_budget"]

GIB = 2**30
STATES, TOKENIZED = "XTL_PREFIX_GIB", "XTL_TOKENIZED_GIB"
DEFAULT_GIB = {STATES: 4.0, TOKENIZED: 1.0}


def cache_budget(variable: str) -> int:
    """Bytes that a variable allows, in GiB, or by default; 0 keeps nothing.

    RequestError where it holds no number from 0 on.
    """
    text = os.environ.get(variable, "").strip()
    try:
        gib = float(text) if text else DEFAULT_GIB[variable]
    except ValueError:
        gib = -1.0
    if not 0 <= gib < 2**30:
        raise RequestError(f"{variable}={text}: takes a number of GiB from 0 on; 0 keeps nothing")
    return int(gib * GIB)
