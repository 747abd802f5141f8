"""Train rows in chosen languages (`train.languages`), made comparable with those of others.

Which rows select follows from the rows themselves: a language's own select rows where its task
declares them, else a slice of its train rows. Rows that the task, or a task that borrows its
training, reports in one of these languages or in English are neither trained nor selected on.

`train.matched` makes trainings in different languages comparable. Where the rows are parallel (by
their ids, or by their places in one data set) every language keeps the items that all of them have,
in the order of the items' hashes, and the same items select; so whatever is drawn later by a seed
is drawn alike. Where they are not, every language keeps equally many rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.data.locate import TrainingFiles
from adapters_xtl.data.splits import CheckedSplit, TrainingRows, cut_select, drop_reported
from adapters_xtl.tasks import Rows, Task

__all__ = ["ITEMS", "NUMBERS", "are_parallel", "rows_in_languages"]

# how languages were made comparable: by the same items, or by equal numbers of rows
ITEMS, NUMBERS = "items", "numbers"

ReadSplit = Callable[[str, str], CheckedSplit]  # (language, "train" or "select") → its rows
ByLanguage = dict[str, CheckedSplit]


def are_parallel(forms: Iterable[Rows]) -> bool:
    """Whether the rows of several languages find their translations among each other."""
    forms = tuple(forms)
    by_row = {form.repo for form in forms if form.parallel == "row"}
    same_way = len({form.parallel for form in forms}) == 1 and bool(forms[0].parallel)
    return same_way and len(by_row) < 2


def rows_in_languages(
    task: Task,
    files: TrainingFiles,
    read: ReadSplit,
    reported: Mapping[str, Sequence[CheckedSplit]],
    unchecked: Mapping[str, str],
) -> TrainingRows:
    """The rows of a training in the languages `files.languages`.

    `reported`: reporting task → its report rows in these languages and in English. DataError where
    a language cannot be read, where no item is in all languages, or where no row is left.
    """
    languages = tuple(files.in_language)  # those that are trained in, and those matched with
    train: ByLanguage = {}
    select: ByLanguage = {}
    dropped_from_train: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    problems = Problems()
    for language in languages:
        with problems.catching():
            kept, lost = drop_reported(task, read(language, "train"), reported)
            train[language] = kept
            dropped_from_train.update(lost if language in files.languages else {})
            if files.in_language[language].select is not None:
                kept, lost = drop_reported(task, read(language, "select"), reported)
                select[language] = kept
                dropped.update(lost if language in files.languages else {})
    problems.raise_if_any(DataError)
    forms = [files.in_language[language].train.rows for language in languages]
    parallel = are_parallel(forms)
    if files.matched:
        train = _matched(task, train, parallel, by_row=forms[0].parallel == "row")
    if len(select) < len(languages):
        train, select = _cut(task, train, parallel=parallel)
    if files.matched:
        select = _matched(task, select, parallel)
        if not parallel:
            train = _as_many(train)
    for language in files.languages:
        if not select[language].examples:
            raise DataError(f"{task.name}: every select row in {language} is also reported")
    return TrainingRows(
        _joined(train, files.languages),
        _joined(select, files.languages),
        dropped=dict(dropped),
        unchecked=dict(unchecked),
        dropped_from_train=dict(dropped_from_train),
        in_languages={language: len(train[language].examples) for language in files.languages},
        matched_by=(ITEMS if parallel else NUMBERS) if files.matched else "",
    )


def _hash(example: Mapping[str, Any]) -> str:
    return hashlib.sha256(str(example["id"]).encode()).hexdigest()


def _matched(task: Task, splits: ByLanguage, parallel: bool, *, by_row: bool = False) -> ByLanguage:
    """The same items of every language where they are `parallel`, else equally many rows of each.

    `by_row`: items are told by their places alone, so their gold must agree.
    """
    if not parallel:
        return _as_many(splits)
    by_id = {
        language: {example["id"]: example for example in split.examples}
        for language, split in splits.items()
    }
    shared = set.intersection(*(set(examples) for examples in by_id.values()))
    if not shared:
        raise DataError(f"{task.name}: no item has usable rows in all of {', '.join(splits)}")
    if by_row:
        _check_gold(task, splits, by_id, shared)
    first = by_id[next(iter(splits))]
    order = sorted(shared, key=lambda identity: _hash(first[identity]))
    return {
        language: replace(split, examples=[by_id[language][identity] for identity in order])
        for language, split in splits.items()
    }


def _check_gold(
    task: Task,
    splits: ByLanguage,
    by_id: Mapping[str, Mapping[str, Mapping[str, Any]]],
    shared: Iterable[str],
) -> None:
    """DataError where rows at the same place have another gold: then they are no translations."""
    gold = formats.load(task.format).gold_fields
    first, *others = splits
    for identity in sorted(shared):
        of_first = [by_id[first][identity].get(name) for name in gold]
        for language in others:
            of_other = [by_id[language][identity].get(name) for name in gold]
            if of_first != of_other:
                raise DataError(
                    f"{task.name}: row {identity.removeprefix('#')} has the {gold[0]}"
                    f" {of_first[0]!r} in {first} and {of_other[0]!r} in {language}"
                    f" ({', '.join(splits[language].forms)}): these rows are not parallel, and"
                    " train.matched needs rows at the same places to be translations"
                )


def _as_many(splits: ByLanguage) -> ByLanguage:
    """As many rows of every language as the one with the fewest has, by the lowest hashes."""
    count = min(len(split.examples) for split in splits.values())
    return {
        language: replace(split, examples=sorted(split.examples, key=_hash)[:count])
        for language, split in splits.items()
    }


def _cut(task: Task, train: ByLanguage, *, parallel: bool) -> tuple[ByLanguage, ByLanguage]:
    """(train, select) of every language, select cut off train.

    Of parallel rows the items that the first language's slice has select in every language, so
    that no item selects in one language and is trained on in another.
    """
    if not parallel or len(train) == 1:
        cuts = {language: cut_select(task, split) for language, split in train.items()}
        return (
            {language: cut[0] for language, cut in cuts.items()},
            {language: cut[1] for language, cut in cuts.items()},
        )
    first = next(iter(train))
    chosen = {example["id"] for example in cut_select(task, train[first])[1].examples}
    rest: ByLanguage = {}
    select: ByLanguage = {}
    for language, split in train.items():
        selecting = [example for example in split.examples if example["id"] in chosen]
        rest[language] = replace(
            split, examples=[row for row in split.examples if row["id"] not in chosen]
        )
        select[language] = CheckedSplit(selecting, len(selecting), forms=["slice of train"])
    return rest, select


def _joined(splits: ByLanguage, languages: Sequence[str]) -> CheckedSplit:
    """The rows of several languages as one split; each example names its language."""
    joined = CheckedSplit()
    for language in languages:
        split = splits[language]
        joined.examples += [{**example, "language": language} for example in split.examples]
        joined.rows += split.rows
        joined.faults += split.faults
        joined.kept += split.kept
        joined.places += split.places
        joined.forms += [form for form in split.forms if form not in joined.forms]
    return joined
