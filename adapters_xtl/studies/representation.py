"""What intermediate training does to representations: which features of a text they follow, layer
by layer, before and after (Metric-Learning Encoding Models, arXiv 2402.11608).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from adapters_xtl.base.errors import Problems
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.planning.compositions import RANDOM
from adapters_xtl.representation.analysis import FORMS, RepresentationAnalysis
from adapters_xtl.representation.features import TOGETHER
from adapters_xtl.representation.record import EncoderResult, RepresentationRecord
from adapters_xtl.representation.similarity import DISTANCES
from adapters_xtl.studies._representation_numbers import Numbers
from adapters_xtl.studies._representation_tables import (
    CORRECTED,
    MAIN,
    UNITS,
    comparisons_of,
    control_table,
    file_label,
    group_title,
    importance_of,
    importance_tables,
    language_against_retrieval,
    rows_note,
    tables_by_layer,
)

__all__ = ["STUDY"]


class Representation(Study):
    title = "What intermediate training does to representations"
    question = (
        "Which features of parallel texts (language, script, topic …) tell how far apart their"
        " representations lie, and does language tell less of it where training has improved"
        " retrieval?"
    )
    axes = (
        Axis("task", ("tatoeba",)),
        Axis("on", ("none", "mnli", "pawsx", "mnli>pawsx")),
        Axis("method", ("lora",)),
        Axis("items", ("xnli",)),
        Axis("form", FORMS[:1]),
    )
    evidence_for = (
        "which of the named features predict the distances between the states of held-out texts,"
        " layer by layer, and how training changes that, on this backbone and these rows",
    )
    no_evidence = (
        "what a model answers by: a feature can predict the distances between states without"
        " causing any prediction",
        "features that were not fitted, and which of several correlated features counts: they share"
        " their weight",
        "causes: where language tells less and retrieval is better, neither is shown to bring about"
        " the other",
    )
    to_know = (
        "the texts are split once into those that fit the distances and those that are held out:"
        " intervals over seeds do not cover that choice, intervals over items do",
    )

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cell with the analysis of its encoder on the parallel rows of the axis `items`."""
        analysis = RepresentationAnalysis(point["items"], form=point["form"])
        return tuple(
            replace(cell, analysis=analysis) for cell in super().cell(point, bits, problems)
        )

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Differences of retrieval scores, the same whatever the items: each once."""
        points = [dict(cell.point) for cell in cells]
        first = points[0]["items"], points[0]["form"]
        return tuple(
            Contrast(
                f"{comparison.name}, {comparison.of['task']}", comparison.of, comparison.against
            )
            for comparison in comparisons_of(
                [point for point in points if (point["items"], point["form"]) == first]
            )
        )

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """Language against retrieval, the controls, and layer by layer: how well the features fit,
        alignment, importances and their changes.
        """
        numbers = Numbers(finished)
        tables: list[Table] = []
        for points in _groups(finished):
            record = _any_record(numbers, points)
            if record is None:
                continue
            rows = rows_note(record)
            group = [
                self._language_and_retrieval(numbers, points, record),
                control_table(numbers, points, record),
                *tables_by_layer(numbers, points, record),
            ]
            for distance in DISTANCES:
                group += importance_tables(numbers, points, record, distance)
            tables += [
                replace(
                    table,
                    title=f"{table.title} · {group_title(points)}",
                    notes=(*table.notes, rows),
                )
                for table in group
            ]
        return tuple(tables)

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """Heat maps of importances and of their changes; language against retrieval by layer."""
        numbers = Numbers(finished)
        figures = []
        for points in _groups(finished):
            record = _any_record(numbers, points)
            if record is None:
                continue
            for table in importance_tables(numbers, points, record, MAIN):
                changes = table.lines[0].difference
                if any(entry.value is not None for line in table.lines for entry in line.entries):
                    caption = f"{UNITS}; {CORRECTED}."
                    if changes:
                        caption += " Hatched: the interval over seeds includes 0, or one seed."
                    figures.append(
                        Figure(
                            f"heatmap-{table.name}",
                            "heatmap",
                            f"{table.title} · {group_title(points)}",
                            "layer",
                            "feature",
                            table,
                            caption=f"{caption[0].upper()}{caption[1:]}",
                        )
                    )
            figures.append(language_against_retrieval(numbers, points, record))
        return tuple(figures)

    def _language_and_retrieval(
        self, numbers: Numbers, points: Sequence[Mapping[str, str]], record: RepresentationRecord
    ) -> Table:
        """The change of language's importance at the layer that retrieval pools, beside that of
        retrieval.
        """
        layer = record.retrieval_layer
        comparisons = comparisons_of(points)
        columns: list[tuple[str, list[Entry]]] = []
        for distance in DISTANCES:
            columns.append(
                (
                    f"language, {distance}",
                    numbers.primary(comparisons, importance_of(distance, TOGETHER, layer)),
                )
            )
            columns.append(
                (
                    f"language, {distance}, over items",
                    [
                        numbers.over_items(comparison, _replicates(distance, TOGETHER, layer))
                        for comparison in comparisons
                    ],
                )
            )
        columns.append(
            (
                f"{points[0]['task']} score",
                [
                    numbers.finished.mean_difference([comparison.of], [comparison.against])
                    for comparison in comparisons
                ],
            )
        )
        retrieved = [numbers.primary(comparisons, lambda encoder: encoder.retrieval[layer])]
        columns.append(("retrieval of the items", retrieved[0]))
        lines = [
            Line(comparison.name, tuple(entries[number] for _, entries in columns), difference=True)
            for number, comparison in enumerate(comparisons)
        ]
        return Table(
            f"language-and-retrieval-{file_label(points)}",
            f"Importance of {TOGETHER} and retrieval, layer {layer} of {record.layers}",
            "change",
            tuple(name for name, _ in columns),
            tuple(lines),
            (
                UNITS,
                "over items: means and percentile intervals of a paired bootstrap of the held-out"
                " items, each drawn in all its languages, for the mean of the seeds",
                f"equivalent where an interval lies within ±{self.margin:g} points; Holm's"
                " correction goes over the lines of a column",
                CORRECTED,
            ),
        )

    def answer(self, finished: FinishedCells) -> Answer | None:
        numbers = Numbers(finished)
        for points in _groups(finished):
            record = _any_record(numbers, points)
            comparisons = comparisons_of(points)
            if record is None or not comparisons:
                continue
            table = self._language_and_retrieval(numbers, points, record)
            measured = [line for line in table.lines if line.entries[0].value is not None]
            if not measured:
                continue
            # an untrained module is a control, and no answer where anything was trained
            control = f"{RANDOM} "
            measured = [line for line in measured if not line.label.startswith(control)] or measured
            main = measured[0]
            change, score = main.entries[0], main.entries[2 * len(DISTANCES)]
            headline = (
                f"{main.label}: importance of {TOGETHER} at layer {record.retrieval_layer}"
                f" {_text(change)} points of 100·ρ; {points[0]['task']} score {_text(score)}"
            )
            others = [
                line
                for line in measured[1:]
                if (line.entries[0].value or 0.0) * (change.value or 0.0) < 0
            ]
            others.sort(key=lambda line: -abs(line.entries[0].value or 0.0))
            exception = f"{others[0].label}: {_text(others[0].entries[0])} points" if others else ""
            return Answer(headline, change.verdict or "inconclusive", exception, self.no_evidence)
        return None


def _text(entry: Entry) -> str:
    if entry.value is None:
        return entry.note or "not measured"
    if entry.low is None or entry.high is None:
        return f"{entry.value:+.2f} ({entry.note or 'no interval'})"
    return f"{entry.value:+.2f} [{entry.low:+.2f}, {entry.high:+.2f}]"


def _groups(finished: FinishedCells) -> list[list[dict[str, str]]]:
    """The points of the grid that differ in `on` alone: lists of them."""
    groups = []
    shared_axes = [axis for axis in finished.grid.axes if axis.name != "on"]
    for values in itertools.product(*(finished.axis(axis.name) for axis in shared_axes)):
        shared = dict(zip((axis.name for axis in shared_axes), values, strict=True))
        points = [{**shared, "on": on} for on in finished.axis("on")]
        points = [point for point in points if finished.at(point) is not None]
        if points:
            groups.append(points)
    return groups


def _any_record(
    numbers: Numbers, points: Sequence[Mapping[str, str]]
) -> RepresentationRecord | None:
    """An analysis of the group; what all of them share is read off it."""
    return next((record for point in points for record in numbers.records(point).values()), None)


def _replicates(
    distance: str, feature: str, layer: int
) -> Callable[[EncoderResult], Sequence[float]]:
    return lambda encoder: encoder.distances[distance].replicates[feature][layer]


STUDY = Representation()
