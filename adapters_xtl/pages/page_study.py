"""A study's record as sections of the page: question and answer, tables, figures, costs, failures.

A record that has no tables and figures of its own (one of `xtl compare`) gets those that its rows
give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters_xtl.base.statistics import Verdict
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.pages import run_figures
from adapters_xtl.pages.page_parts import (
    Answer,
    Cell,
    Column,
    Command,
    Facts,
    Grid,
    Listing,
    Part,
    Row,
    Section,
    Text,
)
from adapters_xtl.pages.page_record import Contrast, Difference, StudyRecord, StudyRow
from adapters_xtl.pages.page_runs import split_series
from adapters_xtl.pages.page_tables import Cost, amount, cost_table, plot, table
from adapters_xtl.pages.table_text import one_line

__all__ = ["run_names", "study_sections", "title_of"]

_GIB = 2**30
_VERDICTS: tuple[Verdict, ...] = ("higher", "lower", "equivalent", "inconclusive")


def title_of(record: StudyRecord) -> str:
    """The question; without one what the record calls itself."""
    return one_line(record.question or record.title or record.study or "Study")


def run_names(record: StudyRecord) -> list[str]:
    """`task/id` of every run that the record names: those that scored, then those that trained."""
    scored = [run.run for row in record.rows for run in row.runs]
    trained = [run.module for row in record.rows for run in row.runs if run.module]
    return list(dict.fromkeys([*scored, *trained]))


def study_sections(record: StudyRecord, prefix: str) -> list[Section]:
    """The sections of one study; their ids begin with `prefix`."""
    heat = [figure for figure in record.figures if figure.kind == "heatmap"]
    others = [figure for figure in record.figures if figure.kind != "heatmap"]
    results: list[Part] = [plot(figure, prefix=prefix) for figure in heat or _heat_maps(record)]
    results += [table(content, prefix=prefix) for content in record.tables or _score_tables(record)]
    memory = [] if any(figure.kind == "scatter" for figure in others) else _memory(record)
    bars = [] if any(_is_of_languages(figure) for figure in others) else _languages(record)
    languages = [plot(figure, prefix=prefix) for figure in bars]
    costs = cost_table(_costs(record), name=f"{prefix}-cost-table")
    contents: list[tuple[str, str, str, Sequence[Part | None]]] = [
        ("answer", "Answer", "", [_answer(record)]),
        ("asked", "What was asked", "Asked", _asked(record)),
        ("results", "Results", "", results),
        ("figures", "Figures", "", [plot(figure, prefix=prefix) for figure in others]),
        ("differences", "Differences", "", [_contrasts(record, prefix)]),
        ("languages", "Languages", "", languages),
        (
            "memory",
            "Score against memory and bytes",
            "Memory",
            [plot(figure, prefix=prefix) for figure in memory],
        ),
        ("cost", "Cost", "", [costs]),
        ("failed", "Failed and missing cells", "Failed", [_failures(record)]),
        ("notes", "Notes", "", [_notes(record)]),
    ]
    sections = []
    for name, title, short, parts in contents:
        kept = tuple(part for part in parts if part is not None)
        if kept:
            sections.append(Section(f"{prefix}-{name}", title, kept, short=short))
    return sections


# ---------------------------------------------------------------------------- question, answer


def _answer(record: StudyRecord) -> Answer | None:
    evidence = tuple(_texts(record.evidence.get("for")))
    no_evidence = tuple(_texts(record.evidence.get("not_for"))) or record.no_evidence
    answer = record.answer
    if answer is None and not evidence and not no_evidence:
        return None
    return Answer(
        headline=_joined(answer.headline) if answer else "",
        verdict=_joined(answer.verdict) if answer else "",
        exception=_joined(answer.exception) if answer else "",
        limits=_joined(answer.limits) if answer else "",
        evidence=evidence,
        no_evidence=tuple(no_evidence),
    )


def _asked(record: StudyRecord) -> list[Part]:
    states = [cell.state for cell in record.cells]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    pairs = [
        ("study", " ".join(filter(None, (record.study or record.kind, record.id)))),
        *((f"axis: {axis.name}", ", ".join(map(_value, axis.values))) for axis in record.axes),
        ("tasks", ", ".join(record.tasks)),
        ("seeds", ", ".join(map(str, record.seeds))),
        (
            "backbone",
            f"{record.backbone.name}, fingerprint {record.backbone.fingerprint[:12]}"
            if record.backbone.name
            else "",
        ),
        ("data", record.data),
        ("protocol", record.protocol),
        ("device", record.device),
        ("intervals", f"{record.level:.0%}, over seeds"),
        ("tuned", _tuned(record.tuning)),
        ("cells", f"{len(states)}: {counts}" if states else ""),
        ("took", f"{amount(record.seconds)} s" if record.seconds is not None else ""),
    ]
    parts: list[Part] = [Facts(tuple((name, one_line(text)) for name, text in pairs if text))]
    if record.title and record.title != title_of(record):
        parts.insert(0, Text((record.title,)))
    if record.command:
        parts.append(Command(record.command, "The command that made this study."))
    return parts


def _tuned(tuning: Any) -> str:
    if not isinstance(tuning, Mapping):
        return ""
    trials, seeds = tuning.get("trials"), tuning.get("seeds")
    if not isinstance(trials, Mapping):
        return ""
    parts = [
        f"{method}: " + " | ".join(_point(values) for values in choices)
        for method, choices in trials.items()
        if isinstance(choices, list)
    ]
    return "; ".join(parts) + (f"; seeds {_joined(seeds)}" if seeds else "")


def _contrasts(record: StudyRecord, prefix: str) -> Grid | None:
    if not record.contrasts:
        return None
    headings = ("difference", "seeds", "verdict", "p", "p after Holm", "after Holm")
    words = {"verdict", "after Holm"}
    return Grid(
        name=f"{prefix}-contrasts",
        title="Contrasts, paired over seeds",
        columns=(
            Column("contrast", numeric=False),
            *(Column(heading, numeric=heading not in words) for heading in headings),
        ),
        rows=tuple(_contrast(contrast) for contrast in record.contrasts),
        notes=(
            "difference: the first minus the second, in points, with its interval over seeds",
            "▲ higher, ▼ lower: the interval of the difference excludes 0",
        ),
    )


def _contrast(contrast: Contrast) -> Row:
    bounds = contrast.interval
    seeds = contrast.seeds if isinstance(contrast.seeds, list | tuple) else ()
    verdict = str(contrast.verdict or "")
    sides = f"{_point(contrast.of)} against {_point(contrast.against)}"
    difference = Cell("–", note="no number")
    if contrast.mean is not None:
        difference = Cell(
            f"{contrast.mean:+.2f}",
            contrast.mean,
            interval=f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]" if bounds and len(bounds) > 1 else "",
            note="one seed" if len(seeds) == 1 else "",
            verdict=verdict,
        )
    return Row(
        Cell(one_line(contrast.name) or sides, note=sides if contrast.name else ""),
        (
            difference,
            Cell(", ".join(map(str, seeds)) or "–", float(len(seeds))),
            Cell(verdict or "–"),
            _probability(contrast.p),
            _probability(contrast.p_holm),
            Cell(str(contrast.holm or "–")),
        ),
    )


def _probability(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.3g}", value)


def _failures(record: StudyRecord) -> Listing | None:
    """The cells that are not done, with their errors."""
    entries = [
        (f"{_point(cell.point)} ({cell.state})", "\n".join(map(_failure, cell.failures)))
        for cell in record.cells
        if cell.state != "done" or cell.failures
    ]
    if not any(cell.failures for cell in record.cells):
        entries += [(_failed_run(failure), _failure(failure)) for failure in record.failed]
    entries += [(f"{task} (left out)", _joined(why)) for task, why in record.left_out.items()]
    return Listing(tuple(entries), tone="bad") if entries else None


def _failure(failure: Any) -> str:
    return str(failure.get("error", failure)) if isinstance(failure, Mapping) else str(failure)


def _failed_run(failure: Any) -> str:
    if not isinstance(failure, Mapping):
        return "run"
    parents = failure.get("parents") or ()
    on = f" on {'>'.join(map(str, parents))}" if isinstance(parents, list) and parents else ""
    seed = f", seed {failure['seed']}" if "seed" in failure else ""
    return f"{failure.get('task', 'run')}, {failure.get('method', '')}{on}{seed}"


def _notes(record: StudyRecord) -> Text | None:
    notes = [note for note in record.notes if note not in record.no_evidence]
    return Text(tuple(map(one_line, notes)), tone="note") if notes else None


# ---------------------------------------------------------------------------- rows


def _setting(row: StudyRow, rows: Iterable[StudyRow]) -> str:
    """Method, bits and parents of a row: what tells it from the task's other rows."""
    method = "bare backbone" if row.method == "none" else row.method
    on = f" on {'>'.join(row.parents)}" if row.parents else ""
    bits = {other.bits for other in rows}
    at = f", {row.bits} bits" if len(bits) > 1 and row.bits else ""
    return f"{method}{on}{at}" if method else _point(row.point)


def _by_setting(record: StudyRecord) -> dict[str, dict[str, StudyRow]]:
    """Setting → task → row; settings that the row does not tell apart are told by their points."""
    settings: dict[str, dict[str, StudyRow]] = {}
    for row in record.rows:
        name = _setting(row, record.rows)
        if row.task in settings.get(name, {}):
            name = f"{name} ({_point(row.point)})" if row.point else f"{name} (again)"
        settings.setdefault(name, {})[row.task] = row
    return settings


def _score_tables(record: StudyRecord) -> list[Table]:
    """Scores of every setting on every task; differences to full and to no parents."""
    settings = _by_setting(record)
    tasks = tuple(dict.fromkeys(row.task for row in record.rows))
    if not settings:
        return []
    best = {
        task: max(
            (row.score.mean for row in record.rows if row.task == task and row.score is not None),
            default=None,
        )
        for task in tasks
    }
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
    return tables


def _score(row: StudyRow | None, best: float | None) -> Entry:
    if row is None or row.score is None:
        return Entry(note="not run")
    bounds = row.score.interval
    return Entry(
        row.score.mean,
        bounds[0] if bounds else None,
        bounds[1] if bounds else None,
        best=row.score.mean == best,
        note="one seed" if row.score.n == 1 else "",
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


def _heat_maps(record: StudyRecord) -> list[Figure]:
    """Of a record with parents: what each setting gains by them, task by task."""
    for content in _score_tables(record):
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


def _is_of_languages(figure: Figure) -> bool:
    return figure.kind in ("bars", "dumbbell") and any(
        point.x == run_figures.ENGLISH for series in figure.series for point in series.points
    )


def _languages(record: StudyRecord) -> list[Figure]:
    """Scores by language of each task, sorted by the gap to English."""
    drawn: list[Figure] = []
    tasks = dict.fromkeys((row.task, row.split, row.metric) for row in record.rows)
    for task, split, metric in tasks:
        rows = {
            name: by_task[task]
            for name, by_task in _by_setting(record).items()
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


def _memory(record: StudyRecord) -> list[Figure]:
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
                    note=_setting(row, record.rows),
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


def _costs(record: StudyRecord) -> list[Cost]:
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
        for name, by_task in _by_setting(record).items()
        for row in by_task.values()
        if row.seconds is not None
    ]


# ---------------------------------------------------------------------------- values as text


def _point(point: Any) -> str:
    """A point of the grid: `method lora, task xnli`."""
    if not isinstance(point, Mapping):
        return _joined(point)
    return ", ".join(f"{name} {_value(value)}" for name, value in point.items())


def _value(value: Any) -> str:
    if value is None or value == [] or value == "":
        return "none"
    return _joined(value) if not isinstance(value, list | tuple) else ">".join(map(_value, value))


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _joined(value: Any) -> str:
    return one_line(", ".join(_texts(value)))
