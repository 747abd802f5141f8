"""Methods against full fine-tuning: the study behind `xtl compare`."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl import methods
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Line, Table
from adapters_xtl.grid.study import Answer, Contrast, Study

__all__ = ["STUDY"]


class Methods(Study):
    title = "Methods against full fine-tuning"
    question = (
        "How far is a small module on a frozen encoder from full fine-tuning of it, at what cost in"
        " memory, bytes and seconds?"
    )
    axes = (
        Axis("task", ("xnli",)),
        Axis("on", ("none",)),
        Axis("method", methods.COMPARED),
    )
    evidence_for = (
        "differences between methods on these tasks, with these settings, on this backbone",
    )
    no_evidence = (
        "what a method can reach with more tuning: every method gets the same number of trials",
    )

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Each method against full fine-tuning of the same task on the same parents."""
        contrasts = []
        points = {cell.point for cell in cells}
        for cell in cells:
            point = dict(cell.point)
            against = {**point, "method": methods.REFERENCE}
            if cell.variant.method != methods.REFERENCE and tuple(against.items()) in points:
                on = f" on {'>'.join(cell.chain)}" if cell.chain else ""
                name = f"{cell.variant} against {methods.REFERENCE}, {cell.task}{on}"
                contrasts.append(Contrast(name, point, against))
        return tuple(contrasts)

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """Scores: tasks and parents down, methods across."""
        columns = finished.axis("method")
        lines = []
        for task in finished.axis("task"):
            for on in finished.axis("on"):
                points = [{"task": task, "on": on, "method": method} for method in columns]
                if any(finished.at(point) for point in points):
                    label = task if on == "none" else f"{task} on {on}"
                    lines.append(Line(label, tuple(finished.score(point) for point in points)))
        return (Table("scores", "Scores by method", "task", columns, tuple(lines)),)

    def answer(self, finished: FinishedCells) -> Answer | None:
        return finished.summary_of_contrasts(self.no_evidence)


STUDY = Methods()
