"""What the rows of a study's record give: tables, figures, costs and settings.

They stand in for the tables and figures that a record has none of: one of `xtl compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xtl.base.statistics import Verdict
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.pages import run_figures
from adapters_xtl.pages.page_parts import Cell, Column, Grid, Row
from adapters_xtl.pages.page_record import Difference, Score, StudyRecord, StudyRow
from adapters_xtl.pages.page_runs import split_series
from adapters_xtl.pages.page_tables import Cost
from adapters_xtl.pages.page_values import joined, point_text, value_text

__all__ = [
    "by_setting",
    "costs",
    "heat_maps",
    "is_of_languages",
    "language_bars",
    "memory_plots",
    "published_table",
    "score_tables",
    "settings_table",
]

_GIB = 2**30
_VERDICTS: tuple[Verdict, ...] = ("higher", "lower", "equivalent", "inconclusive")
# settings of the training that a reader compares, in this order
_HYPER = ("lr", "epochs", "max_steps", "batch_size", "max_length", "max_examples")
_AVERAGES = {
    "mean": "mean over the tasks",
    "mean_without_retrieval": "without retrieval",
    "mean_retrieval": "retrieval",
}


def setting(row: StudyRow, rows: Iterable[StudyRow]) -> str:
    """Method, bits and parents of a row: what tells it from the task's other rows."""
    method = "bare backbone" if row.method == "none" else row.method
    on = f" on {'>'.join(row.parents)}" if row.parents else ""
    bits = {other.bits for other in rows}
    at = f", {row.bits} bits" if len(bits) > 1 and row.bits else ""
    return f"{method}{on}{at}" if method else point_text(row.point)


def by_setting(record: StudyRecord) -> dict[str, dict[str, StudyRow]]:
    """Setting → task → row; settings that the row does not tell apart are told by their points."""
    settings: dict[str, dict[str, StudyRow]] = {}
    for row in record.rows:
        name = setting(row, record.rows)
        if row.task in settings.get(name, {}):
            name = f"{name} ({point_text(row.point)})" if row.point else f"{name} (again)"
        settings.setdefault(name, {})[row.task] = row
    return settings


def score_tables(record: StudyRecord) -> list[Table]:
    """Scores of every setting on every task; differences to full and to no parents."""
    settings = by_setting(record)
    tasks = tuple(dict.fromkeys(row.task for row in record.rows))
    if not settings:
        return []
    means = {
        task: [row.score.mean for row in record.rows if row.task == task and row.score is not None]
        for task in tasks
    }
    best = {task: max(scores) if len(scores) > 1 else None for task, scores in means.items()}
    metrics = "; ".join(
        dict.fromkeys(f"{row.task}: {row.metric}, {row.split}" for row in record.rows)
    )
    tables = [
        Table(
            "scores",
            "Scores (0-100), mean over seeds",
            "setting",
            tasks,
            tuple(
                Line(name, tuple(_score(rows.get(task), best[task]) for task in tasks))
                for name, rows in settings.items()
            ),
            (metrics, f"below a score: its {record.level:.0%} t-interval over seeds"),
        )
    ]
    for name, title, of in (
        ("gap-to-full", "Difference to full fine-tuning on the same parents", "gap_to_full"),
        ("gain", "Difference to the same method without parents", "gain_over_no_parents"),
    ):
        lines = tuple(
            Line(
                setting,
                tuple(_difference(getattr(rows.get(task), of, None)) for task in tasks),
                difference=True,
            )
            for setting, rows in settings.items()
            if any(getattr(row, of) is not None for row in rows.values())
        )
        if lines:
            tables.append(Table(name, title, "setting", tasks, lines, ("paired over the seeds",)))
    return [*tables, *_averages(record)]


def _averages(record: StudyRecord) -> list[Table]:
    """Means over the tasks of each setting that has all of them."""
    if not record.averages:
        return []
    kinds = [kind for kind in _AVERAGES if any(getattr(entry, kind) for entry in record.averages)]
    best = {
        kind: max(getattr(entry, kind).mean for entry in record.averages if getattr(entry, kind))
        for kind in kinds
    }
    lines = []
    for entry in record.averages:
        on = f" on {'>'.join(entry.parents)}" if entry.parents else ""
        scores = [getattr(entry, kind) for kind in kinds]
        lines.append(
            Line(
                f"{entry.method}{on}, {entry.bits or 'mixed'} bits",
                tuple(
                    _score_entry(score, best[kind])
                    for kind, score in zip(kinds, scores, strict=True)
                ),
            )
        )
    headings = tuple(_AVERAGES[kind] for kind in kinds)
    return [Table("averages", "Averages over the tasks", "setting", headings, tuple(lines))]


def _score(row: StudyRow | None, best: float | None) -> Entry:
    return _score_entry(row.score if row is not None else None, best)


def _score_entry(score: Score | None, best: float | None) -> Entry:
    if score is None:
        return Entry(note="not run")
    bounds = score.interval
    return Entry(
        score.mean,
        bounds[0] if bounds else None,
        bounds[1] if bounds else None,
        best=best is not None and score.mean == best,
        note="one seed" if score.n == 1 else "",
    )


def _difference(difference: Difference | None) -> Entry:
    if difference is None:
        return Entry(note="not compared")
    bounds = difference.interval
    return Entry(
        difference.mean,
        bounds[0] if bounds else None,
        bounds[1] if bounds else None,
        verdict=next((word for word in _VERDICTS if word == difference.verdict), ""),
        note="one seed" if len(difference.seeds) == 1 else "",
    )


def heat_maps(record: StudyRecord) -> list[Figure]:
    """Of a record with parents: what each setting gains by them, task by task."""
    for content in score_tables(record):
        if content.name == "gain":
            return [
                Figure(
                    "gain-map",
                    "heatmap",
                    content.title,
                    table=content,
                    caption="Hatched: inconclusive, the interval includes 0.",
                )
            ]
    return []


def is_of_languages(figure: Figure) -> bool:
    return figure.kind in ("bars", "dumbbell") and any(
        point.x == run_figures.ENGLISH for series in figure.series for point in series.points
    )


def language_bars(record: StudyRecord) -> list[Figure]:
    """Scores by language of each task, sorted by the gap to English."""
    drawn: list[Figure] = []
    tasks = dict.fromkeys((row.task, row.split, row.metric) for row in record.rows)
    for task, split, metric in tasks:
        rows = {
            name: by_task[task]
            for name, by_task in by_setting(record).items()
            if task in by_task and by_task[task].split == split and len(by_task[task].languages) > 1
        }
        if not rows:
            continue
        codes = dict.fromkeys(code for row in rows.values() for code in row.languages)
        gaps = {code: _gap(code, list(rows.values())) for code in codes}
        ordered = sorted(codes, key=lambda code: (gaps[code], code))
        drawn += split_series(
            Figure(
                name=f"languages-{task}-{split}",
                kind="bars",
                title=f"{task}: score by language",
                x_label="language, by its gap to English",
                y_label=f"{metric}, {split} (0-100)",
                series=tuple(
                    Series(name, tuple(_bar(code, row) for code in ordered))
                    for name, row in rows.items()
                ),
                caption="Means over seeds; languages with the smallest gap to English first.",
            )
        )
    return drawn


def _bar(code: str, row: StudyRow) -> Point:
    value = row.languages.get(code)
    return Point(code, value, note="" if value is not None else "not scored")


def _gap(code: str, rows: Sequence[StudyRow]) -> float:
    """English minus the language, a mean over the rows; minus the score without English."""
    english = any(run_figures.ENGLISH in row.languages for row in rows)
    gaps = [
        row.languages.get(run_figures.ENGLISH, 0.0) - row.languages[code]
        for row in rows
        if code in row.languages and (run_figures.ENGLISH in row.languages or not english)
    ]
    return sum(gaps) / len(gaps) if gaps else float("inf")


def memory_plots(record: StudyRecord) -> list[Figure]:
    """Score against peak memory, a figure a task."""
    drawn = []
    measured = [
        row
        for row in record.rows
        if row.peak_memory_bytes and row.stored_bytes is not None and row.score is not None
    ]
    for task in dict.fromkeys(row.task for row in measured):
        rows = [row for row in measured if row.task == task]
        if len(rows) < 2:  # there is nothing to compare
            continue
        series = []
        for method in dict.fromkeys(row.method for row in rows):
            points = [
                Point(
                    x=(row.peak_memory_bytes or 0.0) / _GIB,
                    y=row.score.mean,
                    low=row.score.interval[0] if row.score.interval else None,
                    high=row.score.interval[1] if row.score.interval else None,
                    note=setting(row, record.rows),
                    area=row.stored_bytes or 0.0,
                )
                for row in rows
                if row.method == method and row.score is not None
            ]
            series.append(Series(method, tuple(points)))
        drawn.append(
            Figure(
                name=f"memory-{task}",
                kind="scatter",
                title=f"{task}: score against memory",
                x_label="measured peak memory in training (GiB)",
                y_label=f"{rows[0].metric}, {rows[0].split} (0-100)",
                series=tuple(series),
                caption=f"Vertical lines: {record.level:.0%} t-intervals over seeds. A dot's area"
                " is the bytes of the module's files.",
            )
        )
    return drawn


def costs(record: StudyRecord) -> list[Cost]:
    return [
        Cost(
            label=f"{row.task}: {name}",
            seeds=row.score.n if row.score else len(row.runs),
            gpu=record.device not in ("", "cpu"),
            seconds=row.seconds,
            examples_per_second=row.examples_per_second,
            joules=row.energy_joules,
            peak_bytes=row.peak_memory_bytes,
            parameters=row.trainable_parameters,
            stored_bytes=row.stored_bytes,
            stack_bytes=row.stack_bytes,
        )
        for name, by_task in by_setting(record).items()
        for row in by_task.values()
        if row.seconds is not None
    ]


# ---------------------------------------------------------------------------- settings, published


def settings_table(record: StudyRecord, name: str) -> Grid | None:
    """How each row was trained: where its settings come from, and the ones that matter most."""
    trained = [
        (f"{row.task}: {setting_name}", row)
        for setting_name, by_task in by_setting(record).items()
        for row in by_task.values()
        if row.hyper
    ]
    if not trained:
        return None
    shown = [key for key in _HYPER if any(key in row.hyper for _, row in trained)]
    return Grid(
        name=name,
        title="Settings of the trainings",
        columns=(
            Column("setting", numeric=False),
            Column("from", numeric=False),
            *(Column(key.replace("_", " ")) for key in shown),
            Column("options", numeric=False),
        ),
        rows=tuple(
            Row(
                Cell(label),
                (
                    Cell(row.settings or "–", note=point_text(row.tuned) if row.tuned else ""),
                    *(_setting_cell(row.hyper.get(key)) for key in shown),
                    Cell(point_text(row.options) or "–"),
                ),
            )
            for label, row in trained
        ),
        notes=(
            "from: given with the command, tuned by equal trials (the chosen values below), or the"
            " recipes' defaults",
            "max steps 0: as the epochs give; max examples 0: all",
        ),
    )


def _setting_cell(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(f"{value:g}", float(value)) if number else Cell(value_text(value))


def published_table(record: StudyRecord, name: str) -> Grid | None:
    """Figures of the literature on the same tasks, with what they are marked by."""
    figures = record.published.get("figures")
    if not isinstance(figures, list) or not figures:
        return None
    keys = ("metric", "value", "mark", "model", "split", "source")
    marks = record.published.get("marks")
    legend = point_text(marks) if isinstance(marks, Mapping) else ""
    return Grid(
        name=name,
        title="Published figures",
        columns=(
            Column("task", numeric=False),
            *(Column(key, numeric=key == "value") for key in keys),
        ),
        rows=tuple(
            Row(
                Cell(joined(figure.get("task"))),
                tuple(_published_cell(figure.get(key)) for key in keys),
            )
            for figure in figures
            if isinstance(figure, Mapping)
        ),
        notes=tuple(filter(None, (joined(record.published.get("note")), legend))),
    )


def _published_cell(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(f"{value:.1f}", float(value)) if number else Cell(joined(value) or "–")
