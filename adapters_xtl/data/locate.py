"""Which files hold a task's train, select and report rows in a source. No row is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.base.files import digest
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.repository import DataFile, MissingRows
from adapters_xtl.data.sources import Embedded, Repositories, Source
from adapters_xtl.data.splits import ReportedRows, declared_reports, declared_select, known_ids
from adapters_xtl.tasks import TOGETHER, Rows, Task

__all__ = [
    "LanguageFiles",
    "RowFiles",
    "ShotFiles",
    "TrainingFiles",
    "locate",
    "locate_language",
    "locate_report",
    "locate_training",
    "sample_languages",
    "sample_rows",
    "why_unchecked",
]


@dataclass(frozen=True)
class RowFiles:
    """The files that hold one set of rows: the form that the source has, and its files by split
    name or part. `language`: of a sample file with train rows of several languages, the one that is
    meant.
    """

    rows: Rows
    files: Mapping[str, Sequence[DataFile]]
    language: str = ""

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(file.sha256 for group in self.files.values() for file in group)


@dataclass(frozen=True)
class ShotFiles:
    """Files that shots of one language are drawn from.

    pool      the rows that may be shots
    reported  the task's report rows in that language, none of which is a shot
    """

    pool: tuple[RowFiles, ...]
    reported: tuple[RowFiles, ...]


@dataclass(frozen=True)
class LanguageFiles:
    """Files of one task's training in one language. `select`: None where a slice of train selects.

    reported  report rows of this language that train and select rows are held against
    """

    train: RowFiles
    select: RowFiles | None
    reported: tuple[tuple[ReportedRows, RowFiles], ...] = ()


@dataclass(frozen=True)
class TrainingFiles:
    """Files of one task's training.

    select     () means that a slice of train selects
    reported   English report rows that select is held against (protocol `clean`)
    unchecked  reported rows that select cannot be held against → why (no path of this machine)
    shots      the rows that shots of another language are drawn from; None for a training without
    languages  languages that are trained in (`train.languages`); () for the task's English rows
    matched    languages whose rows these are made comparable with (`train.matched`)
    in_language  the files of each of them, where `languages` are given; `train` and `select` then
               hold those of the languages that are trained in
    """

    train: tuple[RowFiles, ...]
    select: tuple[RowFiles, ...]
    reported: tuple[tuple[ReportedRows, RowFiles], ...] = ()
    unchecked: Mapping[str, str] = field(default_factory=dict)
    shots: ShotFiles | None = None
    languages: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()
    in_language: Mapping[str, LanguageFiles] = field(default_factory=dict)

    def digests(self) -> dict[str, tuple[str, ...]]:
        """sha256 of everything that decides the train and the select rows."""
        reporting = {reported.task for reported, _ in self.reported}
        reporting |= {name.split()[0] for name in self.unchecked}
        ids = [digest(sorted(known_ids(task))) for task in sorted(reporting) if known_ids(task)]
        train, select = list(self.train), [*self.select, *(files for _, files in self.reported)]
        for language, files in self.in_language.items():
            if language not in self.languages:  # what is matched with decides on the rows as well
                train.append(files.train)
                select += [files.select] if files.select else []
            select += [located for _, located in files.reported]
        if self.shots is not None:
            train, select = [*train, *self.shots.pool], [*select, *self.shots.reported]
        return {
            "train": tuple(sha for files in train for sha in files.digests),
            "select": (*(sha for files in select for sha in files.digests), *ids),
        }

    def train_by_language(self) -> dict[str, tuple[RowFiles, ...]]:
        """Language → files with its train rows."""
        if not self.languages:
            return {"en": self.train}
        return {language: (self.in_language[language].train,) for language in self.languages}


def locate(source: Repositories, rows: Rows, code: str = "") -> RowFiles:
    """Where `rows` lie, `{code}` standing for the language that the source calls `code`;
    MissingRows when nowhere.
    """
    return RowFiles(*source.files(rows, code))


def locate_training(
    source: Source,
    task: Task,
    protocol: str,
    load: Callable[[str], Task],
    languages: tuple[str, ...] = (),
    matched: tuple[str, ...] = (),
    genres: tuple[str, ...] = (),
) -> TrainingFiles:
    """Where `task`'s train and select rows lie; MissingRows (all complaints, one a line) where the
    source lacks them.

    `languages`: those to train in, of `task.train_in`, instead of the task's English rows;
    `matched`: those that they are made comparable with, among them `languages`. `genres`: those of
    `task.genres` that train and select rows are of; (): all rows.
    """
    task = task.of_genres(genres)
    if isinstance(source, OwnFiles):
        train, select = map(_own_rows, source.training_rows())
        return TrainingFiles(train, select)
    if languages:
        return _training_in_languages(source, task, load, languages, matched)
    reports = declared_reports(task, protocol, load)
    if isinstance(source, Embedded):
        return _embedded_training(source, task, reports, load)
    complaints: list[str] = []

    def all_of(rows_to_find: Iterable[Rows]) -> tuple[RowFiles, ...]:
        located = []
        for rows in rows_to_find:
            try:
                located.append(locate(source, rows, task.code("en")))
            except MissingRows as error:
                complaints.append(str(error))
        return tuple(located)

    train = all_of(task.train)
    select = all_of(declared_select(task, protocol))
    if complaints:
        raise MissingRows("\n".join(dict.fromkeys(complaints)))
    located: list[tuple[ReportedRows, RowFiles]] = []
    unchecked: dict[str, str] = {}
    for report in reports:
        english = load(report.task).code("en")
        for rows in report.rows:
            try:
                located.append((report, locate(source, rows, english)))
            except DataError as error:
                unchecked[str(report)] = why_unchecked(report.task, error)
    return TrainingFiles(train, select, tuple(located), unchecked)


def _training_in_languages(
    source: Source,
    task: Task,
    load: Callable[[str], Task],
    languages: tuple[str, ...],
    matched: tuple[str, ...],
) -> TrainingFiles:
    complaints: list[str] = []
    in_language: dict[str, LanguageFiles] = {}
    unchecked: dict[str, str] = {}
    for language in matched or languages:
        try:
            files = locate_language(source, task, language)
        except MissingRows as error:
            complaints.append(str(error))
            continue
        reported, without = _reported_in(source, task, language, load)
        in_language[language] = replace(files, reported=reported)
        unchecked |= without
    if complaints:
        raise MissingRows("\n".join(dict.fromkeys(complaints)))
    if "en" not in in_language:
        english, without = _reported_in(source, task, "en", load)
        unchecked |= without
    else:
        english = ()
    trained = [in_language[language] for language in languages]
    return TrainingFiles(
        tuple(files.train for files in trained),
        tuple(files.select for files in trained if files.select is not None),
        english,
        unchecked,
        languages=languages,
        matched=matched,
        in_language=in_language,
    )


def locate_language(source: Source, task: Task, language: str) -> LanguageFiles:
    """Where a task's train rows in a language of `task.train_in` lie, and those that select beside
    them. MissingRows where the source lacks them.
    """
    if isinstance(source, Embedded):
        file = source.language_file(task)
        rows = Rows("embedded", f"{task.name} in {language}", "train", {}, parallel="id")
        if language not in (held := sample_languages(file.fetch(), "train")):
            raise MissingRows(
                f"the embedded rows of '{task.name}' have no train rows in '{language}', only in"
                f" {', '.join(sorted(held))}"
            )
        return LanguageFiles(RowFiles(rows, {"train": [file]}, language), None)
    assert not isinstance(source, OwnFiles)  # rows without a task file have no `train_in`
    declared, code = task.train_in[language], task.code(language)
    select = locate(source, declared.select, code) if declared.select is not None else None
    return LanguageFiles(locate(source, declared.train, code), select)


def _reported_in(
    source: Source, task: Task, language: str, load: Callable[[str], Task]
) -> tuple[tuple[tuple[ReportedRows, RowFiles], ...], dict[str, str]]:
    """(the report rows in a language that train and select rows are held against, name of those
    that the source lacks → why).
    """
    located: list[tuple[ReportedRows, RowFiles]] = []
    unchecked: dict[str, str] = {}
    for report in declared_reports(task, "clean", load, language):
        reporting = load(report.task)
        one_split = isinstance(source, Embedded) and not reporting.in_domain_task
        if one_split and report.split != next(iter(reporting.report)):
            continue  # a sample file has one split to report
        name = str(report) if language == "en" else f"{report} in {language}"
        try:
            files, missing = locate_report(source, reporting, report.split, [language])
            located += [(report, row_files) for row_files in files.get(language, ())]
            for complaint in missing.values():
                unchecked[name] = why_unchecked(report.task, MissingRows(complaint))
        except DataError as error:
            unchecked[name] = why_unchecked(report.task, error)
    return tuple(located), unchecked


def _embedded_training(
    source: Embedded, task: Task, reports: Iterable[ReportedRows], load: Callable[[str], Task]
) -> TrainingFiles:
    """A task's train and select rows lie in one sample file, its report rows in its own."""
    training = sample_rows(source, load(task.samples) if task.samples else task, "train")
    only = next((rows.only for rows in task.train if rows.only), {})
    training = replace(training, rows=replace(training.rows, only=only))
    located: dict[str, tuple[ReportedRows, RowFiles]] = {}
    unchecked: dict[str, str] = {}
    for report in reports:
        try:
            reporting = load(report.task)
            files = sample_rows(source, reporting, report.split)
            tag = reporting.sample_tag(report.split)
            if "en" in sample_languages(files.files[report.split][0].fetch(), tag):
                located.setdefault(f"{report.task} {tag}", (report, files))
        except DataError as error:
            unchecked[str(report)] = why_unchecked(report.task, error)
    return TrainingFiles((training,), (training,), tuple(located.values()), unchecked)


def _own_rows(
    rows_and_files: Iterable[tuple[Rows, Sequence[DataFile]]],
) -> tuple[RowFiles, ...]:
    return tuple(RowFiles(rows, {rows.split: files}) for rows, files in rows_and_files)


def sample_rows(source: Embedded, task: Task, split: str) -> RowFiles:
    """The rows of a split in a task's sample file."""
    return RowFiles(Rows("embedded", task.name, split, {}), {split: [source.file(task)]})


def why_unchecked(task: str, error: DataError) -> str:
    """Why select rows are not held against rows of `task`, for records that others read."""
    reason = "this source lacks them" if isinstance(error, MissingRows) else "they cannot be read"
    return f"{reason}; compared by the ids that are known" if known_ids(task) else reason


def locate_report(
    source: Source,
    task: Task,
    split: str,
    languages: Iterable[str],
) -> tuple[dict[str, tuple[RowFiles, ...]], dict[str, str]]:
    """Language → where its rows of report split `split` lie, and language → complaint where the
    source lacks it.

    A file that holds several languages counts as having them all: whether it does is known once it
    is read.
    """
    files_by_language: dict[str, tuple[RowFiles, ...]] = {}
    missing: dict[str, str] = {}
    problems = Problems()
    for language in languages:
        try:
            if isinstance(source, Embedded):
                file = source.file(task)
                tags = task.sample_tag(split).split(TOGETHER)
                if not all(language in sample_languages(file.fetch(), tag) for tag in tags):
                    domain = f" of {split}" if task.in_domain_task else ""
                    raise MissingRows(
                        f"the embedded rows{domain} of '{task.name}' have no language '{language}'"
                    )
                files_by_language[language] = (sample_rows(source, task, split),)
            elif isinstance(source, OwnFiles):
                files_by_language[language] = _own_rows(source.report_rows(split, language))
            else:
                files_by_language[language] = tuple(
                    locate(source, rows, task.code(language)) for rows in task.report_rows(split)
                )
        except MissingRows as error:
            missing[language] = str(error)
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    return files_by_language, missing


@lru_cache(maxsize=64)
def sample_languages(path: Path, split: str) -> frozenset[str]:
    """Languages of a sample file's rows of one split."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return frozenset(row["language"] for row in rows if row["split"] == split)
