"""Markdown as text: tables, headings and their anchors, fenced blocks, links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Block", "blocks", "code", "number", "paragraphs", "table", "without_blocks"]

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)\s*$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block of a page: the language named at its fence ("" for none), its text, the line
    of the page at which the text starts.
    """

    language: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for match in _FENCE.finditer(text):
        yield Block(match["language"], match["text"], text.count("\n", 0, match.start("text")) + 1)


def without_blocks(text: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", text)


def code(value: object) -> str:
    """The value as inline code, fit for a cell of a table."""
    text = str(value).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, a line a row. Bars inside cells must be escaped already (`code` does it)."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def number(value: object) -> str:
    """A number as it is typed: 1e-5, 0.06, 128. Other values as they are."""
    if not isinstance(value, float):
        return str(value)
    if not 0 < abs(value) < 0.01:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def paragraphs(docstring: str | None) -> str:
    """A docstring as paragraphs, a line each."""
    parts = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)
