"""Plots that lie on their side, a line for each category: forest plots and dumbbells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters_xtl.grid.results import Entry, Figure, Point
from adapters_xtl.pages.plot_style import MARKERS, add_legend, canvas, colours_of, ink
from adapters_xtl.pages.series import categories_of, note_of, points_by_category
from adapters_xtl.pages.table_text import entry_text, is_inconclusive, one_line

__all__ = ["draw_dumbbells", "draw_forest"]


def draw_forest(figure: Figure) -> Any:
    """A line for each point, on its side: its interval, 0 marked, and its numbers at the right."""
    from matplotlib.lines import Line2D

    colours = colours_of([series.name for series in figure.series])
    lines = [
        (category, series, points[category])
        for category in categories_of(figure)
        for series in figure.series
        if category in (points := points_by_category(series))
    ]
    names = [one_line(category) for category, _, _ in lines]
    places = _places(names, gap=0.5 if len(colours) > 1 else 0.0)
    height = places[-1] if places else 0.0
    drawn = canvas(
        4.8 + 0.075 * max(map(len, names), default=0) + 1.6,
        0.25 * height + 1.4,
        title=figure.title,
        caption=figure.caption,
    )
    panel = drawn.subplots()
    limits = _forest_limits([point for _, _, point in lines])
    panel.set_xlim(limits)
    panel.set_ylim(height + 0.6, -0.6)
    panel.axvline(0, color=ink(), linewidth=1.0)
    panel.grid(axis="y", visible=False)
    panel.spines["left"].set_visible(False)
    for place, (_, series, point) in zip(places, lines, strict=True):
        _draw_forest_line(panel, place, point, colours[series.name], limits)
        panel.annotate(
            _forest_text(point),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
        )
    first = [number for number, name in enumerate(names) if names[number - 1 : number] != [name]]
    panel.set_yticks([places[number] for number in first], [names[number] for number in first])
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(figure.y_label)
    panel.set_ylabel(figure.x_label)
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, label=one_line(name))
        for name, colour in colours.items()
        if len(colours) > 1
    ]
    if any(is_inconclusive(_entry(point), difference=True) for _, _, point in lines):
        handles.append(
            Line2D(
                [],
                [],
                color=ink(),
                marker="o",
                markersize=4.5,
                markerfacecolor="none",
                linestyle="--",
                label="inconclusive",
            )
        )
    add_legend(drawn, handles)
    return drawn


def _places(names: Sequence[str], gap: float) -> list[float]:
    """Where the lines stand, from the top: 1 apart, and `gap` more where the name changes."""
    places: list[float] = []
    for number, name in enumerate(names):
        changes = number > 0 and names[number - 1] != name
        places.append(places[-1] + 1 + gap * changes if places else 0.0)
    return places


def _forest_limits(points: Sequence[Point]) -> tuple[float, float]:
    """From where to where the axis goes: over 0, all means, and all intervals unless some are
    several times as wide as most.
    """
    means = [point.y for point in points if point.y is not None]
    intervals = [
        (point.low, point.high)
        for point in points
        if point.low is not None and point.high is not None
    ]
    widths = sorted(high - low for low, high in intervals)
    usual = 3 * widths[len(widths) // 2] if widths else 0.0
    shown = [end for low, high in intervals if high - low <= usual for end in (low, high)]
    low, high = min([*means, *shown, 0.0]), max([*means, *shown, 0.0])
    room = max(0.06 * (high - low), 0.1)
    return low - room, high + room


def _draw_forest_line(
    panel: Any, place: float, point: Point, colour: str, limits: tuple[float, float]
) -> None:
    if point.y is None:
        return
    open_dot = is_inconclusive(_entry(point), difference=True)
    if point.low is not None and point.high is not None:
        panel.plot(
            [max(point.low, limits[0]), min(point.high, limits[1])],
            [place, place],
            color=colour,
            linewidth=1.3,
            linestyle="--" if open_dot else "-",
        )
        # an interval that goes on beyond the axis ends in an arrow
        for beyond, end, mark in (
            (point.low < limits[0], limits[0], "<"),
            (point.high > limits[1], limits[1], ">"),
        ):
            if beyond:
                panel.plot([end], [place], marker=mark, color=colour, markersize=5, clip_on=False)
    panel.plot(
        [point.y],
        [place],
        marker="o",
        markersize=5.5,
        color=colour,
        markerfacecolor="none" if open_dot else colour,
        clip_on=False,
    )


def _forest_text(point: Point) -> str:
    if point.y is None:
        return note_of(point)
    return "  ".join(entry_text(_entry(point), signed=True).lines)


def _entry(point: Point) -> Entry:
    return Entry(point.y, point.low, point.high, point.verdict, note=point.note)


# ---------------------------------------------------------------------------- dumbbells


def draw_dumbbells(figure: Figure) -> Any:
    """Two or more series over the same categories, on their side, joined by a line."""
    from matplotlib.lines import Line2D

    categories = categories_of(figure)
    colours = colours_of([series.name for series in figure.series])
    longest = max((len(category) for category in categories), default=0)
    drawn = canvas(
        5.4 + 0.075 * longest + 1.2,
        0.25 * len(categories) + 1.1,
        title=figure.title,
        caption=figure.caption,
    )
    panel = drawn.subplots()
    points = {series.name: points_by_category(series) for series in figure.series}
    for place, category in enumerate(categories):
        here = [points[series.name].get(category) for series in figure.series]
        values = [point.y for point in here if point is not None and point.y is not None]
        if values:
            panel.plot(
                [min(values), max(values)],
                [place, place],
                color=ink(),
                alpha=0.45,
                linewidth=2.2,
                zorder=1,
                solid_capstyle="round",
            )
        missing = [note_of(point) for point in here if point is not None and point.y is None]
        if missing:
            panel.annotate(
                ", ".join(dict.fromkeys(missing)),
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=7.5,
            )
        for number, (series, point) in enumerate(zip(figure.series, here, strict=True)):
            if point is None or point.y is None:
                continue
            colour = colours[series.name]
            open_dot = point.verdict == "inconclusive"
            if point.low is not None and point.high is not None:
                panel.plot(
                    [point.low, point.high], [place, place], color=colour, linewidth=0.9, alpha=0.7
                )
            panel.plot(
                [point.y],
                [place],
                marker=MARKERS[number % len(MARKERS)],
                markersize=6,
                color=colour,
                markerfacecolor="none" if open_dot else colour,
                linestyle="",
            )
    panel.set_yticks(range(len(categories)), [one_line(name) for name in categories])
    panel.set_ylim(len(categories) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", visible=False)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel(figure.y_label)
    panel.set_ylabel(figure.x_label)
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=MARKERS[number % len(MARKERS)],
            markersize=6,
            color=colours[series.name],
            label=one_line(series.name),
        )
        for number, series in enumerate(figure.series)
    ]
    add_legend(drawn, handles)
    return drawn
