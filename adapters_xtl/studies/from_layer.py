"""From which layer up modules are worth having: score, seconds, memory and bytes against the lowest
layer that gets one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from adapters_xtl.base.errors import Problems
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.runs.records import TrainingCost

__all__ = ["STUDY"]

MIB = 2**20
# what a training took: table → (title, number of one run, decimals)
COSTS: Mapping[str, tuple[str, Callable[[TrainingCost], float], int]] = {
    "seconds": (
        "Seconds of training, without those in which states were computed",
        lambda cost: cost.seconds - (cost.prefix.seconds if cost.prefix else 0.0),
        1,
    ),
    "memory": (
        "Peak memory of the training, MiB",
        lambda cost: cost.measured_peak_bytes / MIB,
        0,
    ),
    "module": ("Files of module and head, MiB", lambda cost: cost.stored_bytes / MIB, 2),
    "states": (
        "States of the training's texts, MiB",
        lambda cost: cost.prefix.bytes / MIB if cost.prefix else 0.0,
        1,
    ),
}


class FromLayer(Study):
    title = "Modules in the upper layers only"
    question = (
        "What do score, seconds, memory and bytes come to when only the layers from k up get a"
        " module, and the states below are computed once?"
    )
    axes = (
        Axis("task", ("mnli", "panx", "squad1")),
        Axis("method", ("lora",)),
        Axis("layer", ("0", "6", "12", "18")),
    )
    complete_axes = ("task", "layer")
    evidence_for = (
        "the difference of each k to modules in every layer, with equal rows, steps and settings",
    )
    no_evidence = (
        "every k at its best learning rate: the rate is the same for all, and fewer modules may"
        " need another",
        "seconds and memory on another machine, or on this one while it does other work",
        "retrieval: it reads a middle layer, which modules above it do not change",
    )

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cell of a point, with its lowest layer."""
        layer = parse_whole(point["layer"])
        if layer is None:
            problems.add(f"[axes] layer: {point['layer']}: takes whole numbers from 0 on")
            return ()
        return tuple(
            replace(cell, from_layer=layer) for cell in super().cell(point, bits, problems)
        )

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Each k against modules in every layer; those of one method are one family."""
        points = {cell.point for cell in cells}
        contrasts = []
        for cell in cells:
            point = dict(cell.point)
            against = {**point, "layer": "0"}
            if point["layer"] != "0" and tuple(against.items()) in points:
                name = (
                    f"from layer {point['layer']} against every layer, {cell.task}, {cell.variant}"
                )
                contrasts.append(Contrast(name, point, against, family=str(cell.variant)))
        return tuple(contrasts)

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """Scores, differences to k = 0, and what the trainings took."""
        layers = _layers(finished)
        columns = tuple(f"k={layer}" for layer in layers)
        places = _places(finished)
        scores = [
            Line(_label(place), tuple(map(finished.score, _points(place, layers))))
            for place in places
        ]
        tables = [
            Table(
                "scores",
                "Score against the lowest layer with a module",
                "training",
                columns,
                tuple(scores),
            )
        ]
        if "0" in layers and len(layers) > 1:
            later = [layer for layer in layers if layer != "0"]
            differences = [
                Line(
                    _label(place),
                    tuple(
                        finished.difference(point, {**place, "layer": "0"})
                        for point in _points(place, later)
                    ),
                    difference=True,
                )
                for place in places
            ]
            tables.append(
                Table(
                    "differences",
                    "Difference to modules in every layer",
                    "training",
                    tuple(f"k={layer}" for layer in later),
                    tuple(differences),
                    (f"paired over the seeds; {finished.verdict_rule()}; {finished.holm_rule()}",),
                )
            )
        for name, (title, number, decimals) in COSTS.items():
            lines = [
                Line(
                    _label(place),
                    tuple(_cost(finished, point, number) for point in _points(place, layers)),
                )
                for place in places
            ]
            tables.append(
                Table(
                    name, title, "training", columns, tuple(lines), ("means over seeds",), decimals
                )
            )
        tables.append(self._computing(finished, places, layers, columns))
        return tuple(tables)

    def _computing(
        self,
        finished: FinishedCells,
        places: Sequence[Mapping[str, str]],
        layers: Sequence[str],
        columns: tuple[str, ...],
    ) -> Table:
        """The seconds that the first of the runs with the same texts spent on their states."""
        lines = []
        for place in places:
            entries = []
            for point in _points(place, layers):
                seconds = [
                    cost.prefix.seconds if cost.prefix else 0.0 for cost in _costs(finished, point)
                ]
                note = "" if seconds else finished.score(point).note
                entries.append(Entry(max(seconds) if seconds else None, note=note))
            lines.append(Line(_label(place), tuple(entries)))
        return Table(
            "computing",
            "Seconds in which states were computed, once for all runs that share texts and k",
            "training",
            columns,
            tuple(lines),
            ("of the run that computed most; 0 where the cache had them all",),
        )

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """Score and seconds against k, a line for each task and method."""
        layers = _layers(finished)
        scores, seconds = [], []
        for place in _places(finished):
            points = _points(place, layers)
            entries = [finished.score(point) for point in points]
            scores.append(
                Series(
                    _label(place),
                    tuple(
                        Point(float(layer), entry.value, entry.low, entry.high, note=entry.note)
                        for layer, entry in zip(layers, entries, strict=True)
                    ),
                )
            )
            times = [_cost(finished, point, COSTS["seconds"][1]) for point in points]
            seconds.append(
                Series(
                    _label(place),
                    tuple(
                        Point(float(layer), entry.value, note=entry.note)
                        for layer, entry in zip(layers, times, strict=True)
                    ),
                )
            )
        return (
            Figure(
                "score",
                "curve",
                "Score against the lowest layer with a module",
                "k",
                "score",
                series=tuple(scores),
                caption="Means over seeds with 95% t-intervals.",
            ),
            Figure(
                "seconds",
                "curve",
                "Seconds of training against the lowest layer with a module",
                "k",
                "seconds",
                series=tuple(seconds),
                caption="Means over seeds, without the seconds in which states were computed.",
            ),
        )

    def answer(self, finished: FinishedCells) -> Answer | None:
        """For each method the mean difference at each k, and the seconds against k = 0."""
        summary = finished.summary_of_contrasts(self.no_evidence)
        if summary is None:
            return None
        parts = []
        for method in finished.axis("method"):
            shown = []
            for layer in _layers(finished)[1:]:
                of = [
                    {**place, "layer": layer}
                    for place in _places(finished)
                    if place["method"] == method
                ]
                against = [{**point, "layer": "0"} for point in of]
                entry = finished.mean_difference(of, against)
                share = _ratio(finished, of, against)
                if entry.value is not None and share is not None:
                    verdict = f" ({entry.verdict})" if entry.verdict else ""
                    shown.append(
                        f"{entry.value:+.2f} points{verdict} in {share:.0%} of the seconds at"
                        f" k={layer}"
                    )
            if shown:
                parts.append(f"{method}: {', '.join(shown)}")
        headline = f"{summary.headline[:1].upper()}{summary.headline[1:]}"
        return replace(summary, headline=". ".join([*parts, headline]))


def _layers(finished: FinishedCells) -> list[str]:
    """The lowest layers, in ascending order."""
    return sorted(finished.axis("layer"), key=int)


def _places(finished: FinishedCells) -> list[dict[str, str]]:
    """Every task with every method."""
    return [
        {"task": task, "method": method}
        for task in finished.axis("task")
        for method in finished.axis("method")
    ]


def _label(place: Mapping[str, str]) -> str:
    return f"{place['task']}, {place['method']}"


def _points(place: Mapping[str, str], layers: Sequence[str]) -> list[dict[str, str]]:
    return [{**place, "layer": layer} for layer in layers]


def _costs(finished: FinishedCells, point: Mapping[str, str]) -> list[TrainingCost]:
    """What the trainings of a cell's runs took."""
    cell = finished.at(point)
    trained = [scored.outcome.metrics.train for scored in cell.runs] if cell else []
    return [cost for cost in trained if cost is not None]


def _cost(
    finished: FinishedCells, point: Mapping[str, str], number: Callable[[TrainingCost], float]
) -> Entry:
    """The mean of a number over a cell's trainings."""
    costs = _costs(finished, point)
    if not costs:
        return Entry(note=finished.score(point).note or "not trained here")
    return Entry(sum(map(number, costs)) / len(costs))


def _ratio(
    finished: FinishedCells, of: Sequence[Mapping[str, str]], against: Sequence[Mapping[str, str]]
) -> float | None:
    """The seconds of some cells' trainings by those of others; None where one has none."""
    sums = []
    for points in (of, against):
        values = [_cost(finished, point, COSTS["seconds"][1]).value for point in points]
        if not values or any(value is None for value in values):
            return None
        sums.append(sum(value for value in values if value is not None))
    return sums[0] / sums[1] if sums[1] else None


STUDY = FromLayer()
