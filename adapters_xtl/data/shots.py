"""Shots: a few examples of a target language that a training gets besides, or instead of, the
English rows.

They come in ten fixed buckets, as in Zhao et al. 2021 (arXiv 2012.15682): a bucket orders the rows
by a hash of its number and the row's content, and k shots are the first k of each class. So a
bucket is the same for every parent, method and seed, and the shots of a smaller k are among those
of a larger one.

Where they come from, `adapters_xtl.data.shot_pool` says. Rows that are reported are no shots,
whatever the protocol.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters_xtl import formats
from adapters_xtl.base.errors import DataError
from adapters_xtl.base.files import canonical
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.tasks import Task

__all__ = [
    "ALONE",
    "BUCKETS",
    "JOINT",
    "SEQUENTIAL",
    "SHOT_REGIMES",
    "DrawnShots",
    "ShotDraw",
    "NATIVE",
    "draw_shots",
    "in_pool",
    "may_have_shots",
    "row_digest",
]

BUCKETS = 10
SEQUENTIAL, JOINT, ALONE = "sequential", "joint", "target-only"
# the shots after the English rows, together with them, or without any of them
SHOT_REGIMES = (SEQUENTIAL, JOINT, ALONE)
NO_CONTENT = ("id", "stage", "genre")  # of an example: what is said of it
NATIVE = "native"  # the origin of train rows that were written in their language


@dataclass(frozen=True)
class ShotDraw:
    """Which shots a training gets: the language, how many of each class (of all rows, where rows
    have no class), and the number of the bucket.
    """

    language: str
    per_class: int
    bucket: int


@dataclass(frozen=True)
class DrawnShots:
    """The shots of a training.

    split     the shots, in the order of their source
    draw      what was asked for
    pool      number of different rows that they were drawn from
    digests   `row_digest` of each shot
    joined    they are mixed with the English rows; otherwise they are trained on alone
    """

    split: CheckedSplit
    draw: ShotDraw
    pool: int
    digests: tuple[str, ...]
    joined: bool


def may_have_shots(task: Task, language: str) -> bool:
    """Whether a task can have rows of a language to draw shots from, whatever a source has."""
    return bool(task.train and task.report) and language in task.all_languages


def in_pool(example: Mapping[str, Any]) -> bool:
    """Whether a row is in the half of its split that shots are drawn from."""
    return int(_hash(f"pool\n{_content(example)}")[:8], 16) % 2 == 0


def row_digest(example: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of an example's texts and gold: what tells rows apart
    whatever file and place they stand in.
    """
    return _hash(_content(example))[:16]


def _content(example: Mapping[str, Any]) -> str:
    return canonical(
        {key: value for key, value in example.items() if key not in ("id", "stage", "genre")}
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def draw_shots(task: Task, pool: CheckedSplit, draw: ShotDraw, *, joined: bool) -> DrawnShots:
    """The shots of a pool. DataError where it has too few rows of a class.

    A content that stands in the pool several times counts once.
    """
    class_of = formats.load(task.format).class_of
    places: dict[str, int] = {}
    for place, example in enumerate(pool.examples):
        places.setdefault(_content(example), place)
    chosen: list[int] = []
    counts: Counter[str] = Counter()
    for content in sorted(places, key=lambda text: _hash(f"{draw.bucket}\n{text}")):
        place = places[content]
        name = class_of(pool.examples[place])
        if counts[name] < draw.per_class:
            counts[name] += 1
            chosen.append(place)
    _check_counts(task, pool, draw, counts)
    examples = [pool.examples[place] for place in sorted(chosen)]
    split = replace(pool, examples=examples)
    digests = tuple(row_digest(example) for example in examples)
    return DrawnShots(split, draw, len(places), digests, joined)


def _check_counts(
    task: Task, pool: CheckedSplit, draw: ShotDraw, counts: Mapping[str, int]
) -> None:
    names: Iterable[str] = formats.load(task.format).classes(task.labels) or ("",)
    lacking = [
        f"{counts.get(name, 0)}{f' of {name}' if name else ''}"
        for name in names
        if counts.get(name, 0) < draw.per_class
    ]
    if lacking:
        raise DataError(
            f"{task.name}: train.shots={draw.per_class} of '{draw.language}': {pool.forms[0]} has"
            f" only {', '.join(lacking)} that may be trained on"
        )
