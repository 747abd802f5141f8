"""A study's record for people: its tables and its answer, on a terminal and in a notebook."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters_xtl.base.typed_json import from_json
from adapters_xtl.grid.results import Table as StudyTable
from adapters_xtl.pages import comparison_tables, study_tables

__all__ = ["answer_lines", "mimebundle", "shown"]

MOST_LINES = 10  # of an answer


def shown(record: Mapping[str, Any]) -> list[Table | str]:
    """The tables, but for those by language, the answer, the notes and what failed."""
    lines: list[Table | str] = [record["title"]]
    for table in record["tables"]:
        if not table["name"].startswith("languages-"):
            lines.append(study_tables.rich_table(from_json(StudyTable, table)))
    lines += answer_lines(record)
    lines += [f"- {note}" for note in record["notes"] if note not in record["no_evidence"]]
    lines += [f"failed: {comparison_tables.failed(failure)}" for failure in record["failed"]]
    return lines


def answer_lines(record: Mapping[str, Any]) -> list[str]:
    """What a finished study says, in at most ten lines; the last one counts the limits left out."""
    answer = record["answer"]
    lines = [f"question: {record['question']}"]
    if answer is None:
        return [*lines, "answer: none: it has no contrast of two finished cells"]
    lines += [f"answer: {answer['headline']}", f"verdict: {answer['verdict']}"]
    if answer["exception"]:
        lines.append(f"strongest exception: {answer['exception']}")
    limits = record["evidence"]["not_for"]
    # what the rows or the backbone are no evidence for is a whole sentence
    whole = record["no_evidence"]
    lines += [limit if limit in whole else f"no evidence for: {limit}" for limit in limits]
    if (cut := len(lines) - MOST_LINES) > 0:
        left_out = cut + 1  # the last line says so
        lines[MOST_LINES - 1 :] = [f"{left_out} more limits: see the study's page (xtl page)"]
    return lines


def mimebundle(record: Mapping[str, Any]) -> dict[str, str]:
    """The same for a notebook: plain text and HTML."""
    console = Console(file=io.StringIO(), record=True, width=120)
    for line in shown(record):
        console.print(line, highlight=False, markup=False)
    return {
        "text/plain": console.export_text(clear=False),
        "text/html": console.export_html(inline_styles=True, code_format="<pre>{code}</pre>"),
    }
