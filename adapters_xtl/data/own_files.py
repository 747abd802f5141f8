"""Somebody's own files as a source of rows: found by name or pattern, described, split.

A file's language stands in its name, before the suffix: `train.en.jsonl`, `test.sw.conll`. A name
without one means that the language is not known: ISO 639's `und`. Select rows are those of the
select files or, without any, a slice of the train rows (`adapters_xtl.data.splits.cut_select`).
"""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from adapters_xtl.base.errors import DataError, Problems, RequestError, clipped, nearest
from adapters_xtl.base.files import file_digest, local
from adapters_xtl.base.untrusted import printable
from adapters_xtl.data.columns import checked
from adapters_xtl.data.own_tables import READABLE, read_own_file
from adapters_xtl.data.repository import DataFile
from adapters_xtl.data.table_files import is_list
from adapters_xtl.tasks import Rows, Task, names
from adapters_xtl.tasks._own_rows import (
    MOST_LABELS,
    SELECTING,
    OwnRows,
    describe,
    gold_column,
    known_task,
    labelled,
    own_formats,
    task_of,
    usage,
)

__all__ = ["UNKNOWN_LANGUAGE", "OwnFiles", "OwnFilesRequest", "open_own_files", "rows_to_score"]

UNKNOWN_LANGUAGE, SEVERAL = "und", "mul"  # ISO 639-2
# ISO 639-1, of two letters; languages of three letters are taken as they stand
_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy "
    "da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu "
    "hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb "
    "lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om "
    "or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw "
    "ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
_NO_CODES = "all bio csv dev iob new old out raw set tag tok tsv txt"
_TWO_LETTERS, _NO_LANGUAGE = frozenset(_CODES.split()), frozenset(_NO_CODES.split())
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,2}")


@dataclass(frozen=True)
class OwnFilesRequest:
    """The files as the command line names them, and what it says of their columns.

    train, select, test  files or patterns (`test.*.jsonl`)
    """

    train: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    label: str = ""


def language_of(path: Path) -> str:
    """The language that a file's name tells, `und` where it tells none."""
    *before, _ = path.name.split(".")
    code = before[-1] if len(before) > 1 else ""
    base = code.partition("-")[0]
    fits = _LANGUAGE.fullmatch(code) and (
        base in _TWO_LETTERS if len(base) == 2 else base not in _NO_LANGUAGE
    )
    return code if fits else UNKNOWN_LANGUAGE


@dataclass(frozen=True)
class OwnFiles:
    """The rows of one task on somebody's own files. Each split: language → its files."""

    task: Task
    request: OwnFilesRequest
    train: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    select: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    test: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)

    kind = "files"

    def revisions(self) -> dict[str, str]:
        return {}  # the digests of the files stand for it

    def notes(self) -> list[str]:
        """What was found, a line each: the labels, and which language each file is of."""
        lines = []
        if self.task.labels:
            shown = ", ".join(self.task.labels[:12])
            more = f", … ({len(self.task.labels)} in all)" if len(self.task.labels) > 12 else ""
            lines.append(f"labels of the train rows: {shown}{more}")
        for split, files in (("train", self.train), ("select", self.select), ("test", self.test)):
            named = [
                f"{Path(file.name).name} ({language})"
                for language, group in files.items()
                for file in group
            ]
            if named:
                lines.append(f"{split} rows: {', '.join(named[:20])}")
        if self.train and not self.select:
            lines.append("select rows: a slice of the train rows, by the hash of their texts")
        if any(UNKNOWN_LANGUAGE in files for files in (self.train, self.select, self.test)):
            lines.append(
                f"{UNKNOWN_LANGUAGE}: no language in the file's name (train.en.jsonl would be"
                " English)"
            )
        return lines

    def __str__(self) -> str:
        return "own files"

    @property
    def splits(self) -> tuple[str, ...]:
        """Report splits that there are rows of; the first is the default."""
        validation = bool(self.select or self.train)
        return (*["test"] * bool(self.test), *[SELECTING] * validation)

    def languages(self, split: str) -> tuple[str, ...]:
        """Languages of a report split."""
        if split == "test":
            return tuple(self.test)
        return tuple(self.select) or self._slice_language

    @property
    def _slice_language(self) -> tuple[str, ...]:
        return tuple(self.train) if len(self.train) < 2 else (SEVERAL,)

    def training_rows(self) -> tuple[list[tuple[Rows, tuple[DataFile, ...]]], ...]:
        """(train rows, select rows), each with their files; no select rows: a slice of train."""
        (train,), (select,) = self.task.train, self.task.select
        return (
            [(train.named(language), files) for language, files in self.train.items()],
            [(select.named(language), files) for language, files in self.select.items()],
        )

    def report_rows(self, split: str, language: str) -> list[tuple[Rows, tuple[DataFile, ...]]]:
        """The rows of a report split in one language, with their files."""
        if split == SELECTING and not self.select:
            train, _ = self.training_rows()
            return [(replace(rows, sliced=True), files) for rows, files in train]
        (rows,) = self.task.report[split]
        files = (self.test if split == "test" else self.select)[language]
        return [(rows.named(language), files)]


def open_own_files(format: str, request: OwnFilesRequest) -> OwnFiles:
    """The task that own files make, and its rows. Train files are read, to check their columns and
    to find the labels. RequestError with everything that is wrong, one a line.
    """
    problems = Problems()
    if format not in own_formats():
        kind = "a task" if format in names() else f"'{clipped(format)}'"
        raise RequestError(
            f"--data-file: takes a format ({', '.join(own_formats())}) in the task's place, not"
            f" {kind}{nearest(format, own_formats()) if format not in names() else ''}"
        )
    files = {}
    for flag, patterns in (
        ("--data-file", request.train),
        ("--select-file", request.select),
        ("--test-file", request.test),
    ):
        files[flag] = _by_language(flag, patterns, problems)
    training = {file.sha256: file for group in files["--data-file"].values() for file in group}
    for file in (file for group in files["--select-file"].values() for file in group):
        if (same := training.get(file.sha256)) is not None:
            problems.add(
                f"--select-file {file.name}: holds the rows of --data-file {same.name}, which would"
                " choose the checkpoint by what is trained on; without --select-file a slice of the"
                " train rows does",
                DataError,
            )
    description = None
    with problems.catching():
        description = describe(format, request.text_columns, request.label)
    problems.raise_if_any()
    assert description is not None
    if not files["--data-file"]:
        raise RequestError("--data-file: names no train rows")
    task = known_task(_with_labels(description, files["--data-file"].values()))
    return OwnFiles(task, _absolute(request), *files.values())


def rows_to_score(
    rows: OwnRows, test: Sequence[str], recorded: OwnFilesRequest | None, where: str
) -> OwnFiles:
    """The rows on which a finished module is scored: the test files that are named or, without any,
    those that its run names (`recorded`). RequestError where there are none.
    """
    task, problems = known_task(rows), Problems()
    by_split: dict[str, dict[str, tuple[DataFile, ...]]] = {"train": {}, "select": {}, "test": {}}
    if test:
        by_split["test"] = _by_language("--test-file", test, problems)
    elif recorded is not None:
        for split in ("train", "select", "test"):
            by_split[split] = _by_language(f"{where}: its", getattr(recorded, split), problems)
    else:
        columns = ", ".join(name for names in rows.columns.values() for name in names)
        problems.add(
            f"{where}: a module of own rows, which do not come along: give --test-file (columns:"
            f" {columns})"
        )
    problems.raise_if_any()
    request = OwnFilesRequest(test=tuple(test)) if test else recorded or OwnFilesRequest()
    return OwnFiles(task, _absolute(request), **by_split)


def _absolute(request: OwnFilesRequest) -> OwnFilesRequest:
    def whole(paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(os.path.abspath(os.path.expanduser(path)) for path in paths)

    return replace(
        request, train=whole(request.train), select=whole(request.select), test=whole(request.test)
    )


def _by_language(
    flag: str, patterns: Iterable[str], problems: Problems
) -> dict[str, tuple[DataFile, ...]]:
    """Language → the files that names and patterns stand for."""
    by_language: dict[str, list[DataFile]] = {}
    paths: dict[str, Path] = {}  # a file that is named twice, or by a pattern too, is one
    for path in (path for text in patterns for path in _paths(flag, text, problems)):
        paths.setdefault(os.path.realpath(path), path)
    for path in paths.values():
        name = printable(str(path), 300)
        if path.suffix not in READABLE:
            hint = "; rename it to small letters" if path.suffix.lower() in READABLE else ""
            problems.add(f"{flag} {name}: takes {', '.join(READABLE)}{hint}", DataError)
            continue
        try:
            sha256 = file_digest(path, remember=True)
        except OSError as error:
            problems.add(f"{flag} {name}: cannot be read ({error.strerror})", DataError)
            continue
        file = DataFile(name, sha256, lambda path=path: path)  # type: ignore[misc]
        by_language.setdefault(language_of(path), []).append(file)
    return {language: tuple(files) for language, files in by_language.items()}


def _paths(flag: str, text: str, problems: Problems) -> list[Path]:
    try:
        path = local(text)
    except RequestError as error:  # a name that is too long, ~nobody
        problems.add(f"{flag} {error}", DataError)
        return []
    if path.is_file():
        return [path]
    if path.exists():  # a fifo might never end
        kind = "a directory, not a file" if path.is_dir() else "no regular file"
        problems.add(f"{flag} {clipped(text)}: {kind}", DataError)
        return []
    if glob.has_magic(text):
        matching = [Path(match) for match in sorted(glob.glob(str(path)))]
        if files := [match for match in matching if match.is_file()]:
            return files
    folder = path.parent
    beside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    what = "no file of this pattern" if glob.has_magic(text) else "no such file"
    near = nearest(path.name, beside)
    hint = near if near.startswith("; did") else ""
    problems.add(f"{flag} {clipped(text)}: {what}{hint}", DataError)
    return []


# ------------------------------------------------------------------ labels


def _with_labels(rows: OwnRows, groups: Iterable[Sequence[DataFile]]) -> OwnRows:
    """The description with the labels that the train rows have. DataError for columns that are not
    there or hold something else, one a line.
    """
    (train,) = task_of(rows).train
    problems, tables = Problems(), []
    gold = gold_column(rows)
    for file in (file for group in groups for file in group):
        with problems.catching():
            table, present = read_own_file(file.fetch(), file.name, train.columns)
            _check_usage(rows, file.name, train.columns, present)
            checked(table, file.name, train.columns, (), {}, present)
            tables.append(table)
    problems.raise_if_any(DataError)
    where = ", ".join(file.name for group in groups for file in group)
    if train.columns[gold] == "answers":
        blank = any(_any_without_answer(table.column(gold)) for table in tables)
        return labelled(rows, [""] if blank else [])
    values: set[str] = set()
    for table in tables:
        column = table.column(gold)
        values |= set(
            pc.unique(pc.list_flatten(column) if is_list(column.type) else column).to_pylist()
        )
    values -= {None, ""}
    if len(values) < 2:
        raise DataError(
            f"{where}: column '{gold}' holds {len(values) or 'no'} label{'s' * (len(values) != 1)}"
            f"{': ' + clipped(min(values)) if values else ''}; a task needs two at least"
        )
    if len(values) > MOST_LABELS or any(len(value) >= 200 for value in values):
        raise DataError(
            f"{where}: column '{gold}' holds {len(values):,} different values, among them"
            f" {clipped(repr(max(values, key=len)))}: these are no labels"
        )
    spellings: dict[str, str] = {}
    for value in sorted(values):
        same = spellings.setdefault(" ".join(unicodedata.normalize("NFC", value).split()), value)
        if same != value:
            raise DataError(
                f"{where}: column '{gold}' spells one label in two ways, {same!a} and"
                f" {value!a}: they differ in blanks or in how their characters are composed"
            )
    return labelled(rows, list(values))


def _any_without_answer(answers: pa.ChunkedArray) -> bool:
    counts = pc.list_value_length(pc.struct_field(answers, "text"))
    return bool(pc.any(pc.equal(pc.fill_null(counts, 0), 0)).as_py())


def _check_usage(
    rows: OwnRows, name: str, columns: Mapping[str, str], present: Sequence[str]
) -> None:
    """DataError, one line a column, for columns that a file does not have."""
    problems = Problems()
    header = present[0] if len(present) == 1 else ""
    if separator := next((mark for mark in ("\t", "|") if mark in header), ""):
        raise DataError(
            f"{name}: its one column is {clipped(header)!r}: is it parted by {separator!r}? Commas"
            " or semicolons part the fields of a .csv file, tabs those of a .tsv file"
        )
    for column in columns:
        if column not in present:
            problems.add(
                f"{name}: no column '{column}'{nearest(column, present)} (--text-columns:"
                f" {usage(rows.format)}; --label: the gold)"
            )
    problems.raise_if_any(DataError)
