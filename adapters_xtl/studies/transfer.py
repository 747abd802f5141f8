"""The matrix of Phang et al. 2020 (arXiv 2005.13013): intermediate tasks × target tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters_xtl import tasks
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Figure, Line, Table
from adapters_xtl.grid.study import Answer, Contrast, Study

__all__ = ["STUDY"]

INTERMEDIATE = (
    "none",
    "anli",
    "mnli",
    "qqp",
    "squad2",
    "squad1",
    "hellaswag",
    "ccg",
    "cosmosqa",
    "csqa",
    "multi",
)
TARGETS = (
    "xnli",
    "pawsx",
    "udpos",
    "panx",
    "xquad",
    "mlqa",
    "tydiqa",
    "bucc",
    "tatoeba",
)
# groups of tasks of which the tables show averages, and when a task belongs to them
AVERAGES: Mapping[str, Callable[[str], bool]] = {
    "mean": lambda task: True,
    "mean without retrieval": lambda task: tasks.load(task).group != "retrieval",
    "mean of retrieval": lambda task: tasks.load(task).group == "retrieval",
}


class Transfer(Study):
    title = "Intermediate-task transfer"
    question = (
        "Does training on an English intermediate task first improve the zero-shot scores of a"
        " target task in other languages?"
    )
    axes = (
        Axis("task", TARGETS),
        Axis("on", INTERMEDIATE),
        Axis("method", ("lora",)),
    )
    evidence_for = (
        "the gain of each intermediate task over none, on this backbone, at this budget, with"
        " English training alone",
    )
    no_evidence = (
        "languages that are not scored, and targets trained in other languages than English",
        "the intermediate task as the cause of a gain, with compose = stack: a stack has more"
        " parameters than one module (the control is an untrained parent, on = random)",
    )

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Each intermediate task against none; a method's matrix is one family."""
        points = {cell.point for cell in cells}
        contrasts = []
        for cell in cells:
            point = dict(cell.point)
            against = {**point, "on": "none"}
            if cell.chain and tuple(against.items()) in points:
                name = f"{point['on']} against none, {cell.task}, {cell.variant}"
                contrasts.append(Contrast(name, point, against, family=str(cell.variant)))
        return tuple(contrasts)

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """For each method the matrix in the paper's form, and one table a target by language."""
        tables = []
        for method in finished.axis("method"):
            tables.append(self._matrix(finished, method))
        for method in finished.axis("method"):
            for task in finished.axis("task"):
                tables += self._by_language(finished, method, task)
        return tuple(tables)

    def _matrix(self, finished: FinishedCells, method: str) -> Table:
        """Rows intermediate tasks, columns targets. The first row, none, has scores, and the others
        differences to it; where the study has no such row, all have scores.
        """
        targets, rows = finished.axis("task"), finished.axis("on")
        has_baseline = "none" in rows
        groups = {
            name: members
            for name, belongs in AVERAGES.items()
            if len(members := [task for task in targets if belongs(task)]) > 1
            and (name == "mean" or 1 < len(members) < len(targets))
        }
        lines = []
        for on in sorted(rows, key=lambda on: on != "none"):  # the baseline first
            is_baseline = on == "none" or not has_baseline
            entries = []
            for task in targets:
                point = {"task": task, "on": on, "method": method}
                entries.append(
                    finished.score(point)
                    if is_baseline
                    else finished.difference(point, {**point, "on": "none"})
                )
            for members in groups.values():
                points = [{"task": task, "on": on, "method": method} for task in members]
                entries.append(
                    finished.mean_score(points)
                    if is_baseline
                    else finished.mean_difference(
                        points, [{**point, "on": "none"} for point in points]
                    )
                )
            lines.append(Line(on, tuple(entries), difference=not is_baseline))
        return finished.finish_table(
            Table(
                f"transfer-{method.replace('@', '-')}",
                f"Gain of an intermediate task over none, {method}"
                if has_baseline
                else f"Scores after intermediate tasks, {method}",
                "intermediate \\ target",
                (*targets, *groups),
                tuple(lines),
            )
        )

    def _by_language(self, finished: FinishedCells, method: str, task: str) -> list[Table]:
        rows = sorted(finished.axis("on"), key=lambda on: on != "none")
        points = {on: {"task": task, "on": on, "method": method} for on in rows}
        languages = finished.languages(list(points.values()))
        if len(languages) < 2:
            return []
        lines = []
        for on, point in points.items():
            is_baseline = on == "none" or "none" not in rows
            entries = tuple(
                finished.language_score(point, language)
                if is_baseline
                else finished.language_difference(point, {**point, "on": "none"}, language)
                for language in languages
            )
            lines.append(Line(on, entries, difference=not is_baseline))
        return [
            finished.finish_table(
                Table(
                    f"languages-{task}-{method.replace('@', '-')}",
                    f"{task} by language, {method}",
                    "intermediate \\ language",
                    languages,
                    tuple(lines),
                )
            )
        ]

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """A heat map of the differences for each method."""
        figures = []
        for method in finished.axis("method"):
            matrix = self._matrix(finished, method)
            gains = [line for line in matrix.lines if line.difference]
            if gains:
                table = Table(
                    matrix.name, matrix.title, matrix.corner, matrix.columns, tuple(gains)
                )
                figures.append(
                    Figure(
                        f"heatmap-{method.replace('@', '-')}",
                        "heatmap",
                        matrix.title,
                        "target",
                        "intermediate",
                        table,
                        caption=(
                            "Points gained over the same target without an intermediate task."
                            " Hatched: the interval over seeds includes 0, or there is one seed."
                        ),
                    )
                )
        return tuple(figures)

    def answer(self, finished: FinishedCells) -> Answer | None:
        return finished.summary_of_contrasts(self.no_evidence)


STUDY = Transfer()
