"""A study's table in every form: Markdown, CSV, LaTeX, JSON, and for the terminal.

The forms share one text for a number, so that they cannot disagree:

`+1.2*`   a difference whose interval excludes 0, also after Holm's correction
`+1.2`    the same before the correction only, or without one
`(+0.4)`  an inconclusive difference
`+0.1°`   no difference beyond the margin that was stated beforehand

Below a number stand its interval and its note ("one seed", "2 of 3 seeds"). Where there is no
number, the note stands in its place ("failed", "not run").
"""

from __future__ import annotations

import csv as csv_files
import io
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from adapters_xtl.base.files import atomic_write
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.grid.results import Entry, Line, Table, file_name

__all__ = [
    "CSV_COLUMNS",
    "EntryText",
    "csv",
    "entry_text",
    "file_json",
    "latex",
    "markdown",
    "notes",
    "save",
    "terminal",
]

CSV_COLUMNS = (
    "line",
    "column",
    "kind",
    "value",
    "low",
    "high",
    "verdict",
    "holm",
    "best",
    "note",
)
NO_NUMBER = "no number"  # where an entry has neither a number nor a note
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


def entry_text(entry: Entry, decimals: int = 1, *, signed: bool = False) -> EntryText:
    """The entry's number, interval and note as text; `signed` for a difference."""
    if entry.value is None:
        return EntryText("", "", one_line(entry.note) or NO_NUMBER, False)
    number = _number(entry.value, decimals, signed)
    if entry.verdict == "inconclusive":
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
    if any(entry.verdict == "inconclusive" and entry.value is not None for entry in entries):
        marks.append(
            "(in parentheses): inconclusive, the interval includes 0 or there is none (one seed)"
        )
    if any(entry.verdict == "equivalent" for entry in entries):
        marks.append(f"{_EQUIVALENT}: no difference beyond the margin, the interval lies within it")
    if any(entry.holm for entry in entries):
        marks.append(
            f"{_AFTER_HOLM}: the difference excludes 0 also after Holm's correction over the"
            " differences of this table; without it, before the correction only"
        )
    if any(entry.best for entry in entries):
        marks.append("bold: the best of its column")
    return (*(one_line(note) for note in table.notes), *marks)


def one_line(text: str) -> str:
    """The text without line breaks, control characters and marks that turn its direction."""
    text = " ".join(text.split())
    return "".join(
        character for character in text if unicodedata.category(character) not in _HIDDEN
    )


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # categories that show nothing of themselves


# ---------------------------------------------------------------------------- Markdown


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, title above and notes below."""
    rows = [
        [_markdown(table.corner), *(_markdown(column) for column in table.columns)],
        [":--", *("--:" for _ in table.columns)],
        *([_markdown(line.label), *_markdown_entries(table, line)] for line in table.lines),
    ]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    below = "\n".join(f"- {_markdown(note)}" for note in notes(table))
    return f"**{_markdown(table.title)}**\n\n{body}\n" + (f"\n{below}\n" if below else "")


def _markdown_entries(table: Table, line: Line) -> list[str]:
    texts = []
    for entry in line.entries:
        parts = entry_text(entry, table.decimals, signed=line.difference)
        number = _markdown(parts.number)
        if number and parts.best:
            number = f"**{number}**"
        below = [_markdown(parts.interval), f"_{_markdown(parts.note)}_" if parts.note else ""]
        texts.append("<br>".join(part for part in (number, *below) if part))
    return texts


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, also in a table's cell and at the beginning of a line."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", text)
    # a mark of a list or a heading; a signed number is none, as no space follows its sign
    text = re.sub(r"^([-+=])(?![0-9])", r"\\\1", text)
    return re.sub(r"^([0-9]+)([.)])(?=\s|$)", r"\1\\\2", text)


# ---------------------------------------------------------------------------- CSV


def csv(table: Table) -> str:
    """A line of CSV for each entry, headed by `CSV_COLUMNS`; numbers in full precision.

    `kind` is "score" or "difference". An entry without a number has empty `value`, `low` and
    `high`, and says why in `note`. A text that a spreadsheet would take for a formula stands
    behind an apostrophe.
    """
    stream = io.StringIO()
    writer = csv_files.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for line in table.lines:
        for column, entry in zip(table.columns, line.entries, strict=True):
            writer.writerow(
                (
                    _csv(line.label),
                    _csv(column),
                    "difference" if line.difference else "score",
                    *("" if value is None else repr(value) for value in _values(entry)),
                    entry.verdict,
                    entry.holm,
                    "yes" if entry.best and entry.value is not None else "",
                    _csv(entry_text(entry).note),
                )
            )
    return stream.getvalue()


def _values(entry: Entry) -> tuple[float | None, float | None, float | None]:
    if entry.value is None:
        return None, None, None
    return entry.value, entry.low, entry.high


def _csv(text: str) -> str:
    text = one_line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# ---------------------------------------------------------------------------- LaTeX


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
_WIDE = 7  # columns, from which on a table spans both columns of a page, in small type


def latex(table: Table) -> str:
    """A `table` environment for booktabs: `\\input` it; it needs `\\usepackage{booktabs}`.

    Intervals and notes stand in small type below their numbers. A letter that pdfLaTeX has no
    glyph for is written by its code point there, and as it is under LuaLaTeX and XeLaTeX.
    """
    wide = len(table.columns) >= _WIDE
    environment = "table*" if wide else "table"
    lines = [
        f"% {_comment(table.title)}",
        r"% needs \usepackage{booktabs}",
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        *([r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"] if wide else [r"\small"]),
        rf"\caption{{{_latex(table.title)}.}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9-]+', '-', table.name)}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        " & ".join(map(_latex, (table.corner, *table.columns))) + r" \\",
        r"\midrule",
    ]
    for place, line in enumerate(table.lines):
        if place and line.difference and not table.lines[place - 1].difference:
            lines.append(r"\midrule")
        lines += _latex_line(table, line)
    lines += [r"\bottomrule", r"\end{tabular}"]
    below = notes(table)
    if below:
        text = " ".join(f"{_latex(note).rstrip('.')}." for note in below)
        lines += [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {text}}}"]
    return "\n".join([*lines, rf"\end{{{environment}}}"]) + "\n"


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
    return [*(rf"{row} \\" for row in rows), *([r"\addlinespace[2pt]"] if len(rows) > 1 else [])]


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


# ---------------------------------------------------------------------------- terminal, JSON, files


def terminal(table: Table) -> TerminalTable:
    """The table for a terminal, with its notes below."""
    printed = TerminalTable(
        title=Text(one_line(table.title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=Text("\n".join(f"- {note}" for note in notes(table))),
        caption_justify="left",
    )
    printed.add_column(Text(one_line(table.corner)))
    for column in table.columns:
        printed.add_column(Text(one_line(column)), justify="right")
    for line in table.lines:
        cells = []
        for entry in line.entries:
            text = entry_text(entry, table.decimals, signed=line.difference)
            cell = Text(text.number, style="bold" if text.best else "")
            for part in (text.interval, text.note):
                if part:
                    cell.append(f"\n{part}" if cell.plain else part, style="dim")
            cells.append(cell)
        printed.add_row(Text(one_line(line.label)), *cells)
    return printed


def file_json(table: Table) -> str:
    """The table as the text of a JSON file; `typed_json.from_json(Table, …)` reads it back."""
    return json.dumps(to_json(table), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


FORMS: Mapping[str, Callable[[Table], str]] = {
    "md": markdown,
    "csv": csv,
    "tex": latex,
    "json": file_json,
}


def save(table: Table, folder: Path) -> list[Path]:
    """Writes `<name>.md`, `.csv`, `.tex` and `.json` into `folder`, each whole or not at all.

    RequestError where the table's name can be no file's.
    """
    stem = file_name(table.name)
    contents = {folder / f"{stem}.{ending}": form(table) for ending, form in FORMS.items()}
    for path, content in contents.items():
        atomic_write(path, content)
    return list(contents)
