"""`xtl data`: a source's rows validated, original files converted into a mirror."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import DataError, RequestError, nearest
from adapters_xtl.base.untrusted import printable
from adapters_xtl.data.locate import (
    RowFiles,
    locate,
    locate_language,
    locate_report,
    locate_training,
)
from adapters_xtl.data.reading import Reader
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Embedded, Repositories, Source, open_source
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.pages import tables
from adapters_xtl.tasks import BACK_TRANSLATED, Task

__all__ = ["check_data", "import_data"]

Shown = list[Table | str]


@dataclass(frozen=True)
class _Rows:
    """One set of rows that the source has. `split`: a report split's name, "train" or "select"."""

    split: str
    language: str
    files: RowFiles

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for group in self.files.files.values() for file in group)


@dataclass
class _TaskCheck:
    """What was found of one task.

    lacking  split → languages (or data sets) that the source does not have
    errors   what is broken, one message each
    """

    task: Task
    source: Source
    named: bool
    splits: list[tuple[_Rows, CheckedSplit]] = field(default_factory=list)
    lacking: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def run(self, reader: Reader) -> None:
        """Reads every set of rows of the task that the source has, each once."""
        report = self._report_rows()
        if isinstance(self.source, Embedded):
            training = self._embedded_training()
        else:
            assert isinstance(self.source, Repositories)
            training = self._training(self.source, {rows.names for rows in report})
        training += self._in_languages({(rows.language, rows.names) for rows in training})
        for rows in (*report, *training):
            split = rows.split
            if split not in ("train", "select"):
                split = "report" if self.task.kind == "target" else "select"
            try:
                checked_split = reader.read(
                    self.task,
                    [rows.files],
                    split=split,
                    language=rows.language,
                    scoring=split != "train",
                )
                self.splits.append((rows, checked_split))
            except DataError as error:
                self._failed(error, rows.split, rows.language)

    def _failed(self, error: DataError, split: str, what: str) -> None:
        if isinstance(error, MissingRows):
            self.lacking.setdefault(split, []).append(what)
        else:
            self.errors.extend(re.split(r"\n(?!  )", str(error)))

    def _report_rows(self) -> list[_Rows]:
        """The report rows that the source has. That it has none is an error where the task was
        asked for by name.
        """
        rows: list[_Rows] = []
        splits = list(self.task.report)[: 1 if isinstance(self.source, Embedded) else None]
        for split in splits:
            complaints: dict[str, str] = {}
            for language in self.task.all_languages:
                try:
                    located, missing = locate_report(self.source, self.task, split, [language])
                except DataError as error:
                    self._failed(error, split, language)
                    continue
                complaints |= missing
                rows += [
                    _Rows(split, language, files) for group in located.values() for files in group
                ]
            if complaints:
                self.lacking.setdefault(split, []).extend(complaints)
            lacks_all = len(complaints) == len(self.task.all_languages)
            if self.named and lacks_all and split == splits[0]:
                self.errors.append(next(iter(complaints.values())))
        return rows

    def _training(self, source: Repositories, reported: set[tuple[str, ...]]) -> list[_Rows]:
        """The train and select rows that the source has, but for files that are `reported`.

        That some are missing is an error where the task was asked for by name, or where the source
        has the other half of the training.
        """
        rows: list[_Rows] = []
        missing: list[MissingRows] = []
        has_some = False
        for split, declared in (("train", self.task.train), ("select", self.task.select)):
            for wanted in declared:
                try:
                    files = locate(source, wanted, self.task.code("en"))
                except DataError as error:
                    if isinstance(error, MissingRows):
                        missing.append(error)
                    self._failed(error, split, wanted.repo)
                    continue
                has_some = True
                located = _Rows(split, "en", files)
                if located.names not in reported:
                    rows.append(located)
        half = has_some and not any(error.lacks_data_set for error in missing)
        if self.named or half:
            self.errors.extend(map(str, missing))
        return rows

    def _in_languages(self, known: set[tuple[str, tuple[str, ...]]]) -> list[_Rows]:
        """The train rows for `train.languages` that the source has, and those that select beside
        them. `known`: language and files of rows that are read already.

        That some are missing is no error: few sources have them all.
        """
        rows: list[_Rows] = []
        task = self.task
        if isinstance(self.source, Embedded) and task.samples:
            return rows  # they are those of another task
        for language in task.train_in:
            try:
                files = locate_language(self.source, task, language)
            except DataError as error:
                if language not in ("en", BACK_TRANSLATED):
                    self._failed(error, "train.languages", language)
                continue
            for split, located in (("train", files.train), ("select", files.select)):
                wanted = _Rows(split, language, located) if located is not None else None
                if wanted is not None and (language, wanted.names) not in known:
                    rows.append(wanted)
        return rows

    def _embedded_training(self) -> list[_Rows]:
        """The train rows of a sample file, and its select rows where others are reported."""
        if not self.task.train:
            return []
        files = locate_training(self.source, self.task, "clean", tasks.load)
        rows = [_Rows("train", "en", files.train[0])]
        if self.task.kind == "target":
            rows.append(_Rows("select", "en", files.select[0]))
        return rows


def check_data(name: str | None, data: str, limit: int) -> tuple[dict[str, Any], Shown]:
    """(counts of rows, of unfit rows by reason, and errors, as plain JSON; the same to print).

    Reads every split of the task `name`, or of every task, from the source `data`. `limit`: unfit
    rows that are named.
    """
    if name is not None:
        tasks.load(name)
    source = open_source(data)
    started = time.monotonic()
    checks: list[_TaskCheck] = []
    for task in map(tasks.load, [name] if name else tasks.names()):
        if not task.members:
            checks.append(_TaskCheck(task, source, named=name is not None))
            checks[-1].run(Reader(places=limit))
    seconds = time.monotonic() - started
    splits = [(check.task, rows, split) for check in checks for rows, split in check.splits]
    errors = list(dict.fromkeys(error for check in checks for error in check.errors))
    if not splits and not errors:
        errors.append(f"{source}: nothing of {name or 'any task'} is there")
    places = [place for _, _, split in splits for place in split.places][:limit]
    entries = [_entry(task, rows, split) for task, rows, split in splits]
    payload = {
        "source": str(source),
        "splits": entries,
        "unfit": sum(sum(entry["unfit"].values()) for entry in entries),
        "errors": errors,
        "lacking": {check.task.name: check.lacking for check in checks if check.lacking},
        "places": [list(place) for place in places],
    }
    shown: Shown = []
    if splits:
        shown.append(tables.checked([_line(task, rows, split) for task, rows, split in splits]))
    shown += [f"{place}: {reason}" for place, reason in places]
    shown += source.notes()
    shown += [
        f"not there: {check.task.name}: "
        + "; ".join(f"{split} {' '.join(names)}" for split, names in check.lacking.items())
        for check in checks
        if check.lacking
    ]
    shown += [f"error: {error}" for error in errors]
    total = sum(entry["rows"] for entry in entries)
    shown.append(
        f"{total:,} rows, {payload['unfit']:,} unfit, {len(errors)} errors,"
        f" {total / max(seconds, 1e-9):,.0f} rows/s"
    )
    return payload, shown


def _entry(task: Task, rows: _Rows, split: CheckedSplit) -> dict[str, Any]:
    return {
        "task": task.name,
        "split": rows.split,
        "language": rows.language,
        "data": split.forms[0],
        "rows": split.rows,
        "usable": len(split.examples),
        "unfit": dict(split.faults + split.kept),
        "labels": _label_counts(task, split),
    }


def _line(task: Task, rows: _Rows, split: CheckedSplit) -> tuple[Any, ...]:
    """A row of the printed table."""
    unfit = ", ".join(f"{n} × {reason}" for reason, n in (split.faults + split.kept).items())
    return (
        task.name,
        rows.split,
        rows.language,
        split.rows,
        len(split.examples),
        _label_shares(task, split),
        _lengths(task, split),
        unfit or "-",
    )


def _label_counts(task: Task, split: CheckedSplit) -> dict[str, int]:
    """How often each label (tag, number of answers) occurs."""
    form = formats.load(task.format)
    counts: Counter[str] = Counter()
    for example in split.examples:
        counts.update(form.gold_names(example))
    return dict(counts.most_common())


def _label_shares(task: Task, split: CheckedSplit) -> str:
    counts = _label_counts(task, split)
    total = sum(counts.values()) or 1
    text = ", ".join(
        f"{label} {100 * count / total:.0f}%" for label, count in list(counts.items())[:6]
    )
    return text + (f", … {len(counts)} in all" if len(counts) > 6 else "")


def _lengths(task: Task, split: CheckedSplit) -> str:
    form = formats.load(task.format)
    lengths = [form.length(example) for example in split.examples]
    if not lengths:
        return "-"
    return f"{statistics.median(lengths):.0f}/{max(lengths)} {form.length_unit}"


def import_data(kind: str, source: Path, out: Path) -> tuple[dict[str, Any], Shown]:
    """Converts original files; see `adapters_xtl.data.imports`."""
    from adapters_xtl.data.imports import ccgbank, xtreme

    converters: Mapping[str, Callable[[Path, Path], Any]] = {
        "xtreme": xtreme.convert,
        "ccgbank": ccgbank.convert,
    }
    if kind not in converters:
        raise RequestError(
            f"data import: unknown form '{printable(kind)}'{nearest(kind, converters)}"
        )
    if not source.is_dir():
        raise RequestError(f"data import: {printable(source)} is no directory")
    report = converters[kind](source, out)
    return report.record(), [*report.shown(), *([f"mirror: {out}"] if report.written else [])]
