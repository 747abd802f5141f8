"""The rows of a plan's runs, each file read and checked once, and what was left out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.shots import JOINT, DrawnShots, ShotDraw
from adapters_xtl.data.sources import Source
from adapters_xtl.data.splits import CheckedSplit, TrainingRows, count_overlap
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.records import RowsCount, RowsRecord, ShotsRecord
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.tasks._own_rows import SELECTING as OWN_SELECTING

__all__ = ["RunRows", "data_record", "notify_left_out", "read_rows"]


@dataclass
class RunRows:
    """The rows of one run, task → rows: what it trains on, selects by and is scored on.

    training  task → everything that its training reads, its stages and what select lost too;
              `train` and `select` are parts of it
    report    task → language → rows
    lacking   task → language → why the source has no rows of it
    overlap   task → number of select rows that are reported too
    leaked    task → number of train rows that are reported too, for rows of one's own
    """

    training: dict[str, TrainingRows] = field(default_factory=dict)
    train: dict[str, CheckedSplit] = field(default_factory=dict)
    select: dict[str, CheckedSplit] = field(default_factory=dict)
    report: dict[str, dict[str, CheckedSplit]] = field(default_factory=dict)
    lacking: dict[str, dict[str, str]] = field(default_factory=dict)
    overlap: dict[str, int] = field(default_factory=dict)
    leaked: dict[str, int] = field(default_factory=dict)


def read_rows(plan: Plan, pending: Sequence[Module]) -> dict[str, RunRows]:
    """Run id → its rows, for every training in `pending` and, where the plan ends with an
    evaluation, for that one.

    RequestError with every problem of the rows, one a line.
    """
    problems = Problems()
    reader = Reader(strict=plan.request.strict)
    rows_by_run: dict[str, RunRows] = {}
    for module in pending:
        rows = rows_by_run[module.id] = RunRows()
        for name, files in module.members.items():
            try:
                rows.training[name] = read_training(
                    reader,
                    tasks.load(name),
                    files,
                    tasks.load,
                    _draw(module.run.hyper),
                    joined=module.run.hyper.shot_regime == JOINT,
                )
                rows.train[name] = rows.training[name].train
                rows.select[name] = rows.training[name].select
            except DataError as error:
                problems.catch(error)
        if module.evaluation is not None:
            _read_report(plan, module.evaluation, reader, rows, problems)
    if not (plan.inline and plan.target in pending):
        rows = rows_by_run[plan.evaluation.id] = RunRows()
        _read_report(plan, plan.evaluation, reader, rows, problems)
    problems.raise_if_any()
    return rows_by_run


def _draw(hyper: Hyper) -> ShotDraw | None:
    """Which shots a training gets; None without any."""
    if not hyper.shots:
        return None
    return ShotDraw(hyper.shot_language, hyper.shots, hyper.shot_bucket)


def _read_report(
    plan: Plan, evaluation: Evaluation, reader: Reader, rows: RunRows, problems: Problems
) -> None:
    for name, files in evaluation.files.items():
        task = tasks.load(name)
        try:
            rows.report[name], without = read_report(reader, task, files)
            rows.lacking[name] = {**evaluation.lacking.get(name, {}), **without}
            if without and (evaluation.explicit or not rows.report[name]):
                for complaint in without.values():
                    problems.add(complaint)
            if name in rows.select:
                rows.overlap[name] = count_overlap(
                    task, rows.select[name], rows.report[name].values()
                )
            elif task.own is not None and evaluation.splits[name] == OWN_SELECTING:
                parts = rows.report[name].values()
                rows.overlap[name] = sum(len(part.examples) for part in parts)
            if task.own is not None and name in rows.train:
                reported = rows.report[name].values()
                if leaked := count_overlap(task, rows.train[name], reported):
                    rows.leaked[name] = leaked
        except DataError as error:
            problems.catch(error)


def data_record(plan: Plan, rows: RunRows) -> RowsRecord:
    """What provenance.json says under "data": forms, revisions, numbers of rows and what was left
    out of them.
    """

    def counts(splits: Mapping[str, CheckedSplit]) -> dict[str, RowsCount]:
        return {name: _count(split) for name, split in splits.items()}

    source = plan.source_of(next(iter((*rows.training, *rows.report)), plan.task))
    return RowsRecord(
        source=source.kind,
        revisions=source.revisions(),
        train=counts(rows.train),
        select=counts(rows.select),
        report={task: counts(by_language) for task, by_language in rows.report.items()},
        lacking={task: tuple(sorted(by)) for task, by in rows.lacking.items() if by},
        select_of_earlier_stages={
            task: tuple(map(_count, training.earlier))
            for task, training in rows.training.items()
            if training.earlier
        },
        dropped_from_select={
            task: training.dropped for task, training in rows.training.items() if training.dropped
        },
        select_not_checked_against={
            task: training.unchecked
            for task, training in rows.training.items()
            if training.unchecked
        },
        select_rows_also_reported=rows.overlap,
        train_rows_also_reported=rows.leaked,
        in_languages={
            task: training.in_languages
            for task, training in rows.training.items()
            if training.in_languages
        },
        matched_by={
            task: training.matched_by
            for task, training in rows.training.items()
            if training.matched_by
        },
        dropped_from_train={
            task: training.dropped_from_train
            for task, training in rows.training.items()
            if training.dropped_from_train
        },
        protocol=plan.request.protocol,
        shots={
            task: _shots(training.shots)
            for task, training in rows.training.items()
            if training.shots is not None
        },
    )


def _shots(drawn: DrawnShots) -> ShotsRecord:
    return ShotsRecord(
        language=drawn.draw.language,
        per_class=drawn.draw.per_class,
        bucket=drawn.draw.bucket,
        forms=tuple(drawn.split.forms),
        pool=drawn.pool,
        rows=drawn.digests,
    )


def _count(split: CheckedSplit) -> RowsCount:
    return RowsCount(
        rows=split.rows,
        examples=len(split.examples),
        left_out=dict(split.faults),
        kept_though=dict(split.kept),
        forms=tuple(split.forms),
    )


def notify_left_out(source: Source, rows: RunRows, notify: Callable[[str], None]) -> None:
    """Notifies, a line each, which rows were left out, scored though unfit, dropped or lacking, and
    where the source had them from another revision than usual.
    """
    for note in source.notes():
        notify(note)
    named = [(f"{name} train", part) for name, part in rows.train.items()]
    named += [(f"{name} select", part) for name, part in rows.select.items()]
    named += [
        (f"{name} report {lang}", part)
        for name, by in rows.report.items()
        for lang, part in by.items()
    ]
    for where, part in named:
        for reason, count in part.faults.items():
            notify(f"{where}: {count} of {part.rows} rows left out: {reason}")
        for reason, count in part.kept.items():
            notify(f"{where}: {count} of {part.rows} rows scored though unfit: {reason}")
    for name, training in rows.training.items():
        for language, count in training.in_languages.items():
            origin = tasks.load(name).train_in[language].origin
            notify(f"{name}: trained in {language} ({origin}), {count} rows")
        for reporting, count in training.dropped_from_train.items():
            notify(f"{name}: {count} train rows dropped: {reporting} reports them")
        for reporting, count in training.dropped.items():
            notify(f"{name}: {count} select rows dropped: {reporting} reports them")
        for reported, reason in training.unchecked.items():
            notify(f"{name}: select rows are not compared with {reported}: {reason}")
    for name, by in rows.lacking.items():
        if by:
            notify(f"{name}: this source lacks {', '.join(sorted(by))}")
    for name, count in rows.leaked.items():
        notify(
            f"{name}: {count} train rows are also reported: the score is that of rows it has seen"
        )
    for name, count in rows.overlap.items():
        if count:
            notify(
                f"{name}: {count} select rows are also reported: the score of that split is"
                " optimistic"
            )
