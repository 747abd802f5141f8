"""What each source language was trained on, and differences against the distance of languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapters_xtl import tasks
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.statistics import interval
from adapters_xtl.data.language_rows import ITEMS, NUMBERS
from adapters_xtl.grid.finished_cells import LEVEL, FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.studies._source_language_groups import ENGLISH, Group
from adapters_xtl.studies._typology import distance

__all__ = ["distance_figure", "origin", "training_table"]

MATCHED_BY = {
    ITEMS: "every source was trained on the same items, chosen by the hash of their ids",
    NUMBERS: (
        "the rows are no translations of each other: every source was trained on as many, and not"
        " on the same items"
    ),
}


class _Training(NamedTuple):
    """A training in a source language: train rows, steps, and how rows were made comparable."""

    rows: int
    steps: int
    matched_by: str


def origin(task: str, language: str) -> str:
    """Where a task's train rows in a language come from; see `tasks.LanguageRows`."""
    rows = tasks.load(task).train_in.get(language)
    return rows.origin if rows is not None else ""


def training_table(finished: FinishedCells, group: Group) -> Table:
    """Rows and steps of the trainings whose language varies."""
    lines = []
    ways: dict[str, None] = {}
    steps: set[int] = set()
    for source in group.sources:
        trainings, note = _trainings(finished, group, source)
        entries = [Entry(note=note), Entry(note=note)]
        if trainings:
            ways |= dict.fromkeys(training.matched_by for training in trainings)
            steps |= {training.steps for training in trainings}
            counts = [training.rows for training in trainings]
            taken = [training.steps for training in trainings]
            entries = [Entry(_mean(counts), note=note), Entry(_mean(taken), note=note)]
        lines.append(Line(f"{source} ({origin(group.trained, source)})", tuple(entries)))
    notes = [MATCHED_BY[way] for way in ways if way in MATCHED_BY]
    if len(steps) > 1:
        notes.append(
            f"steps differ ({min(steps)} to {max(steps)}): part of a difference may come from them"
        )
    elif steps:
        notes.append("every source took the same number of steps")
    return Table(
        f"trained-{group.name}",
        f"What {group.trained} was trained on: {group.title}",
        "source (origin of its rows)",
        ("train rows", "steps"),
        tuple(lines),
        tuple(notes),
        decimals=0,
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _trainings(finished: FinishedCells, group: Group, source: str) -> tuple[list[_Training], str]:
    """(the trainings in a source language, one a seed, what is to be noted)."""
    cell = finished.at(group.point(source))
    if cell is None or not cell.runs:
        return [], cell.state if cell else "not in the study"
    store, trainings = Store(Path(finished.grid.base.runs)), []
    for scored in cell.runs:
        modules = scored.plan.modules if scored.plan is not None else ()
        module = modules[0] if cell.cell.chain and modules else scored.plan and scored.plan.target
        path = finished_directory(module, store) if module else None
        if path is None:
            return [], "not on record"
        try:
            run = read_run(path)
        except (XtlError, OSError):
            return [], "damaged"
        data, cost = run.provenance.data, run.metrics.train
        if cost is None:
            return [], "not on record"
        rows = data.in_languages.get(group.trained, {}).get(source, 0)
        way = data.matched_by.get(group.trained, "")
        trainings.append(_Training(rows, cost.steps, way))
    return trainings, ""


# ------------------------------------------------------------------ distance between languages


def distance_figure(finished: FinishedCells, group: Group) -> Figure:
    """Differences to English in each language that is scored, against how much nearer, or farther,
    the source is to it than English is.
    """
    series, missing = [], set()
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for source in group.others:
        point, english = group.point(source), group.point(ENGLISH)
        points = []
        of, against = finished.language_scores(point), finished.language_scores(english)
        for code in finished.languages([point]):
            if code in (source, ENGLISH):
                continue
            farther = _farther(source, code)
            if farther is None:
                missing.add(code)
                continue
            entry = finished.language_difference(point, english, code)
            if entry.value is None:
                continue
            points.append(Point(farther, entry.value, entry.low, entry.high, entry.verdict, code))
            for seed in of[code].keys() & against.get(code, {}).keys():
                gain = of[code][seed] - against[code][seed]
                by_seed.setdefault(seed, []).append((farther, gain))
        series.append(Series(source, tuple(points)))
    sentences = [
        "Each dot is a language that is scored, neither the source nor English; left of 0 the"
        " source is nearer to it than English is, by script and by family and word order as"
        " WALS has them.",
        _correlation_text(by_seed),
    ]
    if missing:
        sentences.append(f"Not in the table of languages: {', '.join(sorted(missing))}.")
    return Figure(
        f"distance-{group.name}",
        "scatter",
        f"{group.title}: differences to English against distance",
        "distance from the source minus distance from English",
        "difference to English",
        series=tuple(series),
        caption=" ".join(filter(None, sentences)),
    )


def _farther(source: str, code: str) -> float | None:
    """How much farther a language is from the source than from English."""
    from_source, from_english = distance(source, code), distance(ENGLISH, code)
    if from_source is None or from_english is None:
        return None
    return from_source - from_english


def _correlation_text(by_seed: dict[int, list[tuple[float, float]]]) -> str:
    """Spearman's correlation of distance and difference, with its interval over the seeds."""
    correlations = [value for pairs in by_seed.values() if (value := spearman(pairs)) is not None]
    if not correlations:
        return ""
    mean = sum(correlations) / len(correlations)
    bounds = interval(correlations, LEVEL, limits=(-1.0, 1.0))
    shown = f" [{bounds.low:+.2f}, {bounds.high:+.2f}] over seeds" if bounds else " (one seed)"
    return f"Spearman's correlation {mean:+.2f}{shown}; the dots are not independent."


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation, ties with their mean rank; None for fewer than three pairs, and
    where one side is constant.
    """
    if len(pairs) < 3:
        return None
    first, second = (_ranks(np.array(side)) for side in zip(*pairs, strict=True))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: np.ndarray = (last - (counts - 1) / 2)[group]
    return mean
