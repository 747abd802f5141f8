"""A study's contrasts over the scored rows: what both cells predicted for the same items.

An interval over seeds says what another seed might give, one over items what other rows might.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.evaluation.scoring import compare_differences, compare_runs
from adapters_xtl.grid.finished_cells import FinishedCell, FinishedCells, Point
from adapters_xtl.grid.study import Contrast
from adapters_xtl.tasks import Task

__all__ = ["over_items"]

RESAMPLES = 500


def over_items(finished: FinishedCells, contrast: Contrast) -> dict[str, Any] | None:
    """The contrast's difference with its paired bootstrap interval over items, as JSON; None
    without a seed that both cells have.

    With "reason" alone where there is no such interval: mined pairs, for one, are no common items.
    """
    options: dict[str, Any] = {
        "resamples": RESAMPLES,
        "margin": finished.margin,
        "leave_out": contrast.leave_out,
    }
    try:
        if contrast.minus is None:
            pairs = _runs(finished, contrast, contrast.of, contrast.against)
            if pairs is None:
                return None
            difference = compare_runs(*pairs, **options)
        else:
            # cells that scored the same rows: (of - first) - (against - second)
            others = zip((contrast.of, contrast.against), contrast.minus, strict=True)
            both = [_runs(finished, contrast, *sides) for sides in others]
            if both[0] is None or both[1] is None:
                return None
            difference = compare_differences(both[0], both[1], **options)
    except (XtlError, OSError) as error:  # no common rows, or a damaged file of predictions
        return {"reason": str(error)}
    record: dict[str, Any] = to_json(difference)
    return record


def _runs(
    finished: FinishedCells, contrast: Contrast, side: Point, other_side: Point
) -> tuple[Task, Sequence[Path], Sequence[Path]] | None:
    """The task that two sides scored, and their run directories, pair by pair; None without a seed
    that both have.
    """
    pairs: list[tuple[Path, Path]] = []
    for point, other in zip(contrast.cells(side), contrast.cells(other_side), strict=True):
        of, against = finished.at(point), finished.at(other)
        if of is not None and against is not None:
            pairs += _pairs(of, against, finished.grid.seeds)
            task = of.cell.task
    if not pairs:
        return None
    first, second = zip(*pairs, strict=True)
    return tasks.load(task), first, second


def _pairs(
    of: FinishedCell, against: FinishedCell, seeds: Sequence[int]
) -> list[tuple[Path, Path]]:
    """The run directories of both cells, a pair for each seed that both have. A cell that no seed
    changes has its one run under every seed; two of them are one pair.
    """
    by_seed = []
    for cell in (of, against):
        runs = {scored.seed: scored.outcome.path for scored in cell.runs}
        if cell.cell.finished_module and runs:
            runs = dict.fromkeys(seeds, next(iter(runs.values())))
        by_seed.append(runs)
    common = sorted(by_seed[0].keys() & by_seed[1].keys())
    return list(dict.fromkeys((by_seed[0][seed], by_seed[1][seed]) for seed in common))
