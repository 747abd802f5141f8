"""Where the shots of a language come from in a source, and which rows are reported beside them.

Train rows that were written in the language, where the source has them. Else the first report
split, which is then not reported: another one is. A source that has the first split alone gives one
half of its rows for shots and has the other half reported; a row's content decides which half it is
in, so the halves are the same for every training, whether it has shots or none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from adapters_xtl import tasks
from adapters_xtl.data.locate import RowFiles, ShotFiles, locate, sample_languages, sample_rows
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.shots import NATIVE
from adapters_xtl.data.sources import Embedded, Repositories, Source
from adapters_xtl.tasks import POOL, WITHOUT_SHOTS, Rows, Task

__all__ = ["ShotPool", "locate_shots", "pool_drawn_from", "shot_pool"]


@dataclass(frozen=True)
class ShotPool:
    """The rows that shots of one language are drawn from.

    files     of these rows
    split     the report split that they are of; "" for train rows
    reported  the report split that is scored instead of it; "" where none is held back
    """

    files: tuple[RowFiles, ...]
    split: str = ""
    reported: str = ""


def shot_pool(source: Source, task: Task, language: str) -> ShotPool:
    """The rows that shots of a language are drawn from; MissingRows where the source has none to
    spare, with the languages that it has shots of.
    """
    if isinstance(source, OwnFiles):
        raise MissingRows(f"train.shots: '{task.name}' is a task on own files, without shots")
    if isinstance(source, Embedded):
        file = source.shots_file(task)
        languages = sample_languages(file.fetch(), "train")
        if language not in languages:
            raise MissingRows(
                f"the embedded rows of '{task.name}' have shots of {', '.join(sorted(languages))}"
                f" alone, not of '{language}'"
            )
        return ShotPool((RowFiles(Rows("embedded", task.name, "train", {}), {"train": [file]}),))
    pool = _pool(source, task.name, language)
    if pool is None:
        others = [code for code in task.all_languages if code != "en"]
        having = [code for code in others if _pool(source, task.name, code)]
        for rows in task.report[next(iter(task.report))] if not having else ():
            locate(source, rows, task.code(language))  # says what the source has instead
        raise MissingRows(
            f"train.shots: there are no rows of '{language}' to draw from: '{task.name}' has no"
            f" train rows of it here, and no {next(iter(task.report))} rows; shots can be of"
            f" {', '.join(having) or 'no language'}"
        )
    return pool


@lru_cache(maxsize=1024)
def _pool(source: Repositories, name: str, language: str) -> ShotPool | None:
    task = tasks.load(name)
    declared = task.train_in.get(language)
    if declared is not None and declared.origin == NATIVE:
        files = _located(source, task, (declared.train,), language)
        if files:
            return ShotPool(files)
    first, *others = task.report
    files = _located(source, task, task.report[first], language)
    if not files:
        return None
    for other in others:
        if _located(source, task, task.report[other], language):
            return ShotPool(files, first, other)
    half = _located(
        source, task, tuple(rows.of_half(POOL) for rows in task.report[first]), language
    )
    return ShotPool(half, first, first + WITHOUT_SHOTS)


def _located(
    source: Repositories, task: Task, every_rows: tuple[Rows, ...], language: str
) -> tuple[RowFiles, ...]:
    """Where all of these rows lie; () where the source lacks some."""
    with contextlib.suppress(MissingRows):
        return tuple(locate(source, rows, task.code(language)) for rows in every_rows)
    return ()


def pool_drawn_from(
    source: Source, task: Task, language: str, digests: Collection[str]
) -> ShotPool:
    """The rows that a finished training drew its shots from, as this source has them. `digests`:
    sha256 of the files that it read.

    Another source may have decided otherwise: where this one would draw from train rows, its first
    report split is held back all the same when its files are among those of the training.
    """
    pool = ShotPool(())
    with contextlib.suppress(MissingRows):
        pool = shot_pool(source, task, language)
    if pool.split or isinstance(source, Embedded | OwnFiles):
        return pool
    first, *others = task.report
    files = _located(source, task, task.report[first], language)
    if not {sha for row_files in files for sha in row_files.digests} & set(digests):
        return pool
    having = [other for other in others if _located(source, task, task.report[other], language)]
    return ShotPool(files, first, having[0] if having else first + WITHOUT_SHOTS)


def locate_shots(source: Source, task: Task, language: str) -> ShotFiles:
    """Where shots of a language lie, and the rows that none of them may be; MissingRows where the
    task or the source has none.
    """
    pool = shot_pool(source, task, language)
    if isinstance(source, Embedded):
        return ShotFiles(pool.files, (sample_rows(source, task, "report"),))
    assert not isinstance(source, OwnFiles)
    reported: list[RowFiles] = []
    for split in task.report:
        held_back = split == pool.split
        if held_back and not pool.reported.startswith(split):
            continue
        for rows in task.report_rows(pool.reported if held_back else split):
            # what the source lacks is not reported either
            with contextlib.suppress(MissingRows):
                reported.append(locate(source, rows, task.code(language)))
    return ShotFiles(pool.files, tuple(reported))
