"""A study's table as LaTeX, for booktabs."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import replace
from itertools import zip_longest

from adapters_xtl.grid.results import Line, Table
from adapters_xtl.pages.table_text import EntryText, broken, entry_text, notes, one_line

__all__ = ["latex"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # not an option of the \\ before it
    "]": "{]}",
    "*": r"$^{*}$",
    "°": r"$^{\circ}$",
    "·": r"\textperiodcentered{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\rightarrow$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}
# grave, acute, circumflex, tilde, macron, breve, dot, diaeresis, ring, double acute, caron, cedilla
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_HEADING_LENGTH = 12  # characters, after which a heading is broken
_COLUMNS = 14  # of a table; further ones go on below it
_COLUMN_POINTS = 246.0  # width of a column of a page that has two
_CHARACTER = 4.6  # width of a character in small type, in points
_BETWEEN = 12.0  # between two columns of a table, in points


def latex(table: Table) -> str:
    """A `table` environment to `\\input`; it needs `\\usepackage{booktabs,graphicx}`.

    A table that is too wide for its place is made smaller, one with many columns goes on below.
    Intervals and notes stand in small type below their numbers. A letter that pdfLaTeX has no glyph
    for is written by its code point there, and as it is under LuaLaTeX and XeLaTeX.
    """
    blocks = _blocks(table)
    wide = max(map(_points, blocks)) > _COLUMN_POINTS
    environment = "table*" if wide else "table"
    lines = [
        f"% {_comment(table.title)}",
        r"% needs \usepackage{booktabs,graphicx}",
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        *([r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"] if wide else [r"\small"]),
        rf"\caption{{{_latex(table.title)}.}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9-]+', '-', table.name)}}}",
    ]
    for number, block in enumerate(blocks):
        lines += [r"\par\medskip"] * (number > 0) + _tabular(block)
    below = notes(table)
    if below:
        sentences = [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in below]
        text = " ".join(map(_latex, sentences))
        lines += [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {text}}}"]
    return "\n".join([*lines, rf"\end{{{environment}}}"]) + "\n"


def _blocks(table: Table) -> list[Table]:
    """The table cut into tables of at most `_COLUMNS` columns, about equally many in each."""
    columns = len(table.columns)
    count = max(1, math.ceil(columns / _COLUMNS))
    width = max(1, math.ceil(columns / count))
    return [
        replace(
            table,
            columns=table.columns[start : start + width],
            lines=tuple(
                replace(line, entries=line.entries[start : start + width]) for line in table.lines
            ),
        )
        for start in range(0, max(columns, 1), width)
    ]


def _points(table: Table) -> float:
    """About how wide the table is in small type, in points."""
    width = _CHARACTER * max(len(one_line(line.label)) for line in table.lines or (Line("", ()),))
    for place, column in enumerate(table.columns):
        parts = broken(one_line(column), _HEADING_LENGTH).split("\n")
        characters = [float(len(part)) for part in parts]
        for line in table.lines:
            text = entry_text(line.entries[place], table.decimals, signed=line.difference)
            characters += [len(text.number), 0.75 * len(text.interval), 0.75 * len(text.note)]
        width += _CHARACTER * max(characters) + _BETWEEN
    return width


def _tabular(table: Table) -> list[str]:
    """The lines of a `tabular`, made smaller where it is wider than its place."""
    lines = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        " & ".join([_latex(table.corner), *map(_latex_heading, table.columns)]) + r" \\",
        r"\midrule",
    ]
    rows_above: list[str] = []
    for place, line in enumerate(table.lines):
        rows = _latex_line(table, line)
        if place and line.difference and not table.lines[place - 1].difference:
            lines.append(r"\midrule")
        elif len(rows_above) > 1:
            lines.append(r"\addlinespace[2pt]")
        lines += rows
        rows_above = rows
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _latex_line(table: Table, line: Line) -> list[str]:
    """A line of numbers, and below it up to two of intervals and notes."""
    texts = [entry_text(entry, table.decimals, signed=line.difference) for entry in line.entries]
    numbers = []
    for text in texts:
        shown = _latex_number(text.number) if text.number else rf"\textit{{{_latex(text.note)}}}"
        numbers.append(rf"\textbf{{{shown}}}" if text.number and text.best else shown)
    below = zip_longest(*(_latex_below(text) for text in texts), fillvalue="")
    rows = [" & ".join([_latex(line.label), *numbers])]
    rows += [
        " & ".join(["", *(rf"{{\scriptsize {part}}}" if part else "" for part in parts)])
        for parts in below
    ]
    return [rf"{row} \\" for row in rows]


def _latex_heading(column: str) -> str:
    """The heading of a column, a long one in several lines."""
    parts = broken(one_line(column), _HEADING_LENGTH).split("\n")
    if len(parts) == 1:
        return _latex(column)
    stacked = r" \\ ".join(map(_latex, parts))
    return rf"\shortstack[r]{{{stacked}}}"


def _latex_below(text: EntryText) -> list[str]:
    """What stands below a number: its interval, its note."""
    parts = [_latex_number(text.interval), _latex(text.note)] if text.number else []
    return [part for part in parts if part]


def _latex_number(text: str) -> str:
    """A number or an interval, with real minus signs, on one line."""
    signs = {**_LATEX, "-": "$-$", " ": "~"}
    return "".join(signs.get(character, character) for character in text)


def _latex(text: str) -> str:
    """Text that LaTeX prints as it is, whichever engine compiles it."""
    parts = []
    for foreign, run in _runs(one_line(text)):
        if foreign:
            codes = " ".join(f"U+{ord(character):04X}" for character in run)
            parts.append(rf"\ifdefined\Umathchar {run}\else {codes}\fi{{}}")
        else:
            parts.append("".join(_LATEX.get(character, character) for character in run))
    return "".join(parts)


def _runs(text: str) -> list[tuple[bool, str]]:
    """The text cut where letters begin or end that pdfLaTeX does not know: (whether it is of
    those, characters).
    """
    runs: list[tuple[bool, str]] = []
    for character in text:
        foreign = character not in _LATEX and not _is_latin(character)
        if runs and runs[-1][0] == foreign:
            runs[-1] = (foreign, runs[-1][1] + character)
        else:
            runs.append((foreign, character))
    return runs


def _is_latin(character: str) -> bool:
    """ASCII, and the letters that LaTeX has in its oldest encoding too."""
    if character.isascii() or character in "ßæÆøØœŒłŁı":
        return True
    decomposed = unicodedata.normalize("NFD", character)
    return len(decomposed) == 2 and decomposed[0].isascii() and decomposed[1] in _ACCENTS


def _comment(text: str) -> str:
    return one_line(text).encode("ascii", "replace").decode()
