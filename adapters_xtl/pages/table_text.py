"""The numbers of a study's tables and figures as text: signs, marks, intervals, notes.

`+1.2*`   a difference whose interval excludes 0, also after Holm's correction
`+1.2`    the same before the correction only, or without one
`(+0.4)`  an inconclusive difference
`+0.1°`   no difference beyond the margin that was stated beforehand

Below a number stand its interval and its note ("one seed", "2 of 3 seeds"). Where there is no
number, the note stands in its place ("failed", "not run").
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from adapters_xtl.grid.results import Entry, Table

__all__ = ["NO_NUMBER", "EntryText", "broken", "entry_text", "is_inconclusive", "notes", "one_line"]

NO_NUMBER = "no number"  # where an entry has neither a number nor a note
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # categories that show nothing of themselves
_AFTER_HOLM, _EQUIVALENT = "*", "°"


@dataclass(frozen=True)
class EntryText:
    """An entry as it is read: `number` with its marks ("" without one), `interval` as
    `[low, high]`, and `note`. At least one of number and note is there.
    """

    number: str
    interval: str
    note: str
    best: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """What there is of number, interval and note, in this order."""
        return tuple(part for part in (self.number, self.interval, self.note) if part)


def is_inconclusive(entry: Entry, *, difference: bool) -> bool:
    """Whether the entry is a number that shows no difference: its interval includes 0, or it is a
    difference without an interval (one seed).
    """
    if entry.value is None:
        return False
    return entry.verdict == "inconclusive" or (difference and entry.low is None)


def entry_text(entry: Entry, decimals: int = 1, *, signed: bool = False) -> EntryText:
    """The entry's number, interval and note as text; `signed` for a difference."""
    if entry.value is None:
        return EntryText("", "", one_line(entry.note) or NO_NUMBER, False)
    number = _number(entry.value, decimals, signed)
    if is_inconclusive(entry, difference=signed):
        number = f"({number})"
    elif entry.verdict == "equivalent":
        number += _EQUIVALENT
    if entry.holm in ("higher", "lower"):
        number += _AFTER_HOLM
    bounds = ""
    if entry.low is not None and entry.high is not None:
        low, high = (_number(bound, decimals, signed) for bound in (entry.low, entry.high))
        bounds = f"[{low}, {high}]"
    return EntryText(number, bounds, one_line(entry.note), entry.best)


def _number(value: float, decimals: int, signed: bool) -> str:
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if not text.strip("+-0.") else text  # neither -0.0 nor +0.0


def notes(table: Table) -> tuple[str, ...]:
    """The table's notes, and what its marks mean: only of marks that it uses."""
    entries = [entry for line in table.lines for entry in line.entries]
    marks = []
    if any(
        is_inconclusive(entry, difference=line.difference)
        for line in table.lines
        for entry in line.entries
    ):
        marks.append(
            "(in parentheses): inconclusive, the interval includes 0 or there is none (one seed)"
        )
    if any(entry.verdict == "equivalent" for entry in entries):
        marks.append(f"{_EQUIVALENT}: no difference beyond the margin, the interval lies within it")
    if any(entry.holm in ("higher", "lower") for entry in entries):
        marks.append(
            f"{_AFTER_HOLM}: significant also after Holm's correction; without it, before the"
            " correction only"
        )
    elif any(entry.holm for entry in entries):
        marks.append("after Holm's correction none of these differences remains significant")
    if any(entry.best for entry in entries):
        marks.append("bold: the best of its column (not a test)")
    return (*(one_line(note) for note in table.notes), *marks)


def one_line(text: str) -> str:
    """The text without line breaks, control characters and marks that turn its direction."""
    text = " ".join(text.split())
    return "".join(
        character for character in text if unicodedata.category(character) not in _HIDDEN
    )


def broken(label: str, length: int) -> str:
    """The label in up to three lines of at most `length` characters, broken behind a space or a
    mark; in one line where that is not enough.
    """
    lines = [""]
    for part in re.findall(r"[^ _>+,;:/-]+[ _>+,;:/-]*|[ _>+,;:/-]+", label):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > length:
            lines.append("")
        lines[-1] += part
    fits = len(lines) <= 3 and all(len(line.rstrip()) <= length for line in lines)
    return "\n".join(line.rstrip() for line in lines) if fits else label
