"""The finished cells of a grid, read from the store: scores, contrasts, what failed.

They are read again from the runs' records every time, in the order of the cells, so that no table
depends on the order of the runs or on interruptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from adapters_xtl.base.statistics import (
    DIFFERENCES,
    Difference,
    Interval,
    holm,
    interval,
    paired,
    verdict_of_p,
)
from adapters_xtl.grid.cells import Cell, Grid, Overrides
from adapters_xtl.grid.results import Entry, Line, Table
from adapters_xtl.grid.study import Answer, Contrast
from adapters_xtl.grid.summary import Scored

__all__ = [
    "ContrastResult",
    "FinishedCell",
    "FinishedCells",
]

LEVEL = 0.95  # of every interval
State = Literal["done", "partial", "failed", "not run"]
Point = Mapping[str, str]


@dataclass
class FinishedCell:
    """A cell with its finished runs, its tuning trials, and the runs that failed.

    expected  the number of reported runs that the cell consists of
    row       its line of the record; None without a finished run
    """

    cell: Cell
    expected: int = 0
    runs: list[Scored] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: Overrides | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    row: dict[str, Any] | None = None

    @property
    def state(self) -> State:
        if self.runs:
            return "done" if len(self.runs) == self.expected else "partial"
        return "failed" if self.failures else "not run"


@dataclass(frozen=True)
class ContrastResult:
    """A contrast with its numbers; `difference` is None where a cell has no finished run.

    p_holm, holm  p-value and verdict after Holm's correction over the contrast's family
    """

    contrast: Contrast
    difference: Difference | None
    p_holm: float | None = None
    holm: str = ""

    def record(self) -> dict[str, Any]:
        numbers = self.difference.record() if self.difference else None
        return {
            "name": self.contrast.name,
            "of": dict(self.contrast.of),
            "against": dict(self.contrast.against),
            "family": self.contrast.family,
            **({"minus": [dict(side) for side in minus]} if (minus := self.contrast.minus) else {}),
            **({"leave_out": list(leave_out)} if (leave_out := self.contrast.leave_out) else {}),
            **(numbers or {"mean": None, "interval": None, "seeds": [], "verdict": "", "p": None}),
            "p_holm": self.p_holm,
            "holm": self.holm,
        }


class FinishedCells:
    """All cells of a grid with what the store has of them, and the study's contrasts."""

    def __init__(
        self,
        grid: Grid,
        cells: Sequence[FinishedCell],
        contrasts: Sequence[Contrast],
        margin: float,
    ) -> None:
        self.grid, self.cells, self.margin = grid, tuple(cells), margin
        self._by_point = {cell.cell.point: cell for cell in cells}
        self._contrasts = tuple(contrasts)

    def at(self, point: Point) -> FinishedCell | None:
        """The cell at a point of the grid, its axes in any order; None where there is none."""
        place = tuple((axis.name, point.get(axis.name, "")) for axis in self.grid.axes)
        return self._by_point.get(place)

    def axis(self, name: str) -> tuple[str, ...]:
        """The values of an axis that a cell has, in the study's order: tasks that were left out
        for want of rows are not among them.
        """
        values = next(axis.values for axis in self.grid.axes if axis.name == name)
        kept = {dict(point)[name] for point in self._by_point}
        return tuple(value for value in values if value in kept)

    def _no_seed_changes(self, points: Iterable[Point]) -> bool:
        """Whether all the cells are scores of finished modules: one number each, not one a seed."""
        cells = [self.at(point) for point in points]
        return all(cell is not None and cell.cell.finished_module for cell in cells)

    def _paired(
        self,
        of: Mapping[int, float],
        against: Mapping[int, float],
        points: Iterable[Point],
        limits: tuple[float, float] = DIFFERENCES,
    ) -> Difference | None:
        """The difference of two seed → number. Where no seed changes any of the cells at `points`,
        it is of one pair: the same number under every seed would give an interval of width 0.
        """
        if self._no_seed_changes(points):
            first = self.grid.seeds[:1]
            of = {seed: of[seed] for seed in first if seed in of}
        return paired(of, against, LEVEL, margin=self.margin, limits=limits)

    def scores(self, point: Point, leave_out: Sequence[str] = ()) -> dict[int, float]:
        """Seed → score: the mean over the languages but those in `leave_out`; {} where none is
        left. A cell that no seed changes has its one score under every seed.
        """
        cell = self.at(point)
        if cell is None or not cell.runs:
            return {}
        if leave_out:
            by_language = self.language_scores(point)
            kept = [by for code, by in by_language.items() if code not in leave_out]
            seeds = set.intersection(*map(set, kept)) if kept else set()
            return {seed: sum(by[seed] for by in kept) / len(kept) for seed in sorted(seeds)}
        scores = {scored.seed: scored.outcome.score for scored in cell.runs}
        if cell.cell.finished_module:
            return dict.fromkeys(self.grid.seeds, next(iter(scores.values())))
        return scores

    def score(self, point: Point, leave_out: Sequence[str] = ()) -> Entry:
        """The mean score of a cell over its seeds, with its t-interval; see `scores`."""
        cell, scores = self.at(point), list(self.scores(point, leave_out).values())
        if cell is None or not scores:
            missing = "no other language" if cell and cell.runs else ""
            return Entry(note=missing or (cell.state if cell else "not in the study"))
        note = ""
        if cell.state == "partial":
            note = f"{len(cell.runs)} of {cell.expected} seeds"
        elif len(cell.runs) == 1:
            note = "" if cell.cell.finished_module else "one seed"
        bounds = interval(scores[:1] if cell.cell.finished_module else scores, LEVEL)
        mean = sum(scores) / len(scores)
        return Entry(mean, *_ends(bounds), note=note)

    @cached_property
    def contrasts(self) -> tuple[ContrastResult, ...]:
        """The study's contrasts, with Holm's correction over each family of them."""
        results = [
            ContrastResult(contrast, self._difference(contrast)) for contrast in self._contrasts
        ]
        adjusted: dict[int, float | None] = {}
        for family in dict.fromkeys(contrast.family for contrast in self._contrasts):
            members = [
                number for number, result in enumerate(results) if result.contrast.family == family
            ]
            p_values = [
                difference.p if (difference := results[number].difference) else None
                for number in members
            ]
            adjusted |= dict(zip(members, holm(p_values), strict=True))
        return tuple(
            replace(
                result,
                p_holm=adjusted[number],
                holm=(
                    verdict_of_p(result.difference.mean, adjusted[number], LEVEL)
                    if result.difference and result.difference.interval
                    else ""
                ),
            )
            for number, result in enumerate(results)
        )

    def _difference(self, contrast: Contrast) -> Difference | None:
        sides = (contrast.of, contrast.against, *(contrast.minus or ()))
        points = [contrast.cells(side) for side in sides]
        scores = [self._means(cells, contrast.leave_out)[0] for cells in points]
        every_point = [point for cells in points for point in cells]
        if contrast.minus is None:
            return self._paired(scores[0], scores[1], every_point)
        first, second = _by_seed(*scores[:2]), _by_seed(*scores[2:])
        return self._paired(first, second, every_point, (2 * DIFFERENCES[0], 2 * DIFFERENCES[1]))

    def difference(self, of: Point, against: Point) -> Entry:
        """The entry of one of the study's contrasts: its difference, interval and verdicts."""
        result = next(
            (
                result
                for result in self.contrasts
                if dict(result.contrast.of) == dict(of)
                and dict(result.contrast.against) == dict(against)
            ),
            None,
        )
        if result is None or result.difference is None:
            leave_out = result.contrast.leave_out if result else ()
            minus = (result.contrast.minus or ()) if result else ()
            sides = [self.score(side, leave_out) for side in (of, against, *minus)]
            otherwise = "no contrast" if result is None else "no seed in common"
            return Entry(note=next((side.note for side in sides if side.value is None), otherwise))
        difference, bounds = result.difference, result.difference.interval
        note = self._note_without_interval((of, against)) if bounds is None else ""
        if bounds is not None and len(difference.seeds) < len(self.grid.seeds):
            note = f"{len(difference.seeds)} of {len(self.grid.seeds)} seeds"
        return Entry(
            difference.mean,
            *_ends(bounds),
            difference.verdict if bounds else "",
            result.holm,  # type: ignore[arg-type]
            note=note,
        )

    def mean_score(self, points: Sequence[Point]) -> Entry:
        """The mean over several cells, taken seed by seed, so that its interval is that of the
        mean.
        """
        by_seed, note = self._means(points)
        if not by_seed:
            return Entry(note=note)
        values = list(by_seed.values())
        if self._no_seed_changes(points):
            values = values[:1]
        return Entry(sum(values) / len(values), *_ends(interval(values, LEVEL)), note=note)

    def mean_difference(self, points: Sequence[Point], baselines: Sequence[Point]) -> Entry:
        """The difference of two such means, paired over the seeds."""
        (of, note), (against, other_note) = self._means(points), self._means(baselines)
        every_point = (*points, *baselines)
        return self._entry(self._paired(of, against, every_point), note or other_note, every_point)

    def _means(
        self, points: Sequence[Point], leave_out: Sequence[str] = ()
    ) -> tuple[dict[int, float], str]:
        """Seed → mean over the cells, for the seeds that all of them have; what is to be noted."""
        scores = [self.scores(point, leave_out) for point in points]
        notes = [
            self.score(point, leave_out).note
            for point, by_seed in zip(points, scores, strict=True)
            if not by_seed
        ]
        if notes:
            return {}, notes[0]
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in scores)))
        note = ""
        if len(seeds) < len(self.grid.seeds):
            note = f"{len(seeds)} of {len(self.grid.seeds)} seeds"
        elif len(seeds) == 1:
            note = "one seed"
        return {seed: sum(by[seed] for by in scores) / len(scores) for seed in seeds}, note

    # --- languages

    def languages(self, points: Sequence[Point]) -> tuple[str, ...]:
        """The languages that the cells' runs scored, English first, then by their codes."""
        codes = {code for point in points for code in self.language_scores(point)}
        return tuple(sorted(codes, key=lambda code: (code != "en", code)))

    def language_scores(self, point: Point) -> dict[str, dict[int, float]]:
        """Language → seed → score in the headline metric."""
        cell = self.at(point)
        scores: dict[str, dict[int, float]] = {}
        for scored in cell.runs if cell else ():
            for task in scored.outcome.metrics.tasks.values():
                for code, by_metric in task.languages.items():
                    value = by_metric[task.metric]
                    seeds = (
                        self.grid.seeds if cell and cell.cell.finished_module else (scored.seed,)
                    )
                    scores.setdefault(code, {}).update(dict.fromkeys(seeds, value))
        return scores

    def language_score(self, point: Point, language: str) -> Entry:
        """A cell's score in one language."""
        by_seed = self.language_scores(point).get(language, {})
        if not by_seed:
            return Entry(note=self.score(point).note or "not scored")
        cell = self.at(point)
        values = list(by_seed.values())[: len(cell.runs) if cell else None]
        bounds = interval(values, LEVEL)
        note = self.score(point).note
        return Entry(sum(values) / len(values), *_ends(bounds), note=note)

    def language_difference(self, of: Point, against: Point, language: str) -> Entry:
        """The difference of two cells in one language, paired over the seeds."""
        scores = self.language_scores(of).get(language, {})
        baseline = self.language_scores(against).get(language, {})
        note = self.score(of).note or self.score(against).note
        return self._entry(self._paired(scores, baseline, (of, against)), note, (of, against))

    def _note_without_interval(self, points: Sequence[Point]) -> str:
        return "no seed changes it" if self._no_seed_changes(points) else "one seed"

    def _entry(self, difference: Difference | None, note: str, points: Sequence[Point]) -> Entry:
        if difference is None:
            return Entry(note=note or "not scored")
        bounds = difference.interval
        return Entry(
            difference.mean,
            *_ends(bounds),
            difference.verdict if bounds else "",
            note=note or ("" if bounds else self._note_without_interval(points)),
        )

    # --- what tables and answers say

    def verdict_rule(self) -> str:
        """What decides the verdict of an interval, in words; see `statistics.verdict`."""
        if not self.margin:
            return "higher or lower if the interval excludes 0; otherwise inconclusive"
        return (
            f"equivalent if the whole interval lies within ±{self.margin:g} points, even if it"
            " excludes 0; otherwise higher or lower if it excludes 0; otherwise inconclusive"
        )

    def holm_rule(self) -> str:
        """Which contrasts Holm's correction counts together, in words."""
        families = list(dict.fromkeys(contrast.family for contrast in self._contrasts))
        apart = f", apart for {', '.join(families)}" if len(families) > 1 else ""
        return f"Holm's correction is over all contrasts of the study{apart}"

    def finish_table(self, table: Table) -> Table:
        """The table with the best of each column marked, and the notes that its numbers need.

        Lines of differences count as the first line's score plus the difference.
        """
        baseline = next((line for line in table.lines if not line.difference), None)
        best: dict[int, float] = {}

        def height(line: Line, column: int) -> float | None:
            value = line.entries[column].value
            if value is None or not line.difference or baseline is None:
                return value
            start = baseline.entries[column].value
            return None if start is None else start + value

        for column in range(len(table.columns)):
            heights = [height(line, column) for line in table.lines]
            numbers = [number for number in heights if number is not None]
            if len(numbers) > 1:
                best[column] = max(numbers)
        lines = tuple(
            replace(
                line,
                entries=tuple(
                    replace(entry, best=column in best and height(line, column) == best[column])
                    for column, entry in enumerate(line.entries)
                ),
            )
            for line in table.lines
        )
        return replace(table, lines=lines, notes=(*table.notes, *self._notes(lines)))

    def _notes(self, lines: Sequence[Line]) -> list[str]:
        seeds = ", ".join(map(str, self.grid.seeds))
        notes = [f"scores from 0 to 100: means over seeds {seeds} with {LEVEL:.0%} t-intervals"]
        if len(self.grid.seeds) == 1:
            notes = [f"scores from 0 to 100 of one seed ({seeds}): no interval, nothing is tested"]
        if any(line.difference for line in lines):
            notes.append(
                "lines with a sign are differences to the first line, paired over the seeds;"
                f" {self.verdict_rule()}; {self.holm_rule()}"
            )
        return notes

    def counts_of_contrasts(self) -> str:
        """How many of the finished contrasts have each verdict: `2 higher; 1 inconclusive; after
        Holm's correction 1 of 3 remain significant`.
        """
        finished = [result for result in self.contrasts if result.difference is not None]
        tested = [result for result in finished if result.difference and result.difference.interval]
        verdicts = [result.difference.verdict for result in tested if result.difference]
        counts = {
            verdict: verdicts.count(verdict)
            for verdict in ("higher", "lower", "equivalent", "inconclusive")
        }
        parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
        if untested := len(finished) - len(tested):
            parts.append(f"{untested} of one seed, not tested")
        if tested:
            after_holm = sum(result.holm in ("higher", "lower") for result in tested)
            parts.append(
                f"after Holm's correction {after_holm} of {len(tested)} remain significant"
            )
        return "; ".join(parts)

    def summary_of_contrasts(self, limits: Sequence[str]) -> Answer | None:
        """The answer of a study whose contrasts are all of one kind: their mean, how many are
        higher, lower or inconclusive, and the one that goes furthest the other way. None without a
        contrast that has numbers.
        """
        differences = {
            result.contrast.name: result.difference
            for result in self.contrasts
            if result.difference is not None
        }
        if not differences:
            return None
        means = {name: difference.mean for name, difference in differences.items()}
        average = sum(means.values()) / len(means)
        tested = [difference.verdict for difference in differences.values() if difference.interval]
        finished = f"{len(differences)} of " if len(differences) < len(self.contrasts) else ""
        headline = (
            f"mean of {finished}{len(self.contrasts)} contrasts: {average:+.2f} points;"
            f" {self.counts_of_contrasts()}"
        )
        verdicts = set(tested)
        if len(tested) < len(differences):
            verdicts.add("inconclusive")
        verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
        ends = (max(means, key=lambda name: means[name]), min(means, key=lambda name: means[name]))
        extreme = ends[1] if average > 0 else ends[0]
        goes_the_other_way = means[extreme] * average < 0
        exception = f"{extreme}: {means[extreme]:+.2f} points" if goes_the_other_way else ""
        return Answer(headline, verdict, exception, tuple(limits))


def _by_seed(of: Mapping[int, float], against: Mapping[int, float]) -> dict[int, float]:
    """Seed → difference, of the seeds that both have."""
    return {seed: of[seed] - against[seed] for seed in of if seed in against}


def _ends(bounds: Interval | None) -> tuple[float | None, float | None]:
    return (bounds.low, bounds.high) if bounds else (None, None)
