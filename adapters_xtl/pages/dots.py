"""Dots in a panel: an area that stands for bytes, an interval, and a name that covers no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters_xtl.pages.comparison_tables import size
from adapters_xtl.pages.plot_style import ink

__all__ = ["Dot", "draw_dots", "name_dots", "size_keys"]

_LARGEST = 1200.0  # area of the largest dot, in square points
_NAME_SIZE = 7.5  # points


@dataclass(frozen=True)
class Dot:
    """A dot at (x, y). `area`: what its area stands for, 0 for none; `name`: written beside it."""

    x: float
    y: float
    low: float | None
    high: float | None
    area: float
    name: str
    colour: str
    marker: str = "o"


def draw_dots(
    panel: Any,
    dots: Sequence[Dot],
    largest: float,
    *,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    """Draws the dots and their intervals. The dots decide what is shown: two seeds alone give
    intervals of tens of points, which are cut off at the panel's edge.

    `largest` is the area of the figure's largest dot, `limits` the range that y can have.
    """
    heights, places = [dot.y for dot in dots], [dot.x for dot in dots]
    spread = max(max(heights) - min(heights), 1.0)
    width = max(max(places) - min(places), 0.1 * max(map(abs, places))) or 1.0
    left = min(places) - 0.55 * width
    # bytes, seconds and the like are never below 0, differences are
    panel.set_xlim(max(0.0, left) if min(places) >= 0 else left, max(places) + 0.55 * width)
    panel.set_ylim(
        max(limits[0], min(heights) - 0.9 * spread), min(limits[1], max(heights) + 0.9 * spread)
    )
    for dot in dots:
        if dot.low is not None and dot.high is not None:
            panel.plot(
                [dot.x, dot.x],
                [dot.low, dot.high],
                color=dot.colour,
                linewidth=0.9,
                alpha=0.55,
                zorder=2,
                solid_capstyle="butt",
            )
        if dot.area:
            panel.scatter(
                [dot.x],
                [dot.y],
                s=_area(dot.area, largest),
                color=dot.colour,
                alpha=0.28,
                linewidths=0,
                zorder=3,
            )
        panel.scatter([dot.x], [dot.y], s=14, color=dot.colour, marker=dot.marker, zorder=4)


def _area(amount: float, largest: float) -> float:
    """Square points of a dot, proportional to the bytes that it stands for."""
    return _LARGEST * amount / largest


def name_dots(panel: Any, dots: Sequence[Dot]) -> None:
    """Names every dot beside it, where the name covers no other dot and no other name; far ones get
    a thin line. The figure's layout must be settled (`draw_without_rendering`).
    """
    scale = panel.figure.dpi / 72
    centres = [panel.transData.transform((dot.x, dot.y)) / scale for dot in dots]
    frame = panel.get_window_extent()
    inside = (frame.x0 / scale, frame.y0 / scale, frame.x1 / scale, frame.y1 / scale)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in centres]
    named = [(dot, centre) for dot, centre in zip(dots, centres, strict=True) if dot.name]
    for dot, (x, y) in sorted(named, key=lambda dot_and_centre: -dot_and_centre[1][1]):
        width = 0.58 * _NAME_SIZE * len(dot.name)
        best, cost = (9, 0), math.inf
        for dx, dy in (
            (dx, dy) for dy in (0, 11, -11, 22, -22, 33, -33, 44, -44) for dx in (9, -9, 28, -28)
        ):
            left = x + dx if dx > 0 else x + dx - width
            box = (left, y + dy - 5, left + width, y + dy + 5)
            covered = sum(_overlap(box, other) for other in taken)
            outside = width * 10 - _overlap(box, inside)
            candidate_cost = (
                10 * covered + 10 * outside + abs(dy) + 2 * (abs(dx) > 9) * abs(dx) + 0.1 * (dx < 0)
            )
            if candidate_cost < cost:
                best, cost, best_box = (dx, dy), candidate_cost, box
        taken.append(best_box)
        dx, dy = best
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": ink(), "shrinkA": 0, "shrinkB": 2}
        panel.annotate(
            dot.name,
            (dot.x, dot.y),
            xytext=(dx, dy),
            va="center",
            ha="left" if dx > 0 else "right",
            textcoords="offset points",
            fontsize=_NAME_SIZE,
            zorder=5,
            color=dot.colour,
            annotation_clip=False,
            arrowprops=line if abs(dx) + abs(dy) > 12 else None,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes (left, low, right, high) share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, up)


def size_keys(largest: float) -> list[Any]:
    """Legend entries of known size: the largest dot, and round numbers of bytes well below it."""
    from matplotlib.lines import Line2D

    sizes = [largest]
    for part in (0.2, 0.05):
        exponent = math.floor(math.log10(largest * part))
        sizes.append(round(largest * part / 10**exponent) * 10**exponent)
    return [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            markersize=math.sqrt(_area(amount, largest)),
            color=ink(),
            alpha=0.4,
            markeredgewidth=0,
            label=size(amount),
        )
        for amount in dict.fromkeys(sizes)
    ]
