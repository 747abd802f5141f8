"""Rows → checked examples. One schema, the hub's, whatever the source.

Structural trouble (an unreadable file, a missing column, a wrong type, an unknown label, hidden
gold, no rows) is a DataError that names file and row. A single row that is unfit is left out,
counted and reported with its reason; `strict` makes any such row an error.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.base.files import canonical
from adapters_xtl.data.columns import UNUSABLE, checked, count_rows, read_file
from adapters_xtl.data.repository import File, Missing
from adapters_xtl.data.sources import Located, Training
from adapters_xtl.formats._examples import Fault, fault
from adapters_xtl.tasks import Rows, Task

__all__ = [
    "Part",
    "Reader",
    "check_overlap",
    "count",
    "labels_of",
    "read_training",
    "read_report",
    "split_select",
]

SLICE, SHARE = (
    500,
    10,
)  # a select slice: 500 examples (as Phang et al.'s code), at most a tenth of train
ZEROS = 50  # as many rows that all have the first choice for gold: XTREME's way of hiding it


@dataclass
class Part:
    """Checked examples of one split, and what was left out of it.

    faults   reason → number of rows left out; `kept` the same for rows that are unfit but can be
             scored
    places   (file:row, reason) of the first few of both
    forms    the data sets, configs and splits that were read
    """

    examples: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    places: list[tuple[str, str]] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """For the record: rows read, left out and kept by reason, forms."""
        return {
            "rows": self.rows,
            "examples": len(self.examples),
            "left_out": dict(self.faults),
            "kept_though": dict(self.kept),
            "forms": self.forms,
        }


class Reader:
    """Reads files into rows, each file once. A class column's values come out as class names, or
    None for no gold.
    """

    def __init__(self, *, strict: bool = False, places: int = 20) -> None:
        self.strict = strict
        self.places = places
        self._strays: set[str] = set()  # sha256 of files whose rows without a language are counted
        self._tables: dict[tuple[str, str], pa.Table] = {}

    def part(
        self, task: Task, located: Iterable[Located], *, split: str, language: str, scoring: bool
    ) -> Part:
        """Examples of these rows. `scoring`: rows that are unfit but can be scored are kept."""
        part = Part()
        problems = Problems()
        for found in located:
            part.forms.append(str(found.rows))
            for name, files in found.files.items():
                for file in files:
                    try:
                        self._add(part, task, found.rows, name, file, split, language, scoring)
                    except Missing:
                        raise
                    except DataError as error:
                        problems.catch(error)
        problems.raise_if_any(DataError)
        where = ", ".join(part.forms)
        if not part.rows:
            raise DataError(f"{where}: no rows{f' in {language}' if language else ''}")
        if not part.examples or (self.strict and (part.faults or part.kept)):
            trouble = part.faults + part.kept
            reasons = ", ".join(f"{count} × {reason}" for reason, count in trouble.most_common(5))
            first = "".join(f"\n  {place}: {reason}" for place, reason in part.places[:5])
            head = (
                "not one usable row"
                if not part.examples
                else f"{sum(trouble.values())} unfit rows (--strict)"
            )
            raise DataError(f"{where}: {head}: {reasons}{first}")
        zeros = task.format == "choice" and not any(example["label"] for example in part.examples)
        if scoring and zeros and len(part.examples) >= ZEROS:
            raise DataError(f"{where}: every gold label is the first choice: {UNUSABLE}")
        return part

    def _add(
        self,
        part: Part,
        task: Task,
        rows: Rows,
        name: str,
        file: File,
        split: str,
        language: str,
        scoring: bool,
    ) -> None:
        if rows.repo == "embedded":
            numbered = _sample_rows(file.fetch(), split, language)
        else:
            table = self._table(file, rows.parts.get(name, rows.columns), task.labels)
            if rows.language:
                table = self._of_language(part, table, rows, task.code(language), file)
            numbered = _rows(table, name if rows.parts else "")
        seen = {_identity(example): example for example in part.examples}
        count = 0
        for number, row in numbered:
            count += 1
            example, trouble = _example(task, row, number)
            keep = trouble is None or (scoring and trouble.scorable)
            twin = seen.setdefault(_identity(example), example) if keep else example
            if twin is not example and _identity(example):
                keep = (
                    task.format == "span" and twin != example
                )  # another question: only its name is taken
                trouble = trouble or Fault("duplicated id", keep)
                example["id"] += f"#{number}"
            if trouble is not None:
                (part.kept if keep else part.faults)[trouble.reason] += 1
                self._place(part, file, number, trouble.reason)
            if keep:
                part.examples.append(example)
        part.rows += count
        if not count and not rows.language:
            raise DataError(f"{file.name}: no rows")

    def _place(self, part: Part, file: File, number: int, reason: str) -> None:
        if len(part.places) < self.places:
            part.places.append((f"{file.name}: row {number}", reason))

    def _table(self, file: File, columns: Mapping[str, str], labels: Sequence[str]) -> pa.Table:
        key = (
            file.sha256,
            canonical([dict(columns), labels, {name: file.classes[name] for name in file.classes}]),
        )
        if key not in self._tables:
            table, present = read_file(file.fetch(), file.name, columns)
            self._tables[key] = checked(table, file.name, columns, labels, file.classes, present)
        return self._tables[key]

    def _of_language(
        self, part: Part, table: pa.Table, rows: Rows, code: str, file: File
    ) -> pa.Table:
        """The rows of one language. Rows of none are unfit rows of the first language that is read
        from the file.
        """
        how, _, column = rows.language.partition(":")
        values = table.column(column)
        found = table.filter(_chosen(values, how, code))
        if not found.num_rows:
            texts = {
                str(value).split("-")[0] if how == "prefix" else str(value)
                for value in pc.unique(values).to_pylist()
            }
            known = ", ".join(sorted(texts)[:48])
            raise Missing(
                f"{file.name}: no rows of language '{code}'; it holds {known or 'no rows'}"
            )
        if file.sha256 not in self._strays:
            self._strays.add(file.sha256)
            named = pc.not_equal(values, "") if how == "column" else pc.match_substring(values, "-")
            strays = table.filter(pc.invert(pc.fill_null(named, False))).column("_row").to_pylist()
            for number in strays:
                part.faults["no language"] += 1
                self._place(part, file, number, f"no language: '{column}' does not tell it")
            part.rows += len(strays)
        return found


def _chosen(values: pa.ChunkedArray, how: str, code: str) -> pa.ChunkedArray:
    """Which rows are of a language, by their language column or by the prefix of their ids."""
    return pc.fill_null(
        pc.equal(values, code) if how == "column" else pc.starts_with(values, f"{code}-"), False
    )


def count(located: Iterable[Located], code: str) -> int:
    """Rows of one language, read from footers and language columns alone. DataError for an
    unreadable file.
    """
    total = 0
    for found in located:
        how, _, column = found.rows.language.partition(":")
        for file in (file for group in found.files.values() for file in group):
            if found.rows.repo == "embedded":
                total += sum(1 for _ in _sample_rows(file.fetch(), "train", ""))
            elif how:
                table, present = read_file(file.fetch(), file.name, {column: "string"})
                table = checked(table, file.name, {column: "string"}, (), {}, present)
                total += pc.sum(_chosen(table.column(column), how, code)).as_py() or 0
            else:
                total += count_rows(file.fetch(), file.name)
    return total


def _identity(example: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be unique in a split: the ids that scores are kept by; () where they are not."""
    side = example.get("part", "")
    return (side, example["id"]) if "answers" in example or side in ("source", "target") else ()


def _example(
    task: Task, row: Mapping[str, Any], number: int
) -> tuple[dict[str, Any], Fault | None]:
    """A row's example, with an id, and what is wrong with it."""
    try:
        example = task.example(row)
        identity = example.get("id")
        example["id"] = f"#{number}" if identity is None else str(identity)
        found = fault(task.format, example, task.labels)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        return {}, Fault(f"malformed row ({type(error).__name__}: {error})", False)
    return example, found


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
        if row.pop("split") == split and (not language or row["language"] == language):
            yield number, row


def read_training(
    reader: Reader, task: Task, files: Training, load: Callable[[str], Task]
) -> tuple[Part, Part, int]:
    """(train, select, rows dropped from select because a borrowing task reports them)."""
    problems = Problems()
    parts: list[Part] = []
    for located, split in ((files.train, "train"), (files.select, "select")):
        try:
            parts.append(
                reader.part(task, located, split=split, language="en", scoring=False)
                if located
                else Part()
            )
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    train, select = parts
    if not files.select:
        train, select = split_select(task, train)
    taken = {
        example["id"]
        for name, located in files.drop
        for example in reader.part(
            load(name), [located], split="report", language="en", scoring=True
        ).examples
    }
    kept = [example for example in select.examples if example["id"] not in taken]
    dropped = len(select.examples) - len(kept)
    select.examples = kept
    if not kept:
        raise DataError(
            f"{task.name}: every select row is also reported; --protocol xtreme allows and marks it"
        )
    return train, select, dropped


def read_report(
    reader: Reader,
    task: Task,
    files: Mapping[str, Sequence[Located]],
) -> tuple[dict[str, Part], dict[str, str]]:
    """Language → its report rows, and language → complaint where a file lacks it; all else wrong is
    one DataError.
    """
    problems = Problems()
    parts: dict[str, Part] = {}
    lacking: dict[str, str] = {}
    split = "report" if task.kind == "target" else "select"
    for language, located in files.items():
        try:
            parts[language] = reader.part(
                task, located, split=split, language=language, scoring=True
            )
        except Missing as error:
            lacking[language] = str(error)
        except DataError as error:
            problems.catch(error)
    problems.raise_if_any(DataError)
    return parts, lacking


def _content(task: Task, example: Mapping[str, Any]) -> str:
    """What makes two examples one for a split: the passage of a question, else the text itself."""
    if task.format == "span":
        return str(example["context"])
    keys = ("text", "pair", "context", "choices", "words", "source", "sentence")
    return json.dumps([example.get(key) for key in keys], ensure_ascii=False)


def split_select(task: Task, train: Part) -> tuple[Part, Part]:
    """Cuts a select slice off the train rows: whole groups (passages; texts) by lowest hash, until
    there are enough.

    The slice has 500 examples, at most a tenth of the rows it is cut from; of ordered sources these
    are the last one's (the highest "stage"). Which rows fall in depends on their content alone.
    """
    last = (
        max((example.get("stage", 0) for example in train.examples), default=0)
        if task.ordered
        else None
    )
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(train.examples):
        if last is None or example.get("stage", 0) == last:
            groups.setdefault(
                hashlib.sha256(_content(task, example).encode()).hexdigest(), []
            ).append(number)
    wanted = max(1, min(SLICE, sum(map(len, groups.values())) // SHARE))
    chosen: set[int] = set()
    for key in sorted(groups):
        if len(chosen) >= wanted:
            break
        chosen.update(groups[key])
    select = Part(
        [train.examples[number] for number in sorted(chosen)],
        rows=len(chosen),
        forms=["slice of train"],
    )
    rest = [example for number, example in enumerate(train.examples) if number not in chosen]
    return Part(rest, train.rows, train.faults, train.kept, train.places, train.forms), select


def labels_of(task: Task, train: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The head's class names: the task's, or for tagging without a fixed inventory the train rows'
    tags, sorted.
    """
    if task.labels or task.format != "tag":
        return task.labels
    return tuple(sorted({tag for example in train for tag in example["tags"]}))


def check_overlap(task: Task, protocol: str, select: Part, report: Mapping[str, Part]) -> int:
    """Number of select rows that are also reported: the same files, or the same published ids.

    Under `clean` a target's shared rows are a DataError.
    """
    reported = {example["id"] for part in report.values() for example in part.examples}
    same_files = task.kind == "intermediate" or any(
        part.forms == select.forms for part in report.values()
    )
    if not same_files:  # row numbers and small integers of different files say nothing
        reported = {
            identity
            for identity in reported
            if not identity.startswith("#") and not identity.isdigit()
        }
    overlap = [example["id"] for example in select.examples if example["id"] in reported]
    if overlap and protocol == "clean" and task.kind == "target":
        raise DataError(
            f"{task.name}: {len(overlap)} rows would both choose the checkpoint and be reported"
            f" (first id {overlap[0]}); --protocol xtreme allows it and marks the scores"
        )
    return len(overlap)
