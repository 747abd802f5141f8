"""The directory that XTREME's `download_data.sh` leaves → a mirror in the hub's schema.

XTREME strips the gold from test splits, and from some dev splits. Such a split is refused: it is
not written, so it can never be scored, and the report says why. Everything else is written as it
is; oddities are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.imports.forms import (
    Question,
    choices,
    json_lines,
    pairs,
    questions,
    sentences,
)
from adapters_xtl.data.imports.staging import Column, Report, Staging, staging
from adapters_xtl.data.imports.xtreme_files import (
    SPLITS,
    declared_rows,
    matching_files,
    parquet_path,
)
from adapters_xtl.data.imports.xtreme_retrieval import import_bucc, import_tatoeba

__all__ = ["convert"]

_TSV = r"(?P<split>train|dev|test)-(?P<language>\w+)\.tsv"
_ANSWERS = (Column("context", "string"), Column("question", "string"), Column("answers", "answers"))
_SQUAD = (Column("id", "string"), Column("title", "string"), *_ANSWERS)
_TEXTS = ("premise", "choice1", "choice2", "question")


def convert(source: Path, out: Path) -> Report:
    """Writes a mirror of everything under `source` that can be scored or trained on.

    RequestError if `out` is there and not empty; DataError, naming every file and line that is
    malformed, or if `source` holds none of XTREME's folders. Nothing is half-written.
    """
    with staging(source, out) as build:
        present = [name for name in FOLDERS if (source / name).is_dir()]
        if not present:
            inner = [
                path.name
                for path in sorted(source.iterdir())
                if any((path / name).is_dir() for name in FOLDERS)
            ]
            hint = f"; did you mean {source / inner[0]}?" if inner else ""
            raise DataError(
                f"{source}: none of the folders {', '.join(FOLDERS)} of XTREME's"
                f" download_data.sh{hint}"
            )
        for name in present:
            FOLDERS[name](build, source / name)
            build.note_unread(source / name)
        spare = sorted(path.name for path in source.iterdir() if path.name not in FOLDERS)
        if spare:
            build.note(f"not read: {', '.join(spare)}")
    return build.report()


def _xnli(build: Staging, folder: Path) -> None:
    task = tasks.load("xnli")
    names = ("language", "sentence1", "sentence2", "gold_label")
    merged: dict[str, list[tuple[str, ...]]] = {}
    for path, split, language in matching_files(build, folder, task, _TSV):
        if split == "train" and language != "en":
            build.refuse(path, "the task trains on English")
            continue
        rows = pairs(build, path, split, task.labels)
        if rows is not None and split == "train":
            kinds = (
                Column("premise", "string"),
                Column("hypothesis", "string"),
                Column("label", "class", task.labels),
            )
            index = [(first, second, task.labels.index(label)) for first, second, label in rows]
            build.write(parquet_path(task.train[0], split), kinds, index, path)
            build.note(
                f"{build.name(path)} is MultiNLI's train split as XNLI's authors give it,"
                " without ids"
            )
        elif rows is not None:
            merged.setdefault(split, []).extend((language, *row) for row in rows)
    for split, all_rows in merged.items():
        build.write(
            parquet_path(declared_rows(task), split),
            [Column(name, "string") for name in names],
            all_rows,
            folder,
        )


def _pawsx(build: Staging, folder: Path) -> None:
    task = tasks.load("pawsx")
    kinds = [Column(name, "string") for name in ("sentence1", "sentence2", "label")]
    for path, split, language in matching_files(build, folder, task, _TSV):
        rows = pairs(build, path, split, task.labels)
        if rows is not None:
            build.write(parquet_path(declared_rows(task, language), split), kinds, rows, path)


def _panx(build: Staging, folder: Path) -> None:
    task = tasks.load("panx")
    kinds = (
        Column("tokens", "strings"),
        Column("ner_tags", "classes", task.labels),
        Column("langs", "strings"),
    )
    for path, split, language in matching_files(build, folder, task, _TSV):
        rows = sentences(build, path, split, task.labels)
        if rows is not None:
            prefix = f"{language}:"
            prefixed = sum(token.startswith(prefix) for tokens, _ in rows for token in tokens)
            build.count(path, f"tokens that begin with '{prefix}', as in WikiANN's files", prefixed)
            with_languages = [(tokens, tags, [language] * len(tokens)) for tokens, tags in rows]
            build.write(
                parquet_path(declared_rows(task, language), split), kinds, with_languages, path
            )


def _udpos(build: Staging, folder: Path) -> None:
    task = tasks.load("udpos")
    kinds = (Column("tokens", "strings"), Column("pos_tags", "classes", task.labels))
    for path, split, language in matching_files(build, folder, task, _TSV):
        rows = sentences(build, path, split, task.labels)
        if rows is not None:
            build.write(parquet_path(declared_rows(task, language), split), kinds, rows, path)
            build.note("udpos: tokens are surface forms, where the hub's rows hold syntactic words")


def _repeats(build: Staging, path: Path, rows: Sequence[Question]) -> int:
    """How many questions have an id that an earlier one has; counted in the report."""
    repeats = len(rows) - len({identity for identity, *_ in rows})
    build.count(path, "questions with the id of an earlier one", repeats)
    return repeats


def _xquad(build: Staging, folder: Path) -> None:
    task = tasks.load("xquad")
    for path, split, language in matching_files(
        build, folder, task, r"xquad\.(?P<language>\w+)\.json"
    ):
        rows = questions(build, path)
        if rows is not None:
            _repeats(build, path, rows)
            untitled = [(identity, *rest) for identity, _, *rest in rows]
            build.write(
                parquet_path(declared_rows(task, language), split),
                (_SQUAD[0], *_ANSWERS),
                untitled,
                path,
            )


def _mlqa(build: Staging, folder: Path) -> None:
    task = tasks.load("mlqa")
    pattern = r"(?P<split>dev|test)-context-(?P<language>\w+)-question-(?P=language)\.json"
    crossed = r"(dev|test)-context-\w+-question-\w+\.json"  # not scored by XTREME
    for path, split, language in matching_files(build, folder, task, pattern, crossed):
        rows = questions(build, path)
        if rows is not None:
            _repeats(build, path, rows)
            build.write(parquet_path(declared_rows(task, language), split), _SQUAD, rows, path)


def _squad(build: Staging, folder: Path) -> None:
    task = tasks.load("squad1")
    for path in sorted(folder.rglob("*-v1.1.json")):
        match = re.fullmatch(r"(train|dev)-v1\.1\.json", path.name)
        rows = questions(build, path) if match else None
        if match and rows is not None:
            _repeats(build, path, rows)
            build.write(parquet_path(task.train[0], SPLITS[match[1]]), _SQUAD, rows, path)


def _tydiqa(build: Staging, folder: Path) -> None:
    task = tasks.load("tydiqa")
    merged: dict[str, list[Question]] = {}
    for path in sorted(folder.rglob("tydiqa-goldp-v1.1-*.json")):
        split = SPLITS.get(path.stem.rsplit("-", 1)[1], "")
        rows = questions(build, path) if split else None
        if rows is not None:
            build.note(
                f"{build.name(path)} holds every language with whole ids: read instead of the files"
                " by language"
            )
            _repeats(build, path, rows)
            merged[split] = rows
    splits_read_whole = set(merged)
    pattern = r"tydiqa\.goldp\.(?P<language>\w+)\.(?P<split>train|dev)\.json"
    for path, split, language in matching_files(
        build, folder, task, pattern, r"tydiqa-goldp-v1\.1-\w+\.json"
    ):
        rows = questions(build, path) if split not in splits_read_whole else None
        if rows is not None:
            merged.setdefault(split, []).extend(_prefixed(build, path, task.code(language), rows))
    for split, rows in merged.items():
        build.write(parquet_path(declared_rows(task), split), _SQUAD, rows, folder)


def _prefixed(
    build: Staging, path: Path, language: str, rows: Sequence[Question]
) -> list[Question]:
    """The questions with ids that start with the language; where ids repeat, all get their number
    in the file too.
    """
    repeats = _repeats(build, path, rows)
    if repeats:
        build.note(
            f"{build.name(path)}: ids repeat, so each is now '{language}-<number in the file>-<id>'"
        )
    prefixed: list[Question] = []
    for number, (identity, title, context, question, answers) in enumerate(rows):
        bare = identity.removeprefix(f"{language}-")
        unique = f"{language}-{number}-{bare}" if repeats else f"{language}-{bare}"
        prefixed.append((unique, title, context, question, answers))
    return prefixed


def _xcopa(build: Staging, folder: Path) -> None:
    task = tasks.load("xcopa")
    english = replace(task, languages={**task.languages, "copa": ("en",)})
    copa = task.select_xtreme[0]
    texts = [Column(name, "string") for name in _TEXTS]
    changed = Column("changed", "bool")
    pattern = r"(?P<split>train|val|test)[-.](?P<language>\w+)\.jsonl"
    for path, split, language in matching_files(build, folder, english, pattern):
        rows = choices(build, path, split)
        if rows is None:
            continue
        if language == "en":
            kinds = (
                *texts,
                Column("idx", "int32"),
                Column("label", "class", ("choice1", "choice2")),
            )
        else:
            kinds = (*texts, Column("label", "int32"), Column("idx", "int32"), changed)
        where = parquet_path(copa if language == "en" else declared_rows(task, language), split)
        build.write(
            where, kinds, [[row.get(column.name) for column in kinds] for row in rows], path
        )


def _siqa(build: Staging, folder: Path) -> None:
    rows = tasks.load("xcopa").train[0]
    names = [name for name in rows.columns if name != "label"]
    for path in sorted(folder.rglob("*.jsonl")):
        gold = path.with_name(f"{path.stem}-labels.lst")
        if path.stem not in ("train", "dev") or not gold.is_file():
            build.refuse(path, f"the gold is hidden: no {gold.name} beside it")
            continue
        numbered_rows, labels = (
            list(json_lines(build, path)),
            [line.strip() for line in build.lines(gold)],
        )
        if len(numbered_rows) != len(labels):
            build.problem(path, f"{len(numbered_rows)} rows, but {gold.name} has {len(labels)}")
        for number, label in enumerate(labels, 1):
            if label not in ("1", "2", "3"):
                build.problem(gold, f"unknown label {label!r}; known: 1, 2, 3", number)
        for number, row in numbered_rows:
            if any(not isinstance(row.get(name), str) for name in names):
                build.problem(path, f"a field of {', '.join(names)} is no text", number)
        labelled_rows = [
            (*(row.get(name) for name in names), label)
            for (_, row), label in zip(numbered_rows, labels, strict=False)
        ]
        kinds = [Column(name, "string") for name in (*names, "label")]
        build.write(parquet_path(rows, SPLITS[path.stem]), kinds, labelled_rows, path)


FOLDERS: Mapping[str, Callable[[Staging, Path], None]] = {
    "xnli": _xnli,
    "pawsx": _pawsx,
    "panx": _panx,
    "udpos": _udpos,
    "xquad": _xquad,
    "mlqa": _mlqa,
    "tydiqa": _tydiqa,
    "bucc2018": import_bucc,
    "tatoeba": import_tatoeba,
    "xcopa": _xcopa,
    "squad": _squad,
    "siqa": _siqa,
}
