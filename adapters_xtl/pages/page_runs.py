"""The runs of a store as parts of the page: scores, curves, costs, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adapters_xtl import tasks
from adapters_xtl.base import statistics
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import read_regular
from adapters_xtl.grid.results import Entry, Figure, Line, Table
from adapters_xtl.pages import run_figures
from adapters_xtl.pages.page_parts import Facts, Listing, Part, Section
from adapters_xtl.pages.page_tables import Cost, anchor, plot, table
from adapters_xtl.pages.run_figures import RunGroup
from adapters_xtl.runs.store import FAILED, Store
from adapters_xtl.runs.stored_runs import StoredRun

__all__ = [
    "cost",
    "curves",
    "damaged_section",
    "failed_runs",
    "learning_section",
    "overview",
    "split_series",
    "store_sections",
]

_SERIES = 8  # lines of one figure, after which another begins
_MEAN = "mean"


# ---------------------------------------------------------------------------- a store, task by task


def store_sections(runs: Sequence[StoredRun]) -> list[Section]:
    """A section a task: its scores by setting and language, its curves, score against memory."""
    scored: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        for task, scores in run.metrics.tasks.items():
            scored.setdefault((task, scores.split), []).append(run)
    sections = []
    for (task, split), members in sorted(scored.items()):
        parts: list[Part] = [table(score_table(members, task, split), prefix="store")]
        bars = run_figures.language_bars(members, task, split, name=f"languages-{task}-{split}")
        if bars is not None and _several_categories(bars):
            parts += [plot(part, prefix="store") for part in split_series(bars)]
        memory = run_figures.score_against_memory(
            [*members, *(run for run in runs if run not in members)],
            task,
            split,
            name=f"memory-{task}-{split}",
        )
        if memory is not None and sum(len(series.points) for series in memory.series) > 1:
            parts.append(plot(memory, prefix="store"))
        sections.append(
            Section(anchor("task", task, split), _task_title(task, split), tuple(parts), short=task)
        )
    return sections


def _task_title(task: str, split: str) -> str:
    try:
        return f"{task}: {tasks.load(task).title}, {split}"
    except XtlError:  # a task that is not here any more
        return f"{task}, {split}"


def _several_categories(figure: Figure) -> bool:
    return len({point.x for series in figure.series for point in series.points}) > 1


def score_table(runs: Sequence[StoredRun], task: str, split: str) -> Table:
    """A line a setting; the mean over the languages, then every language. Means over seeds."""
    groups = run_figures.groups(runs)
    codes = dict.fromkeys(code for run in runs for code in run.metrics.tasks[task].languages)
    ordered = sorted(codes, key=lambda code: (code != run_figures.ENGLISH, code))
    metric = runs[0].metrics.tasks[task].metric
    columns = (_MEAN, *ordered) if len(ordered) > 1 else tuple(ordered)
    values = [[_values(group, task, column) for column in columns] for group in groups]
    best = [
        max((_mean(row[place]) for row in values if row[place]), default=None)
        for place in range(len(columns))
    ]
    several = len(groups) > 1
    selected = any(run.metrics.tasks[task].selected_on for run in runs)
    return Table(
        name=f"{task}-{split}",
        title=f"{task}: {metric} (0-100) by setting and language",
        corner="setting",
        columns=columns,
        lines=tuple(
            Line(
                group.name,
                tuple(
                    _entry(
                        cell,
                        best=several and bool(cell) and _mean(cell) == best[place],
                        first=not place,
                    )
                    for place, cell in enumerate(row)
                ),
            )
            for group, row in zip(groups, values, strict=True)
        ),
        notes=(
            "means over the seeds of a setting, with 95 % t-intervals over seeds",
            *(["the same rows chose the checkpoint: optimistic"] if selected else []),
        ),
    )


def _values(group: RunGroup, task: str, column: str) -> list[float]:
    entries = [run.metrics.tasks[task] for run in group.runs]
    if column == _MEAN:
        return [entry.score for entry in entries]
    return [
        float(entry.languages[column][entry.metric])
        for entry in entries
        if entry.metric in entry.languages.get(column, {})
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _entry(values: Sequence[float], *, best: bool, first: bool) -> Entry:
    """`first`: of the first column, which alone says of how many seeds the line is."""
    if not values:
        return Entry(note="not scored")
    bounds = statistics.interval(list(values))
    note = ("one seed" if len(values) == 1 else f"{len(values)} seeds") if first else ""
    return Entry(
        _mean(values),
        bounds.low if bounds else None,
        bounds.high if bounds else None,
        best=best,
        note=note,
    )


# ---------------------------------------------------------------------------- curves and costs


def curves(
    runs: Sequence[StoredRun], logs: Mapping[str, Sequence[run_figures.LogLine]]
) -> list[Figure]:
    """Loss and select score over the steps, a figure of each for each task that was trained."""
    trained: dict[str, list[StoredRun]] = {}
    for run in runs:
        if run.spec.kind == "training" and logs.get(run.spec.id):
            trained.setdefault(run.spec.task, []).append(run)
    drawn = []
    for task, members in sorted(trained.items()):
        quantities: tuple[tuple[run_figures.Quantity, str], ...] = (
            ("loss", "training loss"),
            ("eval_score", "score on the select rows"),
        )
        for quantity, words in quantities:
            figure = run_figures.learning_curves(
                members,
                logs,
                quantity,
                name=f"curve-{task}-{quantity}",
                title=f"{task}: {words}",
            )
            if figure is not None and any(len(series.points) > 1 for series in figure.series):
                drawn += split_series(figure)
    return drawn


def split_series(figure: Figure) -> list[Figure]:
    """The figure, or several where it has more series than can be told apart."""
    many = len(figure.series)
    if many <= _SERIES:
        return [figure]
    parts = [figure.series[place : place + _SERIES] for place in range(0, many, _SERIES)]
    return [
        replace(
            figure,
            name=f"{figure.name}-{number}",
            title=f"{figure.title} ({number} of {len(parts)})",
            series=series,
        )
        for number, series in enumerate(parts, start=1)
    ]


def learning_section(runs: Sequence[StoredRun], prefix: str = "") -> tuple[list[Part], list[str]]:
    """(curves of all runs, logs that cannot be read, one sentence each)."""
    logs, unreadable = {}, []
    for run in runs:
        try:
            logs[run.spec.id] = run_figures.read_log(run.path)
        except (XtlError, OSError) as error:
            unreadable.append(str(error).replace(f"{run.path.parent.parent}/", ""))
    return [plot(figure, prefix=prefix) for figure in curves(runs, logs)], unreadable


def cost(runs: Iterable[StoredRun]) -> list[Cost]:
    """What each setting's training took."""
    trained = [run for run in runs if run.metrics.train is not None]
    costs = []
    for group in run_figures.groups(trained):
        records = [run.metrics.train for run in group.runs if run.metrics.train is not None]
        joules = [record.energy_joules for record in records if record.energy_joules is not None]
        seconds = sum(record.seconds for record in records)
        costs.append(
            Cost(
                label=group.name,
                seeds=len(records),
                gpu=any(run.provenance.device not in ("", "cpu") for run in group.runs),
                seconds=seconds / len(records),
                examples_per_second=(
                    sum(record.examples for record in records) / seconds if seconds else None
                ),
                joules=_mean(joules) if len(joules) == len(records) else None,
                peak_bytes=max(record.measured_peak_bytes for record in records),
                parameters=records[0].trainable_parameters,
                stored_bytes=_mean([float(record.stored_bytes) for record in records]),
            )
        )
    return costs


# ---------------------------------------------------------------------------- what went wrong


def damaged_section(damaged: Mapping[Path, str], root: Path) -> Section | None:
    """The runs that cannot be read, with what is wrong with each."""
    if not damaged:
        return None
    entries = tuple(
        (f"{path.parent.name}/{path.name}", reason.replace(f"{root}/", ""))
        for path, reason in sorted(damaged.items())
    )
    return Section("damaged", "Damaged runs", (Listing(entries, tone="bad"),), short="Damaged")


def failed_runs(store: Store) -> Listing | None:
    """Runs that ended with an error and are kept under failed/, with the error."""
    entries = []
    for path in sorted((store.root / FAILED).glob("*/error.txt")):
        try:
            text = read_regular(path).decode(errors="replace").strip()
        except OSError as error:
            text = f"error.txt cannot be read ({error.strerror})"
        entries.append((path.parent.name.rpartition("-")[0], text))
    return Listing(tuple(entries), tone="bad") if entries else None


def overview(runs: Sequence[StoredRun], damaged: int, studies: Sequence[str]) -> Facts:
    """How many runs there are, of what; `studies`: directories of studies below the store."""
    trained = sum(run.spec.kind == "training" for run in runs)
    tasks_of = dict.fromkeys(sorted(run.spec.task for run in runs))
    backbones = dict.fromkeys(run.spec.backbone.name for run in runs)
    sources = dict.fromkeys(run.spec.data for run in runs)
    pairs = [
        ("runs", f"{len(runs)}: {trained} trainings, {len(runs) - trained} evaluations"),
        ("tasks", ", ".join(tasks_of) or "none"),
        ("backbones", ", ".join(backbones) or "none"),
        ("data", ", ".join(sources) or "none"),
    ]
    if damaged:
        pairs.append(("damaged", str(damaged)))
    if studies:
        pairs.append(("studies", f"{', '.join(studies)} (xtl page DIR makes a page of one)"))
    return Facts(tuple(pairs))
