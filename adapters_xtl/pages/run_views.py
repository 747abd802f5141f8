"""A run's scores as a notebook shows them: tables, and a plot of the languages."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.jupyter import JupyterMixin

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.extras import need
from adapters_xtl.base.files import atomic_write, explained_os_errors
from adapters_xtl.pages import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ScorePlot", "ScoreTable"]

_BLUE, _GREY = "#0072B2", "#999999"  # Okabe and Ito 2008


class ScoreTable(JupyterMixin):
    """The scores of a run, a table for each task: a notebook renders them, `str` is plain text.

    `rows` holds the numbers: one dict for each task and language, with "task", "split", "language"
    and the metrics (0 to 100) and "n", the number of examples; it makes a pandas.DataFrame.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self._metrics = metrics

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [
            {"task": task, "split": entry["split"], "language": language, **scores}
            for task, entry in self._metrics["tasks"].items()
            for language, scores in entry["languages"].items()
        ]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield from tables.result(self._metrics)
        if not self._metrics["tasks"]:
            yield "nothing was scored"

    def __str__(self) -> str:
        stream = io.StringIO()
        Console(file=stream, width=120).print(self, highlight=False, markup=False)
        return stream.getvalue()

    __repr__ = __str__


class ScorePlot:
    """Bars of a run's headline scores by language, the mean as a line; a notebook shows it.

    `figure` is the matplotlib Figure; `save(path)` writes a .png, .svg or .pdf file. RequestError
    where matplotlib is not installed.
    """

    def __init__(self, metrics: Mapping[str, Any], title: str) -> None:
        if not metrics["tasks"]:
            raise RunError(f"{title}: nothing was scored, so there is nothing to plot")
        need("a plot", "matplotlib")
        self.figure = _bars(metrics["tasks"], title)

    def save(self, path: str | Path) -> Path:
        """Writes the plot, whole or not at all; RunError where it cannot be written."""
        file = Path(path)
        kind = file.suffix.removeprefix(".").lower()
        if kind not in ("png", "svg", "pdf"):
            raise RunError(f"{file}: a plot is written as .png, .svg or .pdf")
        with explained_os_errors(file):
            atomic_write(file, self._bytes(kind))
        return file

    def _bytes(self, kind: str) -> bytes:
        stream = io.BytesIO()
        self.figure.savefig(stream, format=kind)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        return self._bytes("png")


def _bars(by_task: Mapping[str, Any], title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    most = max(len(entry["languages"]) for entry in by_task.values())
    figure = Figure(
        figsize=(max(4.0, 0.45 * most + 1.6), 2.6 * len(by_task) + 0.5),
        dpi=110,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    panels = figure.subplots(len(by_task), 1, squeeze=False).ravel()
    for panel, (task, entry) in zip(panels, by_task.items(), strict=True):
        metric = entry["metric"]
        scores = {code: scores[metric] for code, scores in entry["languages"].items()}
        panel.bar(list(scores), list(scores.values()), color=_BLUE, width=0.7)
        for number, value in enumerate(scores.values()):
            panel.annotate(f"{value:.1f}", (number, value), ha="center", va="bottom", fontsize=7)
        if len(scores) > 1:
            panel.axhline(entry["score"], color=_GREY, linewidth=1, linestyle="--")
        panel.set_ylim(0, 108)
        panel.set_ylabel(f"{metric} (0-100)", fontsize=8)
        marked = ", these rows also chose the checkpoint" if entry.get("selected_on") else ""
        panel.set_title(f"{task} · {entry['split']}{marked}", loc="left", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    return figure
