"""Path patterns of a data set's README: `*` stays inside one folder, `**` does not.

Matching walks a path once for each sign of the pattern, so that no pattern of a stranger's README
takes long (a regular expression with many `*` would).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from adapters_xtl.base.errors import DataError

__all__ = ["matches"]

LONGEST = 1000  # characters of a pattern


class _Sign(NamedTuple):
    """One step of a pattern. `repeat`: it takes any number of characters, else exactly one.

    `characters` with `negated` say which characters; ranges are (first, last) pairs.
    `folders`: the step is `**/`, which takes whole folders or nothing.
    """

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False
    repeat: bool = False
    folders: bool = False

    def takes(self, character: str) -> bool:
        inside = any(first <= character <= last for first, last in self.ranges)
        return inside != self.negated


_ANY = _Sign((), negated=True)
_STEPS = {
    "**/": _Sign((), negated=True, repeat=True, folders=True),
    "**": _ANY._replace(repeat=True),
    "*": _Sign((("/", "/"),), negated=True, repeat=True),
    "?": _Sign((("/", "/"),), negated=True),
}


def matches(pattern: str, path: str) -> bool:
    """Whether a whole path fits a pattern. DataError when the pattern is none (`[z-a]*`)."""
    positions = {0}
    for sign in _signs(pattern.removeprefix("./")):
        positions = _after(sign, positions, path)
    return len(path) in positions


def _after(sign: _Sign, positions: set[int], path: str) -> set[int]:
    """Where in `path` one can stand after `sign`, coming from one of `positions`."""
    if not sign.repeat:
        return {place + 1 for place in positions if place < len(path) and sign.takes(path[place])}
    reached: set[int] = set(positions)
    for place in range(min(positions, default=len(path)), len(path)):
        if place in reached and sign.takes(path[place]):
            reached.add(place + 1)
    if sign.folders:
        return {place for place in reached if place in positions or path[place - 1] == "/"}
    return reached


@lru_cache(maxsize=4096)
def _signs(pattern: str) -> tuple[_Sign, ...]:
    if len(pattern) > LONGEST:
        raise DataError(f"a pattern of {len(pattern):,} characters (at most {LONGEST:,})")
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    signs: list[_Sign] = []
    for number, part in enumerate(parts):
        if number % 2 and part.startswith("["):
            signs.append(_character_set(part, pattern))
        elif number % 2:
            signs.append(_STEPS[part])
        else:
            signs += [_Sign(((character, character),)) for character in part]
    return tuple(signs)


def _character_set(part: str, pattern: str) -> _Sign:
    """The step of `[a-c]`, `[abc]` or `[!a-c]`."""
    inner = part[1:-1]
    negated = len(inner) > 1 and inner[0] in "!^"
    inner = inner[1:] if negated else inner
    ranges: list[tuple[str, str]] = []
    while inner:
        if len(inner) > 2 and inner[1] == "-":
            first, last, inner = inner[0], inner[2], inner[3:]
            if first > last:
                raise DataError(f"the pattern '{pattern}' has a range that ends before it begins")
        else:
            first = last = inner[0]
            inner = inner[1:]
        ranges.append((first, last))
    if negated:
        ranges.append(("/", "/"))
    return _Sign(tuple(ranges), negated)
