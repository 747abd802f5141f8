"""The series of a figure read by category."""

from __future__ import annotations

from adapters_xtl.grid.results import Figure, Point, Series
from adapters_xtl.pages.table_text import NO_NUMBER, one_line

__all__ = ["categories_of", "note_of", "points_by_category"]


def categories_of(figure: Figure) -> list[str]:
    """The categories of all series, in the order in which they come up."""
    return list(dict.fromkeys(str(point.x) for series in figure.series for point in series.points))


def points_by_category(series: Series) -> dict[str, Point]:
    """Category → the point of the series."""
    return {str(point.x): point for point in series.points}


def note_of(point: Point) -> str:
    """What stands in the place of a number."""
    return one_line(point.note) or NO_NUMBER
