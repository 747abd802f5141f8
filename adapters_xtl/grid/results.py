"""What a study shows, as data: tables of scores and differences, and figures. `pages` draws them.

They are part of a study's record (`to_json`, `from_json` of `base.typed_json`), so that a table or
a figure can be drawn again without the runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from adapters_xtl.base.errors import RequestError, clipped

__all__ = ["Entry", "Figure", "Line", "Point", "Series", "Table", "file_name"]

Verdict = Literal["", "higher", "lower", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Entry:
    """One number of a table or a heat map: a score, or a difference of two scores.

    value         None where there is no number; `note` says why
    low, high     its interval; None with one seed
    verdict       of a difference: what its interval says, see `base.statistics.verdict`; "" for a
                  score
    holm          the same after Holm's correction over the study's contrasts; "" without one
    best          the best of its column
    note          "one seed", "failed", "not run", "2 of 3 seeds": what a reader must know
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict = ""
    holm: Verdict = ""
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table. `difference`: its numbers are differences, and are shown with a sign."""

    label: str
    entries: tuple[Entry, ...]
    difference: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `name` is that of its files, `corner` the heading above the labels of its lines.

    RequestError where a line has another number of entries than there are columns.
    """

    name: str
    title: str
    corner: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    decimals: int = 1

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.entries) != len(self.columns):
                raise RequestError(
                    f"table {clipped(self.name)}: line {clipped(line.label)} has"
                    f" {len(line.entries)} entries for {len(self.columns)} columns"
                )


@dataclass(frozen=True)
class Point:
    """A point of a figure. `x` is a number, or the name of a category (a language, a task).

    y     None where there is no number; `note` says why
    note  what a reader must know; in a scatter the name that stands beside the dot
    area  in a scatter, what the dot's area stands for, in bytes; 0 for nothing
    """

    x: float | str
    y: float | None
    low: float | None = None
    high: float | None = None
    verdict: Verdict = ""
    note: str = ""
    area: float = 0.0


@dataclass(frozen=True)
class Series:
    """Points that belong together: one colour, one line of the legend."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Figure:
    """A figure: `name` is that of its files.

    kind     heatmap  the entries of `table`, coloured by value around 0 where they are differences,
                      hatched where inconclusive
             bars     a bar for each category and series, in the order of the points
             curve    y against a number x, with a band from low to high
             forest   a line for each point: its interval, and 0 marked
             dumbbell two series over the same categories, joined
             scatter  y against a number x, a dot for each point
             forest and dumbbell lie on their side: their y runs from left to right, and is what
             `y_label` names
    caption  what a reader must know: units, what an interval is, what it is no evidence for

    RequestError for a heat map without a table, and for a curve or a scatter with an x that is no
    number.
    """

    name: str
    kind: Literal["heatmap", "bars", "curve", "forest", "dumbbell", "scatter"]
    title: str
    x_label: str = ""
    y_label: str = ""
    table: Table | None = None
    series: tuple[Series, ...] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        if self.kind == "heatmap" and self.table is None:
            raise RequestError(f"figure {clipped(self.name)}: a heat map takes a table")
        if self.kind in ("curve", "scatter"):
            for series in self.series:
                for point in series.points:
                    if isinstance(point.x, str):
                        raise RequestError(
                            f"figure {clipped(self.name)}: the x of a {self.kind} is a number, not"
                            f" '{clipped(point.x)}'"
                        )


_RECORDS = ("study", "comparison")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def file_name(name: str) -> str:
    """The name of a table or a figure, where its files can be called so: letters, digits and
    `._+-`. RequestError otherwise: a record may be a stranger's, and `../x` would leave its folder.
    """
    if name in _RECORDS:
        raise RequestError(f"{name}: the file {name}.json is a study's record; takes another name")
    if not _FILE_NAME.fullmatch(name):
        raise RequestError(
            f"{clipped(name)}: takes letters, digits and ._+- (at most 100, a letter or digit"
            " first): files are named for the table or figure"
        )
    return name
