"""The numbers of the study `representation`: read off the analyses of its cells, paired over seeds.

A number is named by what is read off one analysis; of a cell there is one for each seed, and of a
cell that no seed changes the same one under every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapters_xtl.base.statistics import (
    Difference,
    holm,
    interval,
    paired,
    verdict,
    verdict_of_p,
)
from adapters_xtl.grid.finished_cells import LEVEL, FinishedCells
from adapters_xtl.grid.results import Entry
from adapters_xtl.representation.record import (
    RANDOM_WEIGHTS,
    EncoderResult,
    RepresentationRecord,
)

__all__ = ["Comparison", "Number", "Numbers"]

Number = Callable[[EncoderResult], float]
Point = Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Two cells whose encoders are compared: `of` minus `against`."""

    name: str
    of: Point
    against: Point


class Numbers:
    """What the analyses of a study's finished cells say."""

    def __init__(self, finished: FinishedCells) -> None:
        self.finished = finished

    def records(self, point: Point) -> dict[int, RepresentationRecord]:
        """Seed → the analysis of the cell at a point; of a cell that no seed changes, under every
        seed. Seeds whose analysis is not finished are not among them.
        """
        cell = self.finished.at(point)
        records = {
            scored.seed: scored.analysis
            for scored in (cell.runs if cell else ())
            if scored.analysis is not None
        }
        if cell is not None and cell.cell.finished_module and records:
            return dict.fromkeys(self.finished.grid.seeds, next(iter(records.values())))
        return records

    def is_single(self, *points: Point) -> bool:
        """Whether no seed changes any of the cells: each has one analysis."""
        cells = [self.finished.at(point) for point in points]
        return all(cell is not None and cell.cell.finished_module for cell in cells)

    def entry(self, point: Point, number: Number) -> Entry:
        """The mean of a number over the seeds of a cell, with its t-interval."""
        values = [number(record.model) for record in self.records(point).values()]
        if not values:
            return Entry(note=self._why_none(point))
        if self.is_single(point):
            return Entry(values[0])
        return _mean(values, self._seeds_note(len(values)))

    def random_weights(self, point: Point, number: Number) -> Entry:
        """The mean of a number over the encoders of random weights of a cell's analysis."""
        encoders = [
            encoder
            for record in list(self.records(point).values())[:1]
            for encoder in record.encoders
            if encoder.kind == RANDOM_WEIGHTS
        ]
        values = [number(encoder) for encoder in encoders]
        return _mean(values, "") if values else Entry(note="no random weights here")

    def difference(self, comparison: Comparison, number: Number) -> Difference | None:
        """The change of a number, paired over the seeds; None without a seed in common."""
        of, against = (
            {seed: number(record.model) for seed, record in self.records(point).items()}
            for point in (comparison.of, comparison.against)
        )
        if self.is_single(comparison.of, comparison.against):
            first = self.finished.grid.seeds[:1]
            of = {seed: of[seed] for seed in first if seed in of}
        return paired(of, against, LEVEL, margin=self.finished.margin)

    def changes(
        self, comparison: Comparison, numbers: Sequence[Sequence[Number]]
    ) -> list[tuple[Entry, ...]]:
        """The changes of rows of numbers, with Holm's correction over all of them together."""
        differences = [[self.difference(comparison, number) for number in row] for row in numbers]
        p_values = [
            difference.p if difference else None for row in differences for difference in row
        ]
        adjusted = iter(holm(p_values))
        return [
            tuple(self._change(comparison, difference, next(adjusted)) for difference in row)
            for row in differences
        ]

    def primary(self, comparisons: Sequence[Comparison], number: Number) -> list[Entry]:
        """The changes of one number, with Holm's correction over the comparisons."""
        differences = [self.difference(comparison, number) for comparison in comparisons]
        adjusted = holm([difference.p if difference else None for difference in differences])
        return [
            self._change(comparison, difference, p)
            for comparison, difference, p in zip(comparisons, differences, adjusted, strict=True)
        ]

    def over_items(
        self, comparison: Comparison, replicates: Callable[[EncoderResult], Sequence[float]]
    ) -> Entry:
        """The change of a number over bootstrap samples of the held-out items: its percentile
        interval. The samples of both cells are of the same items, sample by sample.
        """
        of, against = (self.records(point) for point in (comparison.of, comparison.against))
        seeds = sorted(of.keys() & against.keys())
        if not seeds:
            return Entry(note="no seed in common")
        if len({record.rows_digest for side in (of, against) for record in side.values()}) > 1:
            return Entry(note="other rows")
        sides: list[Any] = [
            np.mean([replicates(side[seed].model) for seed in seeds], axis=0)
            for side in (of, against)
        ]
        samples = sides[0] - sides[1]
        tail = 100 * (1 - LEVEL) / 2
        low, high = (float(bound) for bound in np.percentile(samples, [tail, 100 - tail]))
        conclusion = verdict(low, high, self.finished.margin)
        return Entry(float(samples.mean()), low, high, conclusion)

    def _change(
        self, comparison: Comparison, difference: Difference | None, p_holm: float | None
    ) -> Entry:
        if difference is None:
            notes = [self._why_none(point) for point in (comparison.of, comparison.against)]
            return Entry(note=next((note for note in notes if note), "no seed in common"))
        bounds = difference.interval
        if bounds is None:
            single = self.is_single(comparison.of, comparison.against)
            return Entry(difference.mean, note="no seed changes it" if single else "one seed")
        after_holm = verdict_of_p(difference.mean, p_holm, LEVEL)
        return replace(
            Entry(difference.mean, bounds.low, bounds.high, difference.verdict, after_holm),
            note=self._seeds_note(len(difference.seeds)),
        )

    def _seeds_note(self, count: int) -> str:
        expected = len(self.finished.grid.seeds)
        if count < expected:
            return f"{count} of {expected} seeds"
        return "one seed" if count == 1 else ""

    def _why_none(self, point: Point) -> str:
        """Why a cell has no analysis; "" where it has one."""
        cell = self.finished.at(point)
        if cell is None:
            return "not in the study"
        if self.records(point):
            return ""
        return "failed" if cell.failures else "not run"


def _mean(values: Sequence[float], note: str) -> Entry:
    bounds = interval(values, LEVEL, limits=(-100.0, 100.0))
    mean = sum(values) / len(values)
    return Entry(mean, bounds.low, bounds.high, note=note) if bounds else Entry(mean, note=note)
