"""A table as a heat map: numbers in the cells, hatched where inconclusive, grey without a number.

Differences are coloured around 0 (brown below, green above: ColorBrewer's BrBG, which colour-blind
readers can tell apart), scores from light to dark. In a table with both, the scores have no colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xtl.grid.results import Figure, Table
from adapters_xtl.pages.plot_style import MOST_INCHES, canvas, ink
from adapters_xtl.pages.table_text import EntryText, broken, entry_text, is_inconclusive, one_line

__all__ = ["draw_heatmap"]

_CELL = (0.8, 0.46)  # inches, with an interval below the number
_SMALL_CELL = (0.56, 0.32)  # without
_INTERVALS_TO = 12  # columns up to which there is room for intervals
_NO_NUMBER = "#D9D9D9"
_NO_COLOUR = "none"  # of scores beside differences
_STEPS = 49  # colours of a scale: an odd number, so that 0 has one
_GAP = 0.02  # between two cells, as part of a cell
_CHARACTER = 0.6  # width of a character in its font size
_DARK = 0.19  # luminance below which white text contrasts more than black
_LABEL_SIZE = 9  # points
_LABEL_LENGTH = 18  # characters of a line's label, after which it is broken


def draw_heatmap(figure: Figure) -> Any:
    """The matplotlib figure of a heat map's table; without one the panel is empty."""
    table = figure.table or Table(figure.name, figure.title, "", (), ())
    texts = [
        [entry_text(entry, table.decimals, signed=line.difference) for entry in line.entries]
        for line in table.lines
    ]
    intervals = len(table.columns) <= _INTERVALS_TO and any(
        text.interval for line in texts for text in line
    )
    cell_width, cell_height = _CELL if intervals else _SMALL_CELL
    labels = [broken(one_line(line.label), _LABEL_LENGTH) for line in table.lines]
    widest = max((len(part) for label in labels for part in label.split("\n")), default=0)
    beside = 0.09 * widest + 2.2  # inches of labels and the scale of colours
    columns = [one_line(column) for column in table.columns]
    cell_width = min(cell_width, (MOST_INCHES - beside) / max(len(columns), 1))
    fitting = int(0.95 * 72 * cell_width / (_CHARACTER * _LABEL_SIZE))
    in_lines = [broken(column, fitting) for column in columns]
    slanted = any(len(part) > fitting for column in in_lines for part in column.split("\n"))
    columns = columns if slanted else in_lines
    longest = max(map(len, columns), default=0)
    deepest = max((column.count("\n") + 1 for column in columns), default=1)
    above = 0.065 * longest + 0.3 if slanted else 0.16 * deepest + 0.2
    drawn = canvas(
        cell_width * len(columns) + beside,
        cell_height * len(labels) + above + 1.0,
        title=figure.title,
        caption=figure.caption,
    )
    panel = drawn.subplots()
    colours = _Colours(table)
    for row, (line, line_texts) in enumerate(zip(table.lines, texts, strict=True)):
        for place, (entry, text) in enumerate(zip(line.entries, line_texts, strict=True)):
            face = colours.of(entry.value, line.difference)
            hatched = is_inconclusive(entry, difference=line.difference)
            parts = _cell_texts(text, 72 * cell_width, interval=intervals)
            _draw_cell(panel, place, row, text, parts, face, hatched=hatched)
    _label_axes(panel, columns, labels, slanted=slanted)
    panel.set_xlabel(figure.x_label)
    panel.set_ylabel(figure.y_label)
    if colours.differences or colours.scores:
        colours.add_bar(drawn, panel)
    _add_keys(panel, table, room=cell_width * len(columns) + 0.09 * widest)
    return drawn


class _Colours:
    """The colours of a table's cells, and the scale that explains them."""

    def __init__(self, table: Table) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import Normalize

        numbers = [
            (line.difference, entry.value)
            for line in table.lines
            for entry in line.entries
            if entry.value is not None
        ]
        self.differences = any(difference for difference, _ in numbers)
        self.scores = any(not difference for difference, _ in numbers)
        shown = [value for difference, value in numbers if difference == self.differences]
        if self.differences:
            high = _limit([abs(value) for value in shown])
            low = -high
            self.map = colormaps["BrBG"].resampled(_STEPS)
        else:
            low, high = min(shown, default=0.0), max(shown, default=1.0)
            room = max(0.05 * (high - low), 0.5)
            low, high = low - room, high + room
            self.map = colormaps["GnBu"].resampled(_STEPS)
        self.scale = Normalize(low, high, clip=True)
        self.beyond = (any(value < low for value in shown), any(value > high for value in shown))

    def of(self, value: float | None, difference: bool) -> str:
        """The colour of a cell with this value, as #rrggbb."""
        from matplotlib.colors import to_hex

        if value is None:
            return _NO_NUMBER
        if difference != self.differences:
            return _NO_COLOUR
        return to_hex(self.map(self.scale(value)))

    def add_bar(self, drawn: Any, panel: Any) -> None:
        from matplotlib.cm import ScalarMappable

        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
        bar = drawn.colorbar(
            ScalarMappable(self.scale, self.map),
            ax=panel,
            fraction=0.04,
            pad=0.02,
            aspect=22,
            shrink=0.9,
            extend=extend.get(self.beyond, "both"),
        )
        bar.set_label("difference (points)" if self.differences else "score (0-100)", fontsize=8)
        bar.solids.set(edgecolor="face", rasterized=False)  # no seams, and no picture in an SVG
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5)


def _limit(sizes: Sequence[float]) -> float:
    """The size of difference at which the colours end: the largest one, unless a few lie far beyond
    the others. They then have the last colour, so that the others can be told apart.
    """
    if not sizes:
        return 1.0
    ordered = sorted(sizes)
    three_quarters = ordered[math.ceil(0.75 * len(ordered)) - 1]
    return max(0.5, min(ordered[-1], 3 * three_quarters) or ordered[-1])


@dataclass(frozen=True)
class _CellText:
    """Text in a cell: its size in points, and how far it stands below the middle, in cells."""

    text: str
    size: float
    below: float = 0.0


def _cell_texts(text: EntryText, width: float, *, interval: bool) -> list[_CellText]:
    """What stands in a cell `width` points wide, as large as there is room for."""
    below = text.interval or text.note
    if not text.number:
        note = text.note if _size(text.note, 7.0, width) >= 5.0 else text.note.replace(" ", "\n")
        return [_CellText(note, _size(note, 7.0, width))]
    if not (interval and below):
        return [_CellText(text.number, _size(text.number, 8.5, width))]
    return [
        _CellText(text.number, _size(text.number, 8.5, width), -0.16),
        _CellText(below, _size(below, 5.6, width), 0.24),
    ]


def _size(text: str, size: float, width: float) -> float:
    """The size in points at which a text fits into `width` points: `size` at most, 3.5 at least."""
    longest = max(map(len, text.split("\n")))
    return round(max(min(size, 0.95 * width / (_CHARACTER * max(longest, 1))), 3.5), 2)


def _draw_cell(
    panel: Any,
    x: int,
    y: int,
    text: EntryText,
    parts: Sequence[_CellText],
    face: str,
    *,
    hatched: bool,
) -> None:
    from matplotlib.patches import Rectangle

    dark = face != _NO_COLOUR and _luminance(face) < _DARK
    on_cell = ink() if face == _NO_COLOUR else "#FFFFFF" if dark else "#111111"
    half = 0.5 - _GAP
    cell = panel.add_patch(
        Rectangle(
            (x - half, y - half),
            2 * half,
            2 * half,
            facecolor=face,
            edgecolor=_hatch_colour(face) if hatched else face,
            hatch="////" if hatched else None,
            linewidth=0,
        )
    )
    cell.set_in_layout(False)  # the panel's frame is all that the layout needs
    if not text.number:
        for end in (half, -half):
            panel.plot([x - half, x + half], [y - end, y + end], color="#B0B0B0", linewidth=0.6)
    for part in parts:
        panel.text(
            x,
            y + part.below,
            part.text,
            ha="center",
            va="center",
            color=on_cell,
            fontsize=part.size,
            fontweight="bold" if text.best and part is parts[0] else "normal",
            bbox={"facecolor": face, "edgecolor": "none", "pad": 0.8},
        ).set_in_layout(False)


def _hatch_colour(face: str) -> str:
    """Lines that can be seen on a cell without drowning its number."""
    luminance = _luminance(face)
    return "#B0B0B0" if luminance < _DARK else "#444444" if luminance < 0.5 else "#8C8C8C"


def _label_axes(
    panel: Any, columns: Sequence[str], labels: Sequence[str], *, slanted: bool
) -> None:
    panel.set_xlim(-0.5, max(len(columns), 1) - 0.5)
    panel.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    panel.set_xticks(range(len(columns)), columns, fontsize=_LABEL_SIZE)
    panel.set_yticks(range(len(labels)), labels, fontsize=_LABEL_SIZE)
    panel.xaxis.tick_top()
    panel.xaxis.set_label_position("top")
    panel.tick_params(length=0, pad=3)
    if slanted:
        for label in panel.get_xticklabels():
            label.set(rotation=40, ha="left", rotation_mode="anchor")
    panel.grid(False)
    panel.spines[:].set_visible(False)


def _add_keys(panel: Any, table: Table, *, room: float) -> None:
    """What hatching, grey, the star and the ring mean, where they occur; in two rows where one is
    wider than `room` inches.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = [entry for line in table.lines for entry in line.entries]
    numbers = [entry for entry in entries if entry.value is not None]
    keys: list[Any] = []
    if any(
        is_inconclusive(entry, difference=line.difference)
        for line in table.lines
        for entry in line.entries
    ):
        keys.append(
            Patch(facecolor="#F5F5F5", edgecolor="#8C8C8C", hatch="////", label="inconclusive")
        )
    if len(numbers) < len(entries):
        keys.append(Patch(facecolor=_NO_NUMBER, label="no number"))
    marks = []
    if any(entry.holm in ("higher", "lower") for entry in numbers):
        marks.append("*  significant after Holm's correction")
    if any(entry.verdict == "equivalent" for entry in numbers):
        marks.append("°  within the margin")
    keys += [Line2D([], [], linestyle="", label=mark) for mark in marks]
    if keys:
        width = sum(0.06 * len(str(key.get_label())) + 0.4 for key in keys)
        panel.legend(
            handles=keys,
            loc="upper right",
            bbox_to_anchor=(1.0, -0.01),
            borderaxespad=0.0,
            frameon=False,
            fontsize=7.5,
            ncols=len(keys) if width <= room else math.ceil(len(keys) / 2),
            handlelength=1.6,
            columnspacing=1.2,
            labelcolor=ink(),
        )


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1 (WCAG 2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
