"""A study's table in every form: Markdown, CSV, LaTeX, JSON, and for the terminal.

The forms share one text for a number (`table_text`), so that they cannot disagree; CSV and JSON
have the numbers in full precision.
"""

from __future__ import annotations

import csv as csv_files
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from adapters_xtl.base.files import atomic_write
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.grid.results import Entry, Line, Table, file_name
from adapters_xtl.pages.latex_tables import latex
from adapters_xtl.pages.table_text import entry_text, notes, one_line

__all__ = ["CSV_COLUMNS", "csv", "json_text", "markdown", "rich_table", "save"]

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


# ---------------------------------------------------------------------------- terminal, JSON, files


def rich_table(table: Table) -> RichTable:
    """The table for a terminal, with its notes below."""
    printed = RichTable(
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


def json_text(table: Table) -> str:
    """The table as the text of a JSON file; `typed_json.from_json(Table, …)` reads it back."""
    return json.dumps(to_json(table), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


FORMS: Mapping[str, Callable[[Table], str]] = {
    "md": markdown,
    "csv": csv,
    "tex": latex,
    "json": json_text,
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
