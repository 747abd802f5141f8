"""A comparison as a picture: score against measured peak memory, the area of a dot its bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl import methods as known_methods
from adapters_xtl.base.files import atomic_write
from adapters_xtl.pages.comparison_tables import size

__all__ = ["comparison", "scatter"]

# Okabe and Ito 2008: told apart by colour-blind readers too
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LARGEST = 1200.0  # area of the largest dot, in square points
_GIB = 2**30


def comparison(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws a comparison's rows into `folder`. The caption says what they are no evidence for."""
    caption = [f"Bars: {record['level']:.0%} t-intervals over seeds."]
    if record["device"] == "cpu":
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
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["peak_memory_bytes"] and row["stored_bytes"]]
    if not shown:
        return []
    names = list(dict.fromkeys(row["task"] for row in shown))
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    largest = max(row["stored_bytes"] for row in shown)
    methods = list(dict.fromkeys(row["method"] for row in shown))
    spare = iter(_OTHERS * len(methods))
    colours = {method: _colour(method) or next(spare) for method in methods}
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "adapters_xtl",
            "font.size": 9,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(
            figsize=(max(7.2, 4.6 * columns), 4.3 * lines + 1.1), dpi=150, layout="constrained"
        )
        FigureCanvasAgg(figure)
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            _panel(panel, [row for row in shown if row["task"] == name], name, colours, largest)
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        keys = _colour_keys(colours, any(row["parents"] for row in shown))
        figure.legend(
            handles=keys,
            loc="outside right upper",
            frameon=False,
            title="method",
            alignment="left",
            handletextpad=1.6,
        )
        figure.legend(
            handles=_size_keys(largest),
            loc="outside right center",
            frameon=False,
            labelspacing=2.0,
            borderpad=1.4,
            handletextpad=2.2,
            title="bytes of the module's\nand head's files\n",
            alignment="left",
        )
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        text = "\n".join(
            textwrap.fill(line, round(figure.get_figwidth() * 19)) for line in caption.splitlines()
        )
        figure.supxlabel(text, fontsize=7.5, x=0.01, ha="left", color="#444444")
        # settles the layout, so that labels can be kept off each other
        figure.draw_without_rendering()
        for panel, name in zip(panels, names, strict=False):
            _label(panel, [row for row in shown if row["task"] == name], colours)
        files = [folder / "memory.png", folder / "memory.svg"]
        for file in files:
            kind = file.suffix.removeprefix(".")
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {})
            atomic_write(file, stream.getvalue())
    return files


def _area(stored: float, largest: float) -> float:
    """Square points of a dot, proportional to the bytes that it stands for."""
    return _LARGEST * stored / largest


def _panel(
    panel: Any,
    rows: Sequence[Mapping[str, Any]],
    name: str,
    colours: Mapping[str, str],
    largest: float,
) -> None:
    heights = [row["score"]["mean"] for row in rows]
    memory = [row["peak_memory_bytes"] / _GIB for row in rows]
    spread = max(max(heights) - min(heights), 1.0)
    # the dots decide what is shown: two seeds alone give intervals of tens of points
    low, high = max(0.0, min(heights) - 0.9 * spread), min(100.0, max(heights) + 0.9 * spread)
    low, high = (low, max(high, low + 1.0))
    width = max(max(memory) - min(memory), 0.1 * max(memory))
    panel.set_xlim(max(0.0, min(memory) - 0.55 * width), max(memory) + 0.55 * width)
    panel.set_ylim(low, high)
    for row, x, y in zip(rows, memory, heights, strict=True):
        colour, bounds = colours[row["method"]], row["score"]["interval"]
        if bounds:
            panel.plot(
                [x, x],
                bounds,
                color=colour,
                linewidth=0.9,
                alpha=0.55,
                zorder=2,
                solid_capstyle="butt",
            )
        panel.scatter(
            [x],
            [y],
            s=_area(row["stored_bytes"], largest),
            color=colour,
            alpha=0.28,
            linewidths=0,
            zorder=3,
        )
        panel.scatter([x], [y], s=13, color=colour, marker="D" if row["parents"] else "o", zorder=4)
    metric, split = rows[0]["metric"], rows[0]["split"]
    panel.set_title(name, loc="left", fontsize=10)
    panel.set_xlabel("measured peak memory in training (GiB)")
    panel.set_ylabel(f"{metric}, {split} (0-100)")


def _name(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    several = len({other["bits"] for other in rows if other["method"] == row["method"]}) > 1
    bits = f" {row['bits']}-bit" if several else ""
    return f"{row['method']}{bits}{' on ' + '>'.join(row['parents']) if row['parents'] else ''}"


def _label(panel: Any, rows: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> None:
    """Names every dot beside it, where the name covers no other dot and no other name; far ones get
    a thin line.
    """
    size, scale = 7.5, panel.figure.dpi / 72
    dots = [
        panel.transData.transform((row["peak_memory_bytes"] / _GIB, row["score"]["mean"])) / scale
        for row in rows
    ]
    frame = panel.get_window_extent()
    inside = (frame.x0 / scale, frame.y0 / scale, frame.x1 / scale, frame.y1 / scale)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for row, (x, y) in sorted(
        zip(rows, dots, strict=True), key=lambda row_and_dot: -row_and_dot[1][1]
    ):
        text = _name(row, rows)
        width = 0.52 * size * len(text)
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
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": "#888888", "shrinkA": 0, "shrinkB": 2}
        panel.annotate(
            text,
            (row["peak_memory_bytes"] / _GIB, row["score"]["mean"]),
            xytext=(dx, dy),
            va="center",
            ha="left" if dx > 0 else "right",
            textcoords="offset points",
            fontsize=size,
            zorder=5,
            color=colours[row["method"]],
            annotation_clip=False,
            arrowprops=line if abs(dx) + abs(dy) > 12 else None,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes (left, low, right, high) share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, up)


def _colour_keys(colours: Mapping[str, str], parents: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=method)
        for method, colour in colours.items()
    ]
    diamond = Line2D(
        [], [], marker="D", linestyle="", markersize=4, color="#000000", label="with parents"
    )
    return [*keys, diamond] if parents else keys


def _size_keys(largest: float) -> list[Any]:
    """Two dots of known size: the largest, and a round number well below it."""
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
            markersize=math.sqrt(_area(stored_bytes, largest)),
            color="#888888",
            alpha=0.4,
            markeredgewidth=0,
            label=size(stored_bytes),
        )
        for stored_bytes in dict.fromkeys(sizes)
    ]


def _colour(method: str) -> str:
    """The colour that a method has in every plot; "" where it has none of its own."""
    return known_methods.load(method).colour if method in known_methods.names() else ""
