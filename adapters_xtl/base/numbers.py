"""Numbers that users write, in flags and in TOML: one rule for all of them.

A number is finite and in ASCII digits: `²`, `٣`, `08`, `1_000`, `nan`, `inf` and `1e400` are none.
"""

from __future__ import annotations

import math
import re

from adapters_xtl.base.errors import Problems, clipped

__all__ = ["number", "parse_number", "parse_seeds", "parse_whole", "whole"]

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,399})?(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
SEEDS = 2**32  # seeds are below this: numpy takes no larger ones


def parse_whole(text: str) -> int | None:
    """The whole number that a text spells, or None."""
    return int(text) if _WHOLE.fullmatch(text) else None


def parse_number(text: str) -> float | None:
    """The finite number that a text spells (`24`, `0.5`, `1e-4`), or None."""
    if not _NUMBER.fullmatch(text) or not any(digit in text for digit in "0123456789"):
        return None
    try:
        return number(float(text))
    except ValueError:  # an exponent alone
        return None


def whole(value: object) -> int | None:
    """A TOML value as a whole number of at most 18 digits (`8` and `8.0` are 8), or None."""
    parsed = number(value)
    if parsed is None or parsed != int(parsed) or abs(parsed) >= 1e18:
        return None
    return value if isinstance(value, int) else int(parsed)


def number(value: object) -> float | None:
    """A TOML value as a finite number, or None; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        parsed = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return parsed if math.isfinite(parsed) else None


def parse_seeds(text: str, flag: str, problems: Problems) -> tuple[int, ...]:
    """`"1,2,3"` → (1, 2, 3). What is no seed, and a seed named twice, is added to `problems`."""
    parts = [part.strip() for part in text.split(",")]
    seeds = [parse_whole(part) for part in parts]
    for part, seed in zip(parts, seeds, strict=True):
        if seed is None or not 0 <= seed < SEEDS:
            problems.add(
                f"{flag} {clipped(part)}: takes different whole numbers from 0 to {SEEDS - 1},"
                " e.g. 1,2,3"
            )
            return ()
    parsed = tuple(seed for seed in seeds if seed is not None)
    if len(set(parsed)) < len(parsed):
        problems.add(f"{flag} {clipped(text)}: takes different whole numbers, e.g. 1,2,3")
    return tuple(dict.fromkeys(parsed))
