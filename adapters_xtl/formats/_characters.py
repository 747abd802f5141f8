"""Where a span of text may begin and end: at ink, and never between a character and its marks."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

__all__ = ["after_marks", "ink_at", "trimmed"]

INK, BLANK, INVISIBLE, MARK = range(4)

# What extends the character before it although its category is not Mark: Hangul's conjoining vowels
# and final consonants (a decomposed syllable), Thai and Lao AM, half-width kana's voicing marks,
# the skin colours of emoji.
# These are the classes V, T, SpacingMark and Extend of Unicode's grapheme clusters (UAX 29).
_EXTENDING = (
    *range(0x1160, 0x1200),
    *range(0xD7B0, 0xD7FC),
    0x0E33,
    0x0EB3,
    0xFF9E,
    0xFF9F,
    *range(0x1F3FB, 0x1F400),
)


@cache
def _kinds() -> np.ndarray:
    """For every code point: INK, BLANK (white space), INVISIBLE (control and format characters,
    zero-width and the like), or MARK, which belongs to the character before it.
    """
    kinds = np.zeros(0x110000, dtype=np.uint8)
    # the planes between hold ideographs or nothing
    for code in (*range(0x20000), *range(0xE0000, 0xE0200)):
        char = chr(code)
        category = unicodedata.category(char)
        if char.isspace():
            kinds[code] = BLANK
        elif category in ("Cc", "Cf"):
            kinds[code] = INVISIBLE
        elif category[0] == "M":
            kinds[code] = MARK
    kinds[list(_EXTENDING)] = MARK
    return kinds


def _of(text: str) -> np.ndarray:
    """The kind of each character; a mark with no character before it is ink of its own."""
    kinds = _kinds()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
    if (kinds == MARK).any():
        follows = np.append(BLANK, kinds[:-1])
        kinds = np.where((kinds == MARK) & (follows == BLANK), INK, kinds).astype(np.uint8)
    return kinds


def _next(wanted: np.ndarray) -> np.ndarray:
    """For every place, and the end: the first place from there on where `wanted` holds, else the
    end.
    """
    count = len(wanted)
    places = np.append(np.where(wanted, np.arange(count), count), count)
    nearest: np.ndarray = np.minimum.accumulate(places[::-1])[::-1]
    return nearest


def ink_at(text: str) -> int | None:
    """Place of the first visible character; None where there is none."""
    kinds = _kinds()
    visible = (place for place, char in enumerate(text) if kinds[ord(char)] in (INK, MARK))
    return next(visible, None)


def after_marks(text: str) -> np.ndarray | None:
    """For every place, and the end: the first place from there on that holds no mark of the
    character before it. None where the text has no mark.
    """
    if text.isascii():
        return None
    kinds = _of(text)
    return _next(kinds != MARK) if (kinds == MARK).any() else None


def trimmed(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tokenizer's offsets (n, 2) → the starts and ends of the characters that are each piece's,
    without blanks at either edge; start == end where nothing is left.

    Marks belong to the piece of the character before them, whichever pieces the tokenizer gave them
    to, if any. Zero-width characters that close a word belong to its last piece, as they do where
    words are split at white space.
    """
    kinds = _of(text)
    count = len(text)
    places = np.arange(count + 1)
    ink = (kinds == INK) | (kinds == MARK)
    first_ink = _next(ink)
    # the end of the last ink up to each place
    last_ink = np.append(0, np.maximum.accumulate(np.where(ink, places[1:], 0)))
    start = np.minimum(first_ink[offsets[:, 0]], offsets[:, 1])
    end = np.maximum(last_ink[offsets[:, 1]], start)
    if (kinds == MARK).any():
        beyond = _next(kinds != MARK)
        held = end > start
        end = np.where(held, beyond[end], end)
        start = np.where(held, np.minimum(beyond[start], end), start)
    if (kinds == INVISIBLE).any():
        beyond = _next(kinds != INVISIBLE)  # where a run of zero-width characters stops
        closing = np.where(np.append(kinds, BLANK)[beyond] == BLANK, beyond, places)
        end = np.where(end > start, closing[end], end)
    return start.astype(np.int32), end.astype(np.int32)
