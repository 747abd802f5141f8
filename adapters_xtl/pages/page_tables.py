"""Tables and figures of studies as parts of the page; amounts as the page writes them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from adapters_xtl.base.errors import RequestError
from adapters_xtl.grid.results import Entry, Figure, Table
from adapters_xtl.pages import figures
from adapters_xtl.pages.comparison_tables import size
from adapters_xtl.pages.page_parts import Cell, Column, Grid, Plot, Row, Text
from adapters_xtl.pages.table_text import entry_text, is_inconclusive, notes, one_line

__all__ = ["Cost", "amount", "anchor", "cost_table", "plot", "table"]

_POINTS_TO_PIXELS = 4 / 3
_MARKS = "▲ higher, ▼ lower: the interval of the difference excludes 0"


def anchor(*names: str) -> str:
    """An id on the page out of names: letters, digits and hyphens."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "x" for name in names)


def table(content: Table, *, prefix: str = "") -> Grid:
    """A study's table. Its numbers are the text that every other form of the table has."""
    differences = any(line.difference for line in content.lines)
    signs = any(
        entry.verdict in ("higher", "lower") for line in content.lines for entry in line.entries
    )
    return Grid(
        name=anchor(prefix, "table", content.name),
        title=one_line(content.title),
        columns=tuple(
            Column(one_line(heading), numeric=bool(place))
            for place, heading in enumerate((content.corner, *content.columns))
        ),
        rows=tuple(
            Row(
                Cell(one_line(line.label)),
                tuple(
                    _cell(entry, content.decimals, signed=line.difference) for entry in line.entries
                ),
                pinned=differences
                and not line.difference,  # the scores that the others differ from
            )
            for line in content.lines
        ),
        notes=(*notes(content), *([_MARKS] if signs else [])),
    )


def _cell(entry: Entry, decimals: int, *, signed: bool) -> Cell:
    text = entry_text(entry, decimals, signed=signed)
    if not text.number:
        return Cell("–", note=text.note)
    return Cell(
        text=text.number,
        value=entry.value,
        interval=text.interval,
        note=text.note,
        verdict="inconclusive" if is_inconclusive(entry, difference=signed) else entry.verdict,
        best=text.best,
    )


def plot(figure: Figure, *, prefix: str = "") -> Plot | Text:
    """A figure drawn for the page, which writes its title and caption itself; a sentence in its
    place where it cannot be drawn.
    """
    name = anchor(prefix, "figure", figure.name)
    try:
        element = figures.svg(replace(figure, title="", caption=""), ids=name)
    except RequestError as error:
        return Text((f"{one_line(figure.title)}: {error}",), tone="note")
    words = f"<title>{html.escape(figure.title)}</title>"
    words += f"<desc>{html.escape(figure.caption)}</desc>" if figure.caption else ""
    element = element.replace("<title></title>", words, 1)
    width = re.search(r'\bwidth="([0-9.]+)pt"', element)
    return Plot(
        name=name,
        title=one_line(figure.title),
        svg=element,
        width=round(float(width[1]) * _POINTS_TO_PIXELS) if width else 800,
        caption=figure.caption,
    )


# ---------------------------------------------------------------------------- costs


@dataclass(frozen=True)
class Cost:
    """What a setting's training took, a mean over its seeds; None where it was not measured.

    label        the setting, with its task
    seeds        how many trainings it is the mean of
    gpu          the training ran on a GPU
    stack_bytes  of the module's files and of those below it
    """

    label: str
    seeds: int
    gpu: bool
    seconds: float | None = None
    examples_per_second: float | None = None
    joules: float | None = None
    peak_bytes: float | None = None
    parameters: float | None = None
    stored_bytes: float | None = None
    stack_bytes: float | None = None


def cost_table(costs: Iterable[Cost], *, name: str, title: str = "Cost of training") -> Grid | None:
    """Seconds, GPU-hours, energy, memory and bytes, a row a setting; columns that no row has
    anything in are left out. None without a row.
    """
    rows = list(costs)
    if not rows:
        return None
    columns: list[tuple[str, Sequence[tuple[float | None, str]]]] = [
        ("seeds", [(float(cost.seeds), str(cost.seeds)) for cost in rows]),
        ("seconds", [_shown(cost.seconds, _seconds) for cost in rows]),
        (
            "GPU-hours",
            [
                _shown(cost.seconds if cost.gpu else None, lambda s: amount(s / 3600))
                for cost in rows
            ],
        ),
        ("joules", [_shown(cost.joules, amount) for cost in rows]),
        ("examples per second", [_shown(cost.examples_per_second, amount) for cost in rows]),
        ("peak memory", [_shown(cost.peak_bytes, lambda b: size(b, binary=True)) for cost in rows]),
        ("trained parameters", [_shown(cost.parameters, amount) for cost in rows]),
        ("bytes of the module", [_shown(cost.stored_bytes, size) for cost in rows]),
        ("bytes of the stack", [_shown(cost.stack_bytes, size) for cost in rows]),
    ]
    kept = [
        (heading, cells)
        for heading, cells in columns
        if any(value is not None for value, _ in cells)
    ]
    dropped = {heading for heading, _ in columns} - {heading for heading, _ in kept}
    remarks = ["Means over the seeds; a setting's own training only, not that of its parents."]
    if "GPU-hours" in dropped:
        remarks.append("No GPU-hours: nothing was trained on a GPU.")
    if "joules" in dropped:
        remarks.append("No joules: no device reported its energy.")
    return Grid(
        name=name,
        title=title,
        columns=(Column("setting", numeric=False), *(Column(heading) for heading, _ in kept)),
        rows=tuple(
            Row(
                Cell(cost.label),
                tuple(Cell(cells[place][1], cells[place][0]) for _, cells in kept),
            )
            for place, cost in enumerate(rows)
        ),
        notes=tuple(remarks),
    )


def _shown(value: float | None, text: object) -> tuple[float | None, str]:
    return (None, "–") if value is None else (float(value), text(value))  # type: ignore[operator]


def _seconds(value: float) -> str:
    return amount(value)


def amount(value: float) -> str:
    """A number with three digits or more, thousands with commas: `0.0123`, `1.5`, `12,345`."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
