"""Rows of a task in several languages → units: the same contents, each in several languages."""

from __future__ import annotations

from collections import Counter
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
FEWEST = 10  # units of a language
FEWEST_GROUPS = 12


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
    """The units of about `items` items that have rows in several languages, sorted by language and
    item. Groups are taken whole: those in more languages first, the rest as their digests decide.
    Languages with fewer than FEWEST units are left out.

    Rows are translations of each other where they have the same id or, without ids, the same place
    in their files; sentence pairs where they have the same English sentence. DataError where rows
    cannot be aligned, or where too few groups of items are parallel.
    """
    units = _groups_alike(_all_units(task, rows))
    chosen = _in_several_languages(_chosen(_in_several_languages(units), items))
    counts = Counter(unit.language for unit in chosen)
    kept = [unit for unit in chosen if counts[unit.language] >= FEWEST]
    kept = _in_several_languages(kept)
    _check_labels(task, kept)
    clusters = {unit.cluster for unit in kept}
    if len(clusters) < FEWEST_GROUPS:
        raise DataError(
            f"{task.name}: {len(clusters)} groups of rows in several languages; takes"
            f" {FEWEST_GROUPS} at least, which are divided among train, select and held-out"
        )
    return tuple(kept)


def _all_units(task: Task, rows: Mapping[str, CheckedSplit]) -> list[Unit]:
    """Every row of every language as a unit, each item once a language."""
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
    return [units[key] for key in sorted(units)]


def _is_row_number(row_id: Any) -> bool:
    """Whether an id only says where the row stands in its file, which may hold several languages:
    rows that came without an id are given "#0", "#1", … when they are read.
    """
    return row_id is None or str(row_id).startswith("#")


def _in_several_languages(units: Sequence[Unit]) -> list[Unit]:
    count = Counter(unit.item for unit in units)
    return [unit for unit in units if count[unit.item] > 1]


def _chosen(units: Sequence[Unit], items: int) -> list[Unit]:
    """The units of whole groups, until there are `items` items."""
    languages = Counter(unit.item for unit in units)
    groups: dict[str, set[str]] = {}
    for unit in units:
        groups.setdefault(unit.cluster, set()).add(unit.item)
    most = {cluster: max(languages[item] for item in of) for cluster, of in groups.items()}
    chosen: set[str] = set()
    for cluster in sorted(groups, key=lambda cluster: (-most[cluster], digest(cluster))):
        if len(chosen) >= items:
            break
        chosen |= groups[cluster]
    return [unit for unit in units if unit.item in chosen]


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
    """The units, their groups named alike in all languages: by the group's text in English, or
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
