"""Few-shot against zero-shot transfer: what an intermediate task is worth once a few examples of
the target language are there (XTREME-R, arXiv 2104.07412; buckets as in Zhao et al. 2021, arXiv
2012.15682).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, nearest
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.data.shots import (
    ALONE,
    BUCKETS,
    JOINT,
    SEQUENTIAL,
    SHOT_REGIMES,
    may_have_shots,
)
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Axis, Cell, Override
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.planning.evaluations import BESIDE_SHOTS

__all__ = ["STUDY"]

ENGLISH = "english"  # the regime of a training without shots
NO_BUCKET, ALL_BUCKETS = "-", "all"


class FewShot(Study):
    title = "Few-shot transfer"
    question = (
        "How much of what an intermediate task brings is left when the target task is also trained"
        " on k examples of the language that is scored?"
    )
    axes = (
        Axis("task", ("xnli", "panx", "udpos", "tydiqa", "xcopa")),
        Axis("on", ("none", "mnli")),
        Axis("method", ("lora",)),
        Axis("language", ("ar", "id", "sw")),
        Axis("k", ("0", "1", "4", "16", "64")),
        Axis("bucket", tuple(map(str, range(BUCKETS)))),
        Axis("regime", SHOT_REGIMES),
    )
    complete_axes = ("task", "language")
    evidence_for = (
        "the difference that each intermediate task makes at each k, on this backbone and at this"
        " budget: both sides train on the same k examples, for equally many steps",
    )
    no_evidence = (
        "what training on few examples can reach: nothing is tuned on the scored language, the"
        " number of steps is fixed, and the last checkpoint is the one that is scored",
    )
    to_know = (
        "k is the number of examples of each label; of tagged sentences, questions and choices it"
        " is the number of examples in all",
        "a bucket is one fixed draw of the k examples. A score is the mean over the buckets, its"
        " interval is over the seeds. Buckets draw from the same rows and can share some, so the"
        " band from the lowest bucket to the highest is no interval",
        "the k examples are train rows of the language where people wrote some and the source has"
        " them (panx, udpos, tydiqa on the hub), else validation rows (xnli, xcopa): the test rows"
        " are scored then, or, of a source without them, the other half of the validation rows. A"
        " score's split says which",
    )

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cells of a point, one for each precision. Without shots all buckets and regimes share
        them; there is none without any training of the target task, and none for a language that a
        task lacks.
        """
        task, language = tasks.load(point["task"]), point["language"]
        k, bucket = parse_whole(point["k"]), parse_whole(point["bucket"])
        if k is None or k < 0:
            problems.add(f"[axes] k: {point['k']}: takes whole numbers from 0 on")
        if bucket is None or not 0 <= bucket < BUCKETS:
            problems.add(f"[axes] bucket: {point['bucket']}: takes 0 to {BUCKETS - 1}")
        if point["regime"] not in SHOT_REGIMES:
            shown = nearest(point["regime"], SHOT_REGIMES)
            problems.add(f"[axes] regime: unknown regime '{point['regime']}'{shown}")
        if language == "en" or not any(
            language in tasks.load(name).all_languages for name in tasks.names()
        ):
            problems.add(f"[axes] language: '{language}' is no target language of any task")
        if problems.messages or k is None:
            return ()
        if not may_have_shots(task, language):
            return ()
        if k == 0 and point["regime"] == ALONE:
            return ()
        place = dict(point)
        overrides: tuple[Override, ...] = ()
        if k == 0:
            place |= {"bucket": NO_BUCKET, "regime": ENGLISH}
        else:
            overrides = (
                ("train.shots", k),
                ("train.shot_language", language),
                ("train.shot_bucket", bucket),
                ("train.shot_regime", point["regime"]),
            )
        return tuple(
            Cell(
                task.name,
                variant,
                grid_options.chain(point["on"]),
                tuple({**place, "method": str(variant)}.items()),
                overrides,
                languages=language,
                split=BESIDE_SHOTS,
                ineffective=() if k and point["regime"] != JOINT else ("train.shot_steps",),
            )
            for variant in self.variants(point, bits, problems)
        )

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Each intermediate task against none at each k, means over the buckets; the contrasts of
        one method and regime are one family.
        """
        buckets: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for cell in cells:
            point = dict(cell.point)
            bucket = point["bucket"]
            shown = bucket if bucket == NO_BUCKET else ALL_BUCKETS
            buckets.setdefault(tuple({**point, "bucket": shown}.items()), []).append(bucket)
        contrasts = []
        for place, values in buckets.items():
            point = dict(place)
            against = {**point, "on": "none"}
            if point["on"] != "none" and buckets.get(tuple(against.items())) == values:
                name = (
                    f"{point['on']} against none, {point['task']} in {point['language']},"
                    f" {point['method']}, k={point['k']}, {point['regime']}"
                )
                family = f"{point['method']} {point['regime']}"
                over = {"bucket": tuple(values)}
                contrasts.append(Contrast(name, point, against, family, over))
        return tuple(contrasts)

    # --- what is shown

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """For each method and regime the scores, the gains of the intermediate tasks, and the
        smallest k whose gain is not above 0.
        """
        tables = []
        for method in finished.axis("method"):
            for regime in _regimes(finished):
                tables += self._of_regime(finished, method, regime)
        return tuple(tables)

    def _of_regime(self, finished: FinishedCells, method: str, regime: str) -> list[Table]:
        sizes = _sizes(finished, regime)
        columns = tuple(f"k={k}" for k in sizes)
        scores, gains, ends = [], [], []
        for place in _places(finished, method):
            label = f"{place['task']} in {place['language']}"
            for on in finished.axis("on"):
                points = [_points(finished, {**place, "on": on}, k, regime) for k in sizes]
                entries = tuple(finished.mean_score(cells) for cells in points)
                scores.append(Line(f"{label}, {on}", entries))
                if on == "none":
                    continue
                entries = tuple(
                    finished.difference(
                        _mean_point({**place, "on": on}, k, regime),
                        _mean_point({**place, "on": "none"}, k, regime),
                    )
                    for k in sizes
                )
                gains.append(Line(f"{label}, {on}", entries, difference=True))
                ends.append(Line(f"{label}, {on}", (_end_of_gain(sizes, entries),)))
        name = f"{regime}-{method.replace('@', '-')}"
        bands = f"means over buckets {', '.join(_buckets(finished)) or 'none'}, then over seeds"
        tables = [
            Table(
                f"scores-{name}",
                f"Scores, {regime}, {method}",
                "training",
                columns,
                tuple(scores),
                (bands,),
            )
        ]
        if gains:
            tables += [
                Table(
                    f"gains-{name}",
                    f"Gain of an intermediate task over none, {regime}, {method}",
                    "intermediate",
                    columns,
                    tuple(gains),
                    (
                        bands,
                        "differences are paired over the seeds;"
                        f" {finished.verdict_rule()}; {finished.holm_rule()}",
                    ),
                ),
                Table(
                    f"end-{name}",
                    f"The smallest k whose gain is not above 0, {regime}, {method}",
                    "intermediate",
                    ("k",),
                    tuple(ends),
                    (
                        "the first k whose interval includes 0 or lies below it; one that includes"
                        " 0 does not show that there is no gain",
                    ),
                    decimals=0,
                ),
            ]
        return tables

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """Scores against k, a figure for each task, method and regime: the band goes from the
        lowest to the highest bucket.
        """
        figures = []
        for method in finished.axis("method"):
            for regime in _regimes(finished):
                for task in finished.axis("task"):
                    series = [
                        _curve(finished, {**place, "on": on}, regime)
                        for place in _places(finished, method)
                        if place["task"] == task
                        for on in finished.axis("on")
                    ]
                    figures.append(
                        Figure(
                            f"{task}-{regime}-{method.replace('@', '-')}",
                            "curve",
                            f"{task}: score against shots, {regime}, {method}",
                            "k",
                            "score",
                            series=tuple(series),
                            caption=(
                                "Means over buckets and seeds; bands from the lowest to the"
                                " highest bucket (means over seeds), not intervals."
                            ),
                        )
                    )
        return tuple(figures)

    def answer(self, finished: FinishedCells) -> Answer | None:
        """The mean gain at each k, and the first k whose interval is not above 0."""
        summary = finished.summary_of_contrasts(self.no_evidence)
        if summary is None:
            return None
        parts = []
        for regime in _regimes(finished):
            sizes = _sizes(finished, regime)
            entries = [_mean_gain(finished, k, regime) for k in sizes]
            shown = ", ".join(
                f"{entry.value:+.2f}{f' {entry.verdict}' if entry.verdict else ''} at k={k}"
                for k, entry in zip(sizes, entries, strict=True)
                if entry.value is not None
            )
            end = _end_of_gain(sizes, entries)
            reached = f"k={end.value:.0f}" if end.value is not None else end.note
            parts.append(f"{regime}: {shown}; first k whose interval is not above 0: {reached}")
        headline = f"{'. '.join(parts)}. {summary.headline[:1].upper()}{summary.headline[1:]}"
        return Answer(headline, summary.verdict, summary.exception, summary.limits)


def _regimes(finished: FinishedCells) -> list[str]:
    """The regimes with shots; those of English alone where there is no other."""
    regimes = [regime for regime in finished.axis("regime") if regime != ENGLISH]
    return regimes or [ENGLISH]


def _buckets(finished: FinishedCells) -> list[str]:
    return [bucket for bucket in finished.axis("bucket") if bucket != NO_BUCKET]


def _sizes(finished: FinishedCells, regime: str) -> list[str]:
    """The numbers of shots of a regime, in ascending order; 0 where English is trained on."""
    sizes = sorted(finished.axis("k"), key=int)
    if regime == ENGLISH:
        return [k for k in sizes if k == "0"]
    return sizes if regime in (SEQUENTIAL, JOINT) else [k for k in sizes if k != "0"]


def _places(finished: FinishedCells, method: str) -> list[dict[str, str]]:
    """Every task and language that has cells, for a method."""
    pairs = dict.fromkeys(
        (dict(cell.cell.point)["task"], dict(cell.cell.point)["language"])
        for cell in finished.cells
    )
    return [{"task": task, "language": code, "method": method} for task, code in pairs]


def _mean_point(place: Mapping[str, str], k: str, regime: str) -> dict[str, str]:
    """The point that names the mean over the buckets."""
    if k == "0":
        return {**place, "k": k, "bucket": NO_BUCKET, "regime": ENGLISH}
    return {**place, "k": k, "bucket": ALL_BUCKETS, "regime": regime}


def _points(
    finished: FinishedCells, place: Mapping[str, str], k: str, regime: str
) -> list[dict[str, str]]:
    """The points of a place and k: one for each bucket."""
    mean = _mean_point(place, k, regime)
    return [mean] if k == "0" else [{**mean, "bucket": bucket} for bucket in _buckets(finished)]


def _end_of_gain(sizes: Sequence[str], entries: Sequence[Entry]) -> Entry:
    """The first k whose gain's interval includes 0 or lies below it; without a number where there
    is none, or where one seed gives no interval.
    """
    for k, entry in zip(sizes, entries, strict=True):
        if entry.low is None:
            return Entry(note=entry.note or "no interval")
        if entry.low <= 0:
            return Entry(float(k))
    return Entry(note=f"a gain at every k up to {sizes[-1]}" if sizes else "no k")


def _mean_gain(finished: FinishedCells, k: str, regime: str) -> Entry:
    """The gain at a k: the mean over methods, tasks, languages and intermediate tasks."""
    of: list[Mapping[str, str]] = []
    against: list[Mapping[str, str]] = []
    for method in finished.axis("method"):
        for place in _places(finished, method):
            for on in finished.axis("on"):
                if on != "none":
                    of += _points(finished, {**place, "on": on}, k, regime)
                    against += _points(finished, {**place, "on": "none"}, k, regime)
    return finished.mean_difference(of, against) if of else Entry(note="no intermediate task")


def _curve(finished: FinishedCells, place: Mapping[str, str], regime: str) -> Series:
    points = []
    for k in _sizes(finished, regime):
        cells = _points(finished, place, k, regime)
        mean = finished.mean_score(cells)
        means = [entry.value for entry in map(finished.score, cells) if entry.value is not None]
        low, high = (min(means), max(means)) if len(means) > 1 else (None, None)
        points.append(Point(float(k), mean.value, low, high, note=mean.note))
    return Series(f"{place['language']}, {place['on']}", tuple(points))


STUDY = FewShot()
