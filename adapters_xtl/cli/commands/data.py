"""`xtl data`: a source's rows validated, original files converted into a mirror."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import DataError, RequestError, nearest
from adapters_xtl.data.locate import RowFiles, locate, locate_report, locate_training
from adapters_xtl.data.reading import Reader
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Embedded, Source, open_source
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.pages import tables
from adapters_xtl.tasks import Task

__all__ = ["check_data", "import_data"]

Shown = list[Table | str]


def check_data(name: str | None, data: str, limit: int) -> tuple[dict[str, Any], Shown]:
    """Reads every split of the tasks from a source; the payload counts rows, unfit rows by reason,
    and errors.
    """
    if name is not None:
        tasks.load(name)
    source = open_source(data)
    rows: list[Sequence[Any]] = []
    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    lacking: dict[str, dict[str, list[str]]] = {}
    places: list[tuple[str, str]] = []
    started = time.monotonic()
    for each in [name] if name else tasks.names():
        task = tasks.load(each)
        if task.members:
            continue
        without = lacking.setdefault(each, {})
        for split, language, part in _splits(
            task, source, Reader(places=limit), errors, without, named=name is not None
        ):
            trouble = part.faults + part.kept
            places += part.places
            entries.append(
                {
                    "task": each,
                    "split": split,
                    "language": language,
                    "data": part.forms[0],
                    "rows": part.rows,
                    "usable": len(part.examples),
                    "unfit": dict(trouble),
                    "labels": _labels(task, part),
                }
            )
            rows.append(
                (
                    each,
                    split,
                    language,
                    part.rows,
                    len(part.examples),
                    _shares(task, part),
                    _lengths(task, part),
                    ", ".join(f"{number} × {reason}" for reason, number in trouble.items()) or "-",
                )
            )
    if not rows and not errors:
        errors.append(f"{source}: nothing of {name or 'any task'} is there")
    errors = list(dict.fromkeys(errors))
    lacking = {each: without for each, without in lacking.items() if without}
    unfit = sum(sum(entry["unfit"].values()) for entry in entries)
    seconds = time.monotonic() - started
    total = sum(entry["rows"] for entry in entries)
    shown: Shown = [tables.checked(rows)] if rows else []
    shown += [f"{place}: {reason}" for place, reason in places[:limit]]
    shown += [
        f"not there: {each}: "
        + "; ".join(f"{split} {' '.join(names)}" for split, names in without.items())
        for each, without in lacking.items()
    ]
    shown += [f"error: {error}" for error in errors]
    shown.append(
        f"{total:,} rows, {unfit:,} unfit, {len(errors)} errors, {total / max(seconds, 1e-9):,.0f}"
        " rows/s"
    )
    payload = {
        "source": str(source),
        "splits": entries,
        "unfit": unfit,
        "errors": errors,
        "lacking": lacking,
        "places": [list(place) for place in places[:limit]],
    }
    return payload, shown


def _splits(
    task: Task,
    source: Source,
    reader: Reader,
    errors: list[str],
    lacking: dict[str, list[str]],
    *,
    named: bool,
) -> list[tuple[str, str, CheckedSplit]]:
    """(split, language, part) of every set of rows that the source has, each read once.

    What is broken goes into `errors`, what is not there into `lacking`: an error too where the task
    was asked for by name, or where a training has one half without the other.
    """
    found: list[tuple[str, str, RowFiles]] = []
    absent: list[MissingRows] = []

    def failed(error: DataError, split: str, what: str) -> None:
        if isinstance(error, MissingRows):
            lacking.setdefault(split, []).append(what)
        else:
            errors.extend(re.split(r"\n(?!  )", str(error)))

    for split in list(task.report)[: 1 if source.kind == "embedded" else None]:
        complaints: dict[str, str] = {}
        for language in task.all_languages:
            try:
                there, without = locate_report(source, task, split, [language])
            except DataError as error:
                failed(error, split, language)
                continue
            found += [(split, language, located) for group in there.values() for located in group]
            complaints |= without
        if complaints:
            lacking.setdefault(split, []).extend(complaints)
        if (
            named
            and len(complaints) == len(task.all_languages)
            and split == next(iter(task.report))
        ):
            errors.extend(list(dict.fromkeys(complaints.values()))[:1])
    reported = {
        tuple(file.name for group in located.files.values() for file in group)
        for _, _, located in found
    }
    training = 0
    for split, wanted in (("train", task.train), ("select", task.select)):
        if isinstance(source, Embedded):  # its one file was read above
            break
        for rows in wanted:
            try:
                located = locate(source, rows, task.code("en"))
            except DataError as error:
                absent += [error] if isinstance(error, MissingRows) else []
                failed(error, split, rows.repo)
                continue
            training += 1
            if (
                tuple(file.name for group in located.files.values() for file in group)
                not in reported
            ):
                found.append((split, "en", located))
    if task.train and source.kind == "embedded":
        files = locate_training(source, task, "clean", tasks.load)
        found += [
            ("train", "en", files.train[0]),
            *([("select", "en", files.select[0])] if task.kind == "target" else []),
        ]
    if named or (training and not any(error.lacks_data_set for error in absent)):
        errors.extend(map(str, absent))
    parts: list[tuple[str, str, CheckedSplit]] = []
    for split, language, located in found:
        kind = (
            split
            if split in ("train", "select")
            else "report"
            if task.kind == "target"
            else "select"
        )
        try:
            part = reader.read(
                task, [located], split=kind, language=language, scoring=kind != "train"
            )
            parts.append((split, language, part))
        except DataError as error:
            failed(error, split, language)
    return parts


def _labels(task: Task, part: CheckedSplit) -> dict[str, int]:
    """How often each label (tag, number of answers) occurs."""
    form = formats.load(task.format)
    counts: Counter[str] = Counter()
    for example in part.examples:
        counts.update(form.gold_names(example))
    return dict(counts.most_common())


def _shares(task: Task, part: CheckedSplit) -> str:
    counts = _labels(task, part)
    total = sum(counts.values()) or 1
    text = ", ".join(
        f"{label} {100 * count / total:.0f}%" for label, count in list(counts.items())[:6]
    )
    return text + (f", … {len(counts)} in all" if len(counts) > 6 else "")


def _lengths(task: Task, part: CheckedSplit) -> str:
    form = formats.load(task.format)
    lengths = [form.length(example) for example in part.examples]
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
        raise RequestError(f"data import: unknown form '{kind}'{nearest(kind, converters)}")
    if not source.is_dir():
        raise RequestError(f"data import: {source} is no directory")
    report = converters[kind](source, out)
    return report.record(), [*report.shown(), *([f"mirror: {out}"] if report.written else [])]
