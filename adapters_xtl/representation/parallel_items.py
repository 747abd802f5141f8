"""Rows of a task in several languages → units: the same contents, each in several languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import digest
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.tasks import Task

__all__ = ["PARTS", "Part", "Unit", "parallel_units", "parts_of"]

Part = Literal["train", "select", "held-out"]
PARTS: tuple[Part, ...] = ("train", "select", "held-out")
SHARES = (3 / 6, 1 / 6, 2 / 6)  # of the items, in the order of PARTS
ENGLISH = "en"


@dataclass(frozen=True)
class Unit:
    """One item in one language: a text, or a pair that is read together.

    item   names the content that it shares with its translations
    group  names what several items share, alike in all languages; "" for nothing
    label, genre  "" where the rows have none
    """

    language: str
    item: str
    texts: tuple[str, ...]
    group: str = ""
    label: str = ""
    genre: str = ""

    @property
    def cluster(self) -> str:
        """What never parts: items of one group, else the item alone."""
        return self.group or self.item


def parallel_units(task: Task, rows: Mapping[str, CheckedSplit], items: int) -> tuple[Unit, ...]:
    """The units of at most `items` items that have rows in several languages, sorted by language
    and item. Items in more languages come first, the rest is decided by their digests.

    Rows are translations of each other where they have the same id or, without ids, the same place
    in their files; sentence pairs where they have the same English sentence. DataError where rows
    cannot be aligned, or fewer than 12 groups of items are parallel.
    """
    units: dict[tuple[str, str], Unit] = {}
    form = formats.load(task.format)
    for language, part in rows.items():
        by_place = any(
            not text.item and _is_row_number(example.get("id"))
            for example in part.examples[:1]
            for text in form.parallel_texts(example)
        )
        if by_place and part.faults:
            raise DataError(
                f"{task.name}, {language}: {sum(part.faults.values())} of {part.rows} rows are"
                " unfit and left out, and without ids the others cannot be aligned with their"
                " translations"
            )
        for place, example in enumerate(part.examples):
            for text in form.parallel_texts(example):
                row_id = example.get("id")
                item = text.item or (f"#{place}" if by_place else str(row_id))
                label = example.get("label") if "label" in form.gold_fields else None
                unit = Unit(
                    text.language or language,
                    item,
                    text.texts,
                    text.group,
                    "" if label is None else str(label),
                    str(example.get("genre") or ""),
                )
                units.setdefault((unit.language, unit.item), unit)
    chosen = _chosen(units, items)
    _check_labels(task, chosen)
    chosen = _groups_alike(chosen)
    clusters = {unit.cluster for unit in chosen}
    if len(clusters) < 12:
        raise DataError(
            f"{task.name}: {len(clusters)} groups of rows in several languages; takes 12 at least,"
            " which are divided among train, select and held-out"
        )
    return tuple(chosen)


def _is_row_number(row_id: Any) -> bool:
    """Whether an id only says where the row stands in its file, which may hold several languages:
    rows that came without an id are given "#0", "#1", … when they are read.
    """
    return row_id is None or str(row_id).startswith("#")


def _chosen(units: Mapping[tuple[str, str], Unit], items: int) -> list[Unit]:
    languages: dict[str, list[str]] = {}
    for language, item in units:
        languages.setdefault(item, []).append(language)
    parallel = [item for item, codes in languages.items() if len(codes) > 1]
    parallel.sort(key=lambda item: (-len(languages[item]), digest(item)))
    kept = set(parallel[:items])
    return [units[key] for key in sorted(units) if key[1] in kept]


def _check_labels(task: Task, units: Sequence[Unit]) -> None:
    """DataError where translations have different labels: they are then none."""
    labels: dict[str, Unit] = {}
    for unit in units:
        first = labels.setdefault(unit.item, unit)
        if first.label != unit.label:
            raise DataError(
                f"{task.name}: row {unit.item} is '{first.label}' in {first.language} and"
                f" '{unit.label}' in {unit.language}: the rows are no translations of each other"
            )


def _groups_alike(units: Sequence[Unit]) -> list[Unit]:
    """The units with their groups named alike in all languages: by the group's text in English, or
    in the first language that the item has.
    """
    text_of: dict[str, str] = {}
    for unit in sorted(units, key=lambda unit: unit.language != ENGLISH):
        text_of.setdefault(unit.item, unit.group)
    names = {text: digest(text)[:12] if text else "" for text in set(text_of.values())}
    return [replace(unit, group=names[text_of[unit.item]]) for unit in units]


def parts_of(units: Sequence[Unit]) -> tuple[Part, ...]:
    """The part of each unit: half of the groups train, a sixth selects, a third is held out. A
    group of items is in one part, in all languages, and which one its name decides.
    """
    clusters: list[Any] = sorted({unit.cluster for unit in units}, key=digest)
    first = round(len(clusters) * SHARES[0])
    second = first + max(round(len(clusters) * SHARES[1]), 1)
    part_of = {
        cluster: PARTS[(number >= first) + (number >= second)]
        for number, cluster in enumerate(clusters)
    }
    return tuple(part_of[unit.cluster] for unit in units)
