"""A comparison as a picture: score against measured peak memory, the area of a dot its bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.pages.dots import Dot, draw_dots, name_dots, size_keys
from adapters_xtl.pages.plot_style import canvas, colours_of, ink, save_plot

__all__ = ["comparison", "scatter"]

_GIB = 2**30
SCORES = (0.0, 100.0)


def comparison(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws a comparison's rows into `folder`. The caption says what they are no evidence for."""
    caption = [f"Bars: {record['level']:.0%} t-intervals over seeds."]
    if record["device"] != "cuda":
        caption.append("Peak memory is that of a run's whole process, libraries included.")
    caption += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in record["no_evidence"]]
    return scatter(record["rows"], folder, title=record["title"], caption="\n".join(caption))


def scatter(
    rows: Sequence[Mapping[str, Any]], folder: Path, *, title: str, caption: str
) -> list[Path]:
    """Writes `memory.png` and `memory.svg`, a panel a task; [] when no row has both a score and a
    peak memory.

    A dot's area is proportional to the files' bytes, a bar is the t-interval over seeds (cut off at
    the panel's edge).
    """
    shown = [row for row in rows if row["peak_memory_bytes"] and row["stored_bytes"]]
    if not shown:
        return []

    def draw() -> Any:
        return _panels(shown, title, caption)

    return save_plot(draw, folder, name="memory", title=title, description=caption)


def _panels(rows: Sequence[Mapping[str, Any]], title: str, caption: str) -> Any:
    names = list(dict.fromkeys(row["task"] for row in rows))
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    largest = max(row["stored_bytes"] for row in rows)
    colours = colours_of([row["method"] for row in rows])
    figure = canvas(max(7.2, 4.6 * columns), 4.3 * lines + 0.7, title=title, caption=caption)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    dots_of_panel = []
    for panel, name in zip(panels, names, strict=False):
        rows_of_task = [row for row in rows if row["task"] == name]
        dots = [_dot(row, rows_of_task, colours) for row in rows_of_task]
        draw_dots(panel, dots, largest, limits=SCORES)
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("measured peak memory in training (GiB)")
        panel.set_ylabel(f"{rows_of_task[0]['metric']}, {rows_of_task[0]['split']} (0-100)")
        dots_of_panel.append((panel, dots))
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.legend(
        handles=_colour_keys(colours, any(row["parents"] for row in rows)),
        loc="outside right upper",
        frameon=False,
        title="method",
        alignment="left",
        handletextpad=1.6,
    )
    figure.legend(
        handles=size_keys(largest),
        loc="outside right center",
        frameon=False,
        labelspacing=2.5,
        borderpad=1.4,
        handletextpad=2.2,
        title="bytes of the module's\nand head's files\n",
        alignment="left",
    )
    figure.draw_without_rendering()
    for panel, dots in dots_of_panel:
        name_dots(panel, dots)
    return figure


def _dot(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], colours: Mapping[str, str]
) -> Dot:
    low, high = row["score"]["interval"] or (None, None)
    return Dot(
        x=row["peak_memory_bytes"] / _GIB,
        y=row["score"]["mean"],
        low=low,
        high=high,
        area=row["stored_bytes"],
        name=_name(row, rows),
        colour=colours[row["method"]],
        marker="D" if row["parents"] else "o",
    )


def _name(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    several = len({other["bits"] for other in rows if other["method"] == row["method"]}) > 1
    bits = f" {row['bits']}-bit" if several else ""
    return f"{row['method']}{bits}{' on ' + '>'.join(row['parents']) if row['parents'] else ''}"


def _colour_keys(colours: Mapping[str, str], parents: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=method)
        for method, colour in colours.items()
    ]
    diamond = Line2D(
        [], [], marker="D", linestyle="", markersize=4, color=ink(), label="with parents"
    )
    return [*keys, diamond] if parents else keys
