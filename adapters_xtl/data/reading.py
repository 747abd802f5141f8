"""Rows → checked examples. One schema, the hub's, whatever the source.

Structural trouble (an unreadable file, a missing column, a wrong type, an unknown label, hidden
gold, no rows) is a DataError that names file and row. A single row that is unfit is left out,
counted and reported with its reason; `strict` makes any such row an error.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.base.files import canonical
from adapters_xtl.data.chosen_rows import has_text, of_language, with_text
from adapters_xtl.data.columns import UNUSABLE, checked
from adapters_xtl.data.language_rows import rows_in_languages
from adapters_xtl.data.locate import RowFiles, TrainingFiles, why_unchecked
from adapters_xtl.data.own_tables import read_own_file
from adapters_xtl.data.repository import DataFile, MissingRows
from adapters_xtl.data.shots import DrawnShots, ShotDraw, draw_shots, in_pool
from adapters_xtl.data.splits import CheckedSplit, TrainingRows, cut_select, drop_reported
from adapters_xtl.data.table_files import count_rows, read_file
from adapters_xtl.tasks import POOL, TOGETHER, Rows, Task
from adapters_xtl.tasks._own_rows import OWN

__all__ = ["Reader", "count_language_rows", "read_report", "read_training"]


@dataclass(frozen=True)
class _Selection:
    """Which rows of a file are taken: to train on, to score, or to compare others with."""

    task: Task
    split: str
    language: str
    scoring: bool
    comparing: bool = False


class Reader:
    """Reads files into rows, each file once. A class column's values come out as class names, or
    None for no gold.
    """

    def __init__(self, *, strict: bool = False, places: int = 20) -> None:
        self.strict = strict
        self.places = places
        # sha256 of files whose rows without a language are counted
        self._unassigned_counted: set[str] = set()
        self._tables: dict[tuple[str, str], pa.Table] = {}

    def read(
        self, task: Task, located: Iterable[RowFiles], *, split: str, language: str, scoring: bool
    ) -> CheckedSplit:
        """The usable rows of one split and language.

        `split`: the rows of a sample file that are taken ("train", "select", "report").
        `scoring`: rows that are unfit but can be scored are kept. DataError when nothing is
        usable, or when `strict` and any row is unfit.
        """
        selection = _Selection(task, split, language, scoring)
        checked_split = self._read(selection, located)
        where = ", ".join(checked_split.forms)
        trouble = checked_split.faults + checked_split.kept
        if not checked_split.examples or (self.strict and trouble):
            reasons = ", ".join(f"{count} × {reason}" for reason, count in trouble.most_common(5))
            first = "".join(f"\n  {place}: {reason}" for place, reason in checked_split.places[:5])
            head = (
                f"{sum(trouble.values())} unfit rows (--strict)"
                if checked_split.examples
                else "not one usable row"
            )
            raise DataError(f"{where}: {head}: {reasons}{first}")
        hidden = formats.load(task.format).hidden_gold(checked_split.examples) if scoring else ""
        if hidden:
            raise DataError(f"{where}: {hidden}: {UNUSABLE}")
        return checked_split

    def read_to_compare(self, task: Task, files: RowFiles, *, language: str) -> CheckedSplit:
        """The report rows of one language, to compare other rows with: whether they are fit does
        not matter. DataError when they cannot be read.
        """
        return self._read(
            _Selection(task, "report", language, scoring=True, comparing=True), [files]
        )

    def _read(self, selection: _Selection, located: Iterable[RowFiles]) -> CheckedSplit:
        checked_split = CheckedSplit()
        problems = Problems()
        located = tuple(located)
        for row_files in located:
            checked_split.forms.append(str(row_files.rows))
            present: set[str] = set()
            for name, files in row_files.files.items():
                for file in files:
                    try:
                        present |= self._add(checked_split, selection, row_files.rows, name, file)
                    except MissingRows:
                        raise
                    except DataError as error:
                        problems.catch(error)
            lacking = {text for texts in row_files.rows.only.values() for text in texts} - present
            if lacking and selection.split == "train" and not problems.messages:
                named = ", ".join(sorted(lacking))
                problems.add(f"{row_files.rows}: no rows of {named} to train on")
        problems.raise_if_any(DataError)
        if not checked_split.rows:
            language = f" in {selection.language}" if selection.language else ""
            chosen = any(row_files.rows.only for row_files in located)
            missing = MissingRows if chosen else DataError
            raise missing(f"{', '.join(checked_split.forms)}: no rows{language}")
        return checked_split

    def _add(
        self,
        checked_split: CheckedSplit,
        selection: _Selection,
        rows: Rows,
        part: str,
        file: DataFile,
    ) -> set[str]:
        """Adds the rows of one file. `part`: the split name that the file is of. Returns the texts
        of `rows.only` that it has rows of.
        """
        task = selection.task
        present: set[str] = set()
        if rows.repo == "embedded":
            domains = task.in_domain_task and task.reports(rows.split)
            tag = rows.split if domains else selection.split
            numbered = _sample_rows(file.fetch(), tag, selection.language)
            for column, values in rows.only.items():
                numbered, present = with_text(numbered, column, values)
        else:
            columns = rows.parts.get(part, rows.columns)
            columns = {**columns, **dict.fromkeys(rows.only, "string")}
            table = self._table(file, columns, task.labels, own=rows.repo == OWN, needed=rows.only)
            if rows.language:
                table = self._of_language(checked_split, table, rows, selection, file)
            for column, values in rows.only.items():
                texts = table.column(column)
                present |= {text for text in values if pc.any(has_text(texts, [text])).as_py()}
                table = table.filter(has_text(texts, values))
            numbered = _rows(table, part if rows.parts else "")
        form = formats.load(task.format)
        seen = {form.identity(example): example for example in checked_split.examples}
        count = 0
        for number, row in numbered:
            example, trouble = _example(task, row, number)
            if rows.half and in_pool(example) != (rows.half == POOL):
                continue
            count += 1
            keep = trouble is None or (selection.scoring and trouble.scorable)
            identity = form.identity(example) if keep else ()
            first = seen.setdefault(identity, example)
            if identity and first is not example:
                keep = form.keeps_duplicate(example, first)
                trouble = trouble or formats.Fault("duplicated id", keep)
                example["id"] += f"#{number}"
            if trouble is not None:
                (checked_split.kept if keep else checked_split.faults)[trouble.reason] += 1
                self._place(checked_split, file, number, trouble.reason)
            if keep:
                checked_split.examples.append(example)
        checked_split.rows += count
        if not count and not rows.language and not rows.only:
            raise DataError(f"{file.name}: no rows")
        return present

    def _place(self, checked_split: CheckedSplit, file: DataFile, number: int, reason: str) -> None:
        if len(checked_split.places) < self.places:
            checked_split.places.append((f"{file.name}: row {number}", reason))

    def _table(
        self,
        file: DataFile,
        columns: Mapping[str, str],
        labels: Sequence[str],
        *,
        own: bool,
        needed: Iterable[str] = (),
    ) -> pa.Table:
        """The declared columns of a file, checked. MissingRows where it lacks one of `needed`,
        which tell what its rows are.
        """
        key = (
            file.sha256,
            canonical([dict(columns), labels, {name: file.classes[name] for name in file.classes}]),
        )
        if key not in self._tables:
            read = read_own_file if own else read_file
            table, present = read(file.fetch(), file.name, columns)
            for column in needed:
                if column not in present:
                    raise MissingRows(f"{file.name}: no column '{column}' tells its rows apart")
            self._tables[key] = checked(table, file.name, columns, labels, file.classes, present)
        return self._tables[key]

    def _of_language(
        self,
        checked_split: CheckedSplit,
        table: pa.Table,
        rows: Rows,
        selection: _Selection,
        file: DataFile,
    ) -> pa.Table:
        """The rows of one language. Rows of none are unfit rows of the first language that is read
        from the file.
        """
        how, _, column = rows.language.partition(":")
        code = selection.task.code(selection.language)
        values = table.column(column)
        in_language = table.filter(of_language(values, how, code))
        if not in_language.num_rows:
            texts = {
                str(value).split("-")[0] if how == "prefix" else str(value)
                for value in pc.unique(values).to_pylist()
            }
            languages = ", ".join(sorted(texts)[:48])
            raise MissingRows(
                f"{file.name}: no rows of language '{code}'; it holds {languages or 'no rows'}"
            )
        if not selection.comparing and file.sha256 not in self._unassigned_counted:
            self._unassigned_counted.add(file.sha256)
            named = pc.not_equal(values, "") if how == "column" else pc.match_substring(values, "-")
            unassigned = table.filter(pc.invert(pc.fill_null(named, False))).column("_row")
            for number in unassigned.to_pylist():
                checked_split.faults["no language"] += 1
                self._place(
                    checked_split, file, number, f"no language: '{column}' does not tell it"
                )
            checked_split.rows += len(unassigned)
        return in_language


def count_language_rows(located: Iterable[RowFiles], code: str) -> int:
    """Rows of one language, read from footers and language columns alone. DataError for an
    unreadable file.
    """
    total = 0
    for row_files in located:
        how, _, column = row_files.rows.language.partition(":")
        for file in (file for group in row_files.files.values() for file in group):
            if row_files.rows.repo == "embedded":
                total += sum(1 for _ in _sample_rows(file.fetch(), "train", row_files.language))
            elif how:
                table, present = read_file(file.fetch(), file.name, {column: "string"})
                table = checked(table, file.name, {column: "string"}, (), {}, present)
                total += pc.sum(of_language(table.column(column), how, code)).as_py() or 0
            else:
                total += count_rows(file.fetch(), file.name)
    return total


def _example(
    task: Task, row: Mapping[str, Any], number: int
) -> tuple[dict[str, Any], formats.Fault | None]:
    """A row's example, with an id, and what is wrong with it."""
    try:
        example = task.example(row)
        identity = example.get("id")
        example["id"] = f"#{number}" if identity is None else str(identity)
        unfit = formats.load(task.format).fault(example, task.labels)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        return {}, formats.Fault(f"malformed row ({type(error).__name__}: {error})", False)
    return example, unfit


def _rows(table: pa.Table, part: str) -> Iterable[tuple[int, dict[str, Any]]]:
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            number = row.pop("_row")
            if part:
                row["part"] = part
            yield number, row


def _sample_rows(path: Path, split: str, language: str) -> Iterable[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
        row = json.loads(line)
        if row.pop("split") in split.split(TOGETHER) and (
            not language or row["language"] == language
        ):
            yield number, row


def read_training(
    reader: Reader,
    task: Task,
    files: TrainingFiles,
    load: Callable[[str], Task],
    shots: ShotDraw | None = None,
    *,
    joined: bool = False,
) -> TrainingRows:
    """A task's train and select rows, select without the rows that are reported.

    `shots`: these rows of another language are trained on, without the English ones or, `joined`,
    together with them. DataError where a split cannot be read, or where no row is left to select
    on.
    """
    training = _read_english(reader, task, files, load)
    if shots is None:
        return training
    drawn = _read_shots(reader, task, files, shots, joined=joined)
    if joined:
        return replace(training, shots=drawn)
    return replace(training, train=drawn.split, earlier=(), shots=drawn)


def _read_shots(
    reader: Reader, task: Task, files: TrainingFiles, draw: ShotDraw, *, joined: bool
) -> DrawnShots:
    """The shots of a training: rows of its language that are not reported in it."""
    if files.shots is None:
        raise DataError(f"{task.name}: the rows that shots are drawn from were not located")
    pool = reader.read(task, files.shots.pool, split="train", language=draw.language, scoring=False)
    reported: list[CheckedSplit] = []
    for located in files.shots.reported:
        with contextlib.suppress(MissingRows):  # a file of several languages may lack this one
            reported.append(reader.read_to_compare(task, located, language=draw.language))
    pool, _ = drop_reported(task, pool, {task.name: reported})
    return draw_shots(task, pool, draw, joined=joined)


def _read_english(
    reader: Reader, task: Task, files: TrainingFiles, load: Callable[[str], Task]
) -> TrainingRows:
    """The train and select rows of a task, without shots: English ones, or those in chosen
    languages.
    """
    if files.languages:
        return _read_in_languages(reader, task, files, load)
    problems = Problems()
    splits: list[CheckedSplit] = []
    for located, split in ((files.train, "train"), (files.select, "select")):
        try:
            splits.append(
                reader.read(task, located, split=split, language="en", scoring=False)
                if located
                else CheckedSplit()
            )
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    train, select = splits
    earlier: list[CheckedSplit] = []
    last = None
    if task.ordered:
        last = max((example.get("stage", 0) for example in train.examples), default=0)
        for stage in range(last):
            of_stage = [row for row in select.examples if row.get("stage", 0) == stage]
            if of_stage:
                select_of_stage = replace(select, examples=of_stage)
                rest = [row for row in select.examples if row.get("stage", 0) != stage]
                select = replace(select, examples=rest)
            else:
                train, select_of_stage = cut_select(task, train, stage)
            earlier.append(select_of_stage)
    if not files.select:
        train, select = cut_select(task, train, last)
    reported, unchecked = _reported_rows(reader, files, load)
    kept, dropped = drop_reported(task, select, reported)
    if not kept.examples:
        raise DataError(
            f"{task.name}: every select row is also reported; --protocol xtreme allows and marks it"
        )
    earlier = [drop_reported(task, split, reported)[0] for split in earlier]
    return TrainingRows(train, kept, tuple(earlier), dropped, unchecked)


def _read_in_languages(
    reader: Reader, task: Task, files: TrainingFiles, load: Callable[[str], Task]
) -> TrainingRows:
    """The rows of a training in chosen languages."""
    reported, unchecked = _reported_rows(reader, files, load)

    def read(language: str, split: str) -> CheckedSplit:
        located = files.in_language[language]
        row_files = located.train if split == "train" else located.select
        assert row_files is not None
        return reader.read(task, [row_files], split=split, language=language, scoring=False)

    return rows_in_languages(task, files, read, reported, unchecked)


def _reported_rows(
    reader: Reader, files: TrainingFiles, load: Callable[[str], Task]
) -> tuple[dict[str, list[CheckedSplit]], dict[str, str]]:
    """(reporting task → its report rows in English, and in the languages of the training, that can
    be read, name of those that cannot → why).
    """
    unchecked = dict(files.unchecked)
    reported: dict[str, list[CheckedSplit]] = {name.split()[0]: [] for name in unchecked}
    in_language = [("en", report, located) for report, located in files.reported]
    in_language += [
        (language, report, located)
        for language, language_files in files.in_language.items()
        for report, located in language_files.reported
    ]
    for language, report, located in in_language:
        splits = reported.setdefault(report.task, [])
        try:
            splits.append(reader.read_to_compare(load(report.task), located, language=language))
        except DataError as error:  # hidden gold, say: no reason not to train
            name = str(report) if language == "en" else f"{report} in {language}"
            unchecked[name] = why_unchecked(report.task, error)
    return reported, unchecked


def read_report(
    reader: Reader,
    task: Task,
    files: Mapping[str, Sequence[RowFiles]],
) -> tuple[dict[str, CheckedSplit], dict[str, str]]:
    """Language → its report rows, and language → complaint where a file lacks it; all else wrong is
    one DataError.
    """
    problems = Problems()
    parts: dict[str, CheckedSplit] = {}
    missing: dict[str, str] = {}
    split = "report" if task.kind == "target" else "select"
    for language, located in files.items():
        try:
            sliced = any(files.rows.sliced for files in located)
            part = reader.read(task, located, split=split, language=language, scoring=not sliced)
            parts[language] = cut_select(task, part)[1] if sliced else part
        except MissingRows as error:
            missing[language] = str(error)
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    return parts, missing
