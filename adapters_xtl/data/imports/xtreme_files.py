"""Which files of XTREME's directory are read, and which file of the mirror their rows go to."""

from __future__ import annotations

import re
from pathlib import Path

from adapters_xtl.base.errors import nearest
from adapters_xtl.data.imports.staging import Staging
from adapters_xtl.tasks import Rows, Task

__all__ = ["SPLITS", "declared_rows", "matching_files", "parquet_path"]

# XTREME's name of a split → the hub's
SPLITS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}


def declared_rows(task: Task, language: str = "") -> Rows:
    """The task's first form of the rows that it reports."""
    return next(iter(task.report.values()))[0].named(task.code(language))


def parquet_path(rows: Rows, split: str) -> str:
    return f"{rows.repo}/{rows.config}/{split}-00000-of-00001.parquet"


def matching_files(
    build: Staging, folder: Path, task: Task, pattern: str, *others: str
) -> list[tuple[Path, str, str]]:
    """(path, split, language) of the files in and below `folder` whose name matches, in the task's
    order of languages.

    A file of a language that the task does not have is refused. Files that match one of `others`
    need no word in the report; files that match nothing are noted as unread.
    """
    file_of_part: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        match = re.fullmatch(pattern, path.name)
        if match or any(re.fullmatch(other, path.name) for other in others):
            build.account(path)
        if match is None:
            continue
        parts = match.groupdict()
        split, language = SPLITS[parts.get("split") or "dev"], parts["language"]
        languages = task.all_languages
        if language not in languages:
            build.refuse(
                path,
                f"task '{task.name}' has no language '{language}'{nearest(language, languages)}",
            )
        elif (split, language) in file_of_part:
            build.problem(
                path, f"{file_of_part[split, language]} is another file for the same rows"
            )
        else:
            file_of_part[split, language] = path
    order = task.all_languages.index
    return [
        (path, *key)
        for key, path in sorted(
            file_of_part.items(), key=lambda item: (item[0][0], order(item[0][1]))
        )
    ]
