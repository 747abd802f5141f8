"""What a study is: a question, the axes of its grid, and what is read off the finished cells.

A study is one file in `adapters_xtl/studies/` that sets STUDY to an instance of a class derived
from `Study`. The grid plans, carries out and reads the cells of every study alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adapters_xtl.base.errors import Problems
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Axis, Cell, Variant
from adapters_xtl.grid.results import Figure, Table
from adapters_xtl.runs.settings import parse_override

if TYPE_CHECKING:
    from adapters_xtl.grid.finished_cells import FinishedCells

__all__ = ["Answer", "Contrast", "Study"]


@dataclass(frozen=True)
class Contrast:
    """A difference of two cells' scores, paired over the seeds: `of` minus `against`, both points.

    name    what differs: "mnli against none, panx"
    family  the contrasts of one family are corrected together for being many
    over    axis → its values: both sides are means over these cells, seed by seed; what the points
            have for that axis then names the mean
    leave_out  languages that the scores of both sides are means without
    minus   two more points: the contrast is then a difference of differences, (`of` - `against`)
            minus (the first - the second). Where the rows of `of` and of the first are the same,
            and those of `against` and of the second, it is paired over both
    """

    name: str
    of: Mapping[str, str]
    against: Mapping[str, str]
    family: str = ""
    over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    minus: tuple[Mapping[str, str], Mapping[str, str]] | None = None

    def cells(self, point: Mapping[str, str]) -> tuple[dict[str, str], ...]:
        """The points of the cells that one side is the mean of: `point` alone without `over`."""
        return tuple(
            {**point, **dict(zip(self.over, values, strict=True))}
            for values in itertools.product(*self.over.values())
        )


@dataclass(frozen=True)
class Answer:
    """What a finished study says, in sentences.

    headline   the main contrast, with its interval
    verdict    "higher", "lower", "equivalent" or "inconclusive" where all contrasts say so, else
               "mixed"
    exception  the strongest case that goes the other way; "" where there is none
    limits     what the answer does not say
    """

    headline: str
    verdict: str
    exception: str = ""
    limits: tuple[str, ...] = ()


class Study:
    """One question over a grid. A study overrides what differs from the plain grid.

    axes           the axes with their default values. `task`, `method` and, where there is one,
                   `on` (a chain of parents, "none" without) decide a cell's training; an axis named
                   as a setting ("train.max_steps") sets it for the cell's own training
    evidence_for   what the study is evidence for: each completes "evidence for …"
    no_evidence    what it is no evidence for, whatever the backbone and the rows: each completes
                   "no evidence for …"
    to_know        how its numbers come about, as far as a reader must know it: sentences
    margin         points within which "no difference" is claimed
    complete_axes  axes of which every value has to have a cell, though `cell` leaves points out
    seeds          of its cells, where nothing names others
    decides        settings of parents' trainings that the study makes itself: a file sets none
    reseed         whether every training of a cell gets a seed of its own, where nothing says
                   otherwise
    """

    name: str = ""
    title: str = ""
    question: str = ""
    axes: tuple[Axis, ...] = ()
    evidence_for: tuple[str, ...] = ()
    no_evidence: tuple[str, ...] = ()
    to_know: tuple[str, ...] = ()
    margin: float = 0.5
    complete_axes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    decides: frozenset[str] = frozenset()
    reseed: bool = False

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cells of one point: one, or one for each of several precisions; () where the study
        leaves the point out.
        """
        cells = []
        for variant in self.variants(point, bits, problems):
            overrides = tuple(
                (key, tuple(value) if isinstance(value, list) else value)
                for key, value in (
                    parse_override(f"{axis}={text}", axis)
                    for axis, text in point.items()
                    if "." in axis
                )
            )
            place = {**point, "method": str(variant)}
            cells.append(
                Cell(
                    point["task"],
                    variant,
                    grid_options.chain(point.get("on", grid_options.NO_PARENTS)),
                    tuple(place.items()),
                    overrides,
                )
            )
        return tuple(cells)

    def together(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells once all are known, at the same points: for settings of a cell that depend on
        what the others are.
        """
        return tuple(cells)

    def variants(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Variant, ...]:
        """The method of a point, at each of the precisions `bits`."""
        return grid_options.variants((point["method"],), bits, problems, flag="method")

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """The differences that the study reads: by default, each parent against none."""
        by_point = {cell.point: cell for cell in cells}
        contrasts = []
        for cell in cells:
            point = dict(cell.point)
            baseline = {**point, "on": "none"}
            if point.get("on", "none") != "none" and tuple(baseline.items()) in by_point:
                rest = ", ".join(value for axis, value in point.items() if axis != "on")
                contrasts.append(Contrast(f"{point['on']} against none, {rest}", point, baseline))
        return tuple(contrasts)

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """The study's tables."""
        return ()

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """The study's figures."""
        return ()

    def answer(self, finished: FinishedCells) -> Answer | None:
        """What the study says; None where too little of it is finished."""
        return None
