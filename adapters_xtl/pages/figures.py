"""Figures of a study (`grid.results.Figure`) drawn as SVG and PNG, one function for each kind.

`svg` gives the element that a page embeds, `save` writes both files. The same data gives the same
bytes. Where there is no number, the note stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from adapters_xtl.grid.results import Figure, Series, file_name
from adapters_xtl.pages import plot_style
from adapters_xtl.pages.dots import Dot, draw_dots, name_dots, size_keys
from adapters_xtl.pages.heatmaps import draw_heatmap
from adapters_xtl.pages.lying_plots import draw_dumbbells, draw_forest
from adapters_xtl.pages.plot_style import (
    DASHES,
    MARKERS,
    add_legend,
    canvas,
    colours_of,
    ink,
    wrapped,
)
from adapters_xtl.pages.series import categories_of, note_of, points_by_category
from adapters_xtl.pages.table_text import one_line

__all__ = ["save", "svg"]

_BARS_IN_A_ROW = 66  # then the categories go on in a panel below
_ROW_INCHES = 7.0
_LETTERS = 60  # characters that fit side by side below the x axis of curves


def svg(figure: Figure, ids: str = "") -> str:
    """The figure as an `<svg>` element: text as text, transparent, legible on white and on dark.

    Text and lines have the colour of the text around the element. All ids in it begin with `ids`,
    by default the figure's name: a page that shows figures of one name gives each its own.
    """
    return plot_style.svg(
        lambda: _draw(figure),
        name=ids or figure.name,
        title=figure.title,
        description=figure.caption,
    )


def save(figure: Figure, folder: Path) -> list[Path]:
    """Writes `<name>.png` and `<name>.svg` into `folder`, each whole or not at all.

    RequestError where the figure's name can be no file's.
    """
    return plot_style.save_plot(
        lambda: _draw(figure),
        folder,
        name=file_name(figure.name),
        title=figure.title,
        description=figure.caption,
    )


def _draw(figure: Figure) -> Any:
    """The matplotlib figure. One that shows nothing at all says so."""
    on_axes = figure.kind in ("curve", "scatter")  # a point without a number has no place there
    points = [point for series in figure.series for point in series.points]
    shown = [point for point in points if point.y is not None] if on_axes else points
    if shown or (figure.table and figure.table.lines):
        return _DRAWN[figure.kind](figure)
    drawn = canvas(6.0, 1.2, title=figure.title, caption=_caption(figure))
    panel = drawn.subplots()
    panel.axis("off")
    panel.text(0.5, 0.5, "nothing to show", ha="center", va="center", transform=panel.transAxes)
    return drawn


def _caption(figure: Figure) -> str:
    """The caption, and below it the points that have no number, where nothing else shows them."""
    missing = [
        f"{one_line(series.name)} at {point.x}: {note_of(point)}"
        for series in figure.series
        for point in series.points
        if point.y is None
    ]
    lines = [figure.caption, f"Not shown: {'; '.join(missing)}." if missing else ""]
    return "\n".join(line for line in lines if line)


def _inconclusive_key() -> Any:
    from matplotlib.patches import Patch

    return Patch(
        facecolor="none", edgecolor=ink(), hatch="////", linewidth=0.6, label="inconclusive"
    )


# ---------------------------------------------------------------------------- bars


def _bars(figure: Figure) -> Any:
    """Bars side by side for each category; many categories go on in further rows of panels."""
    from matplotlib.patches import Patch

    categories = categories_of(figure)
    many = max(len(figure.series), 1)
    in_a_row = max(1, min(len(categories), _BARS_IN_A_ROW // many))
    rows = max(1, math.ceil(len(categories) / in_a_row))
    in_a_row = max(1, math.ceil(len(categories) / rows))  # rows of equal length
    longest = max((len(name) for name in categories), default=0)
    slot = max(0.13 * many + 0.08, 0.2)
    for_names = 0.075 * longest + 0.03
    if for_names * in_a_row <= _ROW_INCHES:  # there is room to write the names straight
        slot = max(slot, for_names)
    slanted = for_names > slot
    drawn = canvas(
        max(5.0, slot * in_a_row + 2.6),
        rows * (2.2 + (0.06 * longest if slanted else 0)) + 0.8,
        title=figure.title,
        caption=figure.caption,
    )
    panels = drawn.subplots(rows, 1, squeeze=False, sharey=True).ravel()
    colours = colours_of([series.name for series in figure.series])
    for row, panel in enumerate(panels):
        shown = categories[row * in_a_row : (row + 1) * in_a_row]
        for number, series in enumerate(figure.series):
            shift = (number - (many - 1) / 2) * 0.8 / many
            _draw_bars(panel, series, shown, shift, 0.8 / many, colours[series.name])
        panel.set_xticks(range(len(shown)), [one_line(name) for name in shown])
        panel.set_xlim(-0.6, in_a_row - 0.4)
        panel.tick_params(axis="x", length=0)
        panel.grid(axis="x", visible=False)
        panel.axhline(0, color=ink(), linewidth=0.8)
        panel.set_ylabel(wrapped(figure.y_label, 2.0))
        if slanted:
            for label in panel.get_xticklabels():
                label.set(rotation=40, ha="right", rotation_mode="anchor")
    panels[-1].set_xlabel(figure.x_label)
    handles = [Patch(facecolor=colour, label=one_line(name)) for name, colour in colours.items()]
    handles = handles if many > 1 else []
    if any(point.verdict == "inconclusive" for series in figure.series for point in series.points):
        handles.append(_inconclusive_key())
    add_legend(drawn, handles)
    return drawn


def _draw_bars(
    panel: Any,
    series: Series,
    categories: Sequence[str],
    shift: float,
    width: float,
    colour: str,
) -> None:
    points = points_by_category(series)
    for place, category in enumerate(categories):
        point = points.get(category)
        if point is None:
            continue
        x = place + shift
        if point.y is None:
            panel.text(
                x, 0, f" {note_of(point)}", rotation=90, fontsize=6.5, ha="center", va="bottom"
            )
            continue
        open_bar = point.verdict == "inconclusive"
        panel.bar(
            x,
            point.y,
            width * 0.92,
            facecolor=(colour, 0.25) if open_bar else colour,
            edgecolor=colour,
            hatch="//////" if open_bar else None,
            linewidth=0.6,
        )
        if point.low is not None and point.high is not None:
            panel.plot([x, x], [point.low, point.high], color=ink(), linewidth=1.0)


# ---------------------------------------------------------------------------- curves


def _curves(figure: Figure) -> Any:
    """Lines with a band from low to high."""
    from matplotlib.ticker import MaxNLocator

    drawn = canvas(7.4, 3.6, title=figure.title, caption=_caption(figure))
    panel = drawn.subplots()
    colours = colours_of([series.name for series in figure.series])
    handles = []
    for number, series in enumerate(figure.series):
        points = sorted(
            ((float(point.x), point) for point in series.points if point.y is not None),
            key=lambda x_and_point: x_and_point[0],
        )
        if not points:
            continue
        colour = colours[series.name]
        xs = [x for x, _ in points]
        banded = [
            (x, point.low, point.high)
            for x, point in points
            if point.low is not None and point.high is not None
        ]
        if banded:
            places, lows, highs = zip(*banded, strict=True)
            panel.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
        few = len(points) <= 25
        (line,) = panel.plot(
            xs,
            [point.y for _, point in points],
            color=colour,
            linewidth=1.4,
            linestyle=DASHES[number // len(plot_style.COLOURS) % len(DASHES)],
            marker=MARKERS[number % len(MARKERS)] if few else None,
            markersize=4,
            label=one_line(series.name),
        )
        handles.append(line)
    panel.set_xlabel(figure.x_label)
    panel.set_ylabel(wrapped(figure.y_label, 2.8))
    shown = [point for series in figure.series for point in series.points if point.y is not None]
    marks = sorted({float(point.x) for point in shown})
    if all(map(float.is_integer, marks)):
        names = [f"{x:.0f}" for x in marks]
        gaps = [after - before for before, after in pairwise(marks)]
        if gaps and min(gaps) * _LETTERS >= sum(gaps) * (1 + max(map(len, names))):
            panel.set_xticks(marks, names)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(drawn, handles if len(figure.series) > 1 else [])
    return drawn


# ---------------------------------------------------------------------------- scatter


def _scatter(figure: Figure) -> Any:
    """A dot for each point with its note beside it; its area stands for bytes."""
    from matplotlib.lines import Line2D

    colours = colours_of([series.name for series in figure.series])
    marker_of = {
        series.name: MARKERS[number % len(MARKERS)] for number, series in enumerate(figure.series)
    }
    dots = [
        Dot(
            x=float(point.x),
            y=point.y,
            low=point.low,
            high=point.high,
            area=point.area,
            name=one_line(point.note),
            colour=colours[series.name],
            marker=marker_of[series.name],
        )
        for series in figure.series
        for point in series.points
        if point.y is not None
    ]
    drawn = canvas(7.6, 4.4, title=figure.title, caption=_caption(figure))
    panel = drawn.subplots()
    panel.set_xlabel(figure.x_label)
    panel.set_ylabel(wrapped(figure.y_label, 3.6))
    add_legend(
        drawn,
        [
            Line2D(
                [],
                [],
                linestyle="",
                marker=marker_of[name],
                markersize=5,
                color=colour,
                label=one_line(name),
            )
            for name, colour in colours.items()
        ],
        handletextpad=1.6,
    )
    if dots:
        largest = max(dot.area for dot in dots)
        draw_dots(panel, dots, largest)
        if largest:
            add_legend(
                drawn,
                size_keys(largest),
                loc="outside right lower",
                labelspacing=2.5,
                borderpad=1.4,
                handletextpad=2.2,
                title="bytes of the files\n",
            )
        drawn.draw_without_rendering()
        name_dots(panel, dots)
    return drawn


_DRAWN: Mapping[str, Callable[[Figure], Any]] = {
    "heatmap": draw_heatmap,
    "bars": _bars,
    "curve": _curves,
    "forest": draw_forest,
    "dumbbell": draw_dumbbells,
    "scatter": _scatter,
}
