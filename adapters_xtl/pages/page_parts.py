"""What the HTML page is put together from: sections that hold texts, facts, tables, plots and runs.

The templates render each part by its `kind`. All text is plain text, escaped when it is rendered;
only `Plot.svg` is markup, which `figures` made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

__all__ = [
    "Answer",
    "Cell",
    "Column",
    "Command",
    "Facts",
    "Grid",
    "Listing",
    "Page",
    "Part",
    "Plot",
    "Row",
    "RunCard",
    "Section",
    "Text",
]


@dataclass(frozen=True)
class Text:
    """Paragraphs. `tone`: "" or "note"."""

    paragraphs: tuple[str, ...]
    tone: str = ""
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Answer:
    """A study's answer, in its own words, and what it is and is not evidence for."""

    headline: str
    verdict: str = ""
    exception: str = ""
    limits: str = ""
    evidence: tuple[str, ...] = ()
    no_evidence: tuple[str, ...] = ()
    kind: ClassVar[str] = "answer"


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Command:
    """A command line, and a sentence on it."""

    line: str
    note: str = ""
    kind: ClassVar[str] = "command"

    @property
    def words(self) -> list[str]:
        """The line at its spaces: between them it may be broken on the page."""
        return self.line.split(" ")


@dataclass(frozen=True)
class Listing:
    """Named things with an explanation each: failures, damaged runs, notes."""

    entries: tuple[tuple[str, str], ...]
    tone: str = ""
    kind: ClassVar[str] = "listing"


@dataclass(frozen=True)
class Column:
    """A table's column; `numeric` ones are set to the right and sorted by their values."""

    heading: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    text      what is read; `interval` and `note` stand below it
    value     what the column is sorted by; None: by the text, or last in a numeric column
    verdict   "higher", "lower", "equivalent", "inconclusive" or ""
    href      the id of what the text is linked to on this page
    """

    text: str
    value: float | None = None
    interval: str = ""
    note: str = ""
    verdict: str = ""
    best: bool = False
    href: str = ""

    @property
    def mark(self) -> str:
        """A sign for the verdict: it does not rest on colour."""
        return {"higher": "▲", "lower": "▼"}.get(self.verdict, "")


@dataclass(frozen=True)
class Row:
    """A row of a table: its heading, then a cell for each further column. `pinned`: it stays above
    the others however they are sorted.
    """

    heading: Cell
    cells: tuple[Cell, ...]
    pinned: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as the page shows it: the first column holds the rows' headings."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Plot:
    """A figure as an `<svg>` element that is `width` CSS pixels wide at its full size."""

    name: str
    title: str
    svg: str
    width: int
    caption: str = ""
    kind: ClassVar[str] = "plot"


@dataclass(frozen=True)
class RunCard:
    """A run: where it comes from, and the command that makes it again.

    anchor    its id on the page
    summary   a few words on its score and cost
    """

    anchor: str
    title: str
    summary: str
    command: Command
    facts: tuple[tuple[str, str], ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: ClassVar[str] = "run"


Part = Text | Answer | Facts | Command | Listing | Grid | Plot | RunCard


@dataclass(frozen=True)
class Section:
    """A section of the page; `anchor` is its id, `short` its name in the index."""

    anchor: str
    title: str
    parts: tuple[Part, ...]
    short: str = ""
    level: int = 2


@dataclass(frozen=True)
class Page:
    """The whole page. `predictions` is the text of a JSON value, safe inside a script element."""

    title: str
    overline: str
    sections: tuple[Section, ...]
    predictions: str = ""
    predictions_notes: tuple[str, ...] = ()
    made_by: str = ""
