"""How much do more steps help? Each budget against the smallest."""

from __future__ import annotations

from collections.abc import Sequence

from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Figure, Line, Point, Series, Table
from adapters_xtl.grid.study import Answer, Contrast, Study

STEPS = "train.max_steps"  # an axis named as a setting sets it for the cell's training


class Budget(Study):
    title = "Steps of training"
    question = "How much does a module gain from more steps?"
    axes = (Axis("task", ("pawsx",)), Axis("method", ("lora",)), Axis(STEPS, ("100", "200")))
    evidence_for = ("these budgets, with the learning rate of the recipe",)

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        points = [dict(cell.point) for cell in cells]
        smallest = min((point[STEPS] for point in points), key=int)
        return tuple(
            Contrast(f"{point[STEPS]} steps, {point['task']}", point, {**point, STEPS: smallest})
            for point in points
            if point[STEPS] != smallest
        )

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        lines = [
            Line(
                f"{task}, {method}",
                tuple(
                    finished.score({"task": task, "method": method, STEPS: steps})
                    for steps in finished.axis(STEPS)
                ),
            )
            for task in finished.axis("task")
            for method in finished.axis("method")
        ]
        table = Table("budget", self.title, "steps", finished.axis(STEPS), tuple(lines))
        return (finished.finish_table(table),)

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        (table,) = self.tables(finished)
        series = [
            Series(
                line.label,
                tuple(
                    Point(float(steps), entry.value, entry.low, entry.high, note=entry.note)
                    for steps, entry in zip(table.columns, line.entries, strict=True)
                ),
            )
            for line in table.lines
        ]
        return (Figure("budget", "curve", self.title, "steps", "score", series=tuple(series)),)

    def answer(self, finished: FinishedCells) -> Answer | None:
        return finished.summary_of_contrasts(self.no_evidence)


STUDY = Budget()
