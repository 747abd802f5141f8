"""Shots of a target language: which rows they are, and which they never are. The rows are made up
for the tests.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.shot_pool import locate_shots, shot_pool
from adapters_xtl.data.shots import BUCKETS, DrawnShots, ShotDraw, draw_shots, row_digest
from adapters_xtl.data.sources import Embedded, Mirror, samples_dir
from adapters_xtl.data.splits import CheckedSplit, TrainingRows
from tests.data.mirrors import PANX, mirror_of, tagged

LABELS = ("entailment", "neutral", "contradiction")


def pool(count: int = 60) -> CheckedSplit:
    rows: list[dict[str, Any]] = [
        {"id": f"#{n}", "text": f"text {n}", "pair": f"pair {n}", "label": LABELS[n % 3]}
        for n in range(count)
    ]
    return CheckedSplit(rows, count, forms=["made up"])


def drawn(k: int, bucket: int, rows: CheckedSplit | None = None) -> DrawnShots:
    return draw_shots(tasks.load("xnli"), rows or pool(), ShotDraw("sw", k, bucket), joined=False)


def test_shots_are_so_many_of_each_label_and_those_of_fewer_are_among_them() -> None:
    for bucket in range(BUCKETS):
        smaller: set[str] = set()
        for k in (1, 4, 16):
            shots = drawn(k, bucket)
            labels = [row["label"] for row in shots.split.examples]
            assert [labels.count(label) for label in LABELS] == [k, k, k]
            assert smaller <= set(shots.digests) and len(set(shots.digests)) == 3 * k
            smaller = set(shots.digests)


def test_buckets_differ_and_depend_on_content_alone() -> None:
    """Neither the order of the rows, nor their ids, nor a row that stands there twice matters."""
    by_bucket = [frozenset(drawn(4, bucket).digests) for bucket in range(BUCKETS)]
    assert len(set(by_bucket)) == BUCKETS
    rows = [{**row, "id": f"other {n}"} for n, row in enumerate(reversed(pool().examples))]
    shuffled = CheckedSplit([*rows, *rows[:9]], 69, forms=["made up"])
    again = [frozenset(drawn(4, bucket, shuffled).digests) for bucket in range(BUCKETS)]
    assert again == by_bucket
    # fixed for good: a bucket that changes would be another study
    assert sorted(drawn(1, 0).digests) == [
        "8ce2d6272d2a7c82",
        "b28a3ffd3605a370",
        "c7566af8d02fd6e5",
    ]


def test_too_few_rows_of_a_label_are_named() -> None:
    with pytest.raises(DataError, match=r"train\.shots=21 of 'sw': made up has only 20 of entail"):
        drawn(21, 0)


def read(source: Mirror | Embedded, name: str, draw: ShotDraw, *, joined: bool) -> TrainingRows:
    task = tasks.load(name)
    files = locate_training(source, task, "clean", tasks.load)
    files = replace(files, shots=locate_shots(source, task, draw.language))
    return read_training(Reader(), task, files, tasks.load, draw, joined=joined)


def test_rows_that_are_reported_are_no_shots(tmp_path: Path) -> None:
    """Five of the ten train rows stand among the test rows too."""
    test_rows = {column: values[5:] for column, values in tagged(25, "sw").items()}
    files = {
        PANX.format("en", "train"): tagged(60),
        PANX.format("en", "validation"): tagged(20, "dev"),
        PANX.format("sw", "train"): tagged(10, "sw"),
        PANX.format("sw", "validation"): tagged(5, "swdev"),
        PANX.format("sw", "test"): test_rows,
    }
    source = mirror_of(tmp_path, files)
    rows = read(source, "panx", ShotDraw("sw", 5, 0), joined=False)
    assert rows.shots is not None and rows.shots.pool == 5
    assert rows.train.examples == rows.shots.split.examples
    words = {row["words"][0] for row in rows.train.examples}
    reported = {words[0] for words in test_rows["tokens"]}
    assert len(rows.train.examples) == 5 and not words & reported
    with pytest.raises(DataError, match="has only 5 that may be trained on"):
        read(source, "panx", ShotDraw("sw", 6, 0), joined=False)
    joined = read(source, "panx", ShotDraw("sw", 5, 0), joined=True)
    (stage,) = joined.stages()
    assert len(stage.shots) == 5 and len(stage.train) + len(stage.select) == 60


def test_shots_are_validation_rows_where_a_source_lacks_train_rows(tmp_path: Path) -> None:
    """Of sw one half of them, of de all of them, whose test rows are there; of vi none."""
    task = tasks.load("panx")
    files = {
        PANX.format("en", "train"): tagged(60),
        PANX.format("sw", "validation"): tagged(40, "sw"),
        PANX.format("de", "validation"): tagged(20, "de"),
        PANX.format("de", "test"): tagged(20, "detest"),
        PANX.format("vi", "test"): tagged(20, "vi"),
    }
    source = mirror_of(tmp_path, files)
    pool = shot_pool(source, task, "sw")
    assert (pool.split, pool.reported) == ("validation", "validation-without-shots")
    located, _ = locate_report(source, task, pool.reported, ["sw"])
    reported = {row["words"][0] for row in read_report(Reader(), task, located)[0]["sw"].examples}
    shots = read(source, "panx", ShotDraw("sw", 5, 0), joined=False).shots
    assert shots is not None and shots.split.forms == [
        "google/xtreme [PAN-X.sw] validation, the half for shots"
    ]
    assert {row["words"][0] for row in shots.split.examples} <= {
        f"sw{number}" for number in range(40)
    } - reported
    assert shots.pool + len(reported) == 40 and 10 < len(reported) < 30
    pool = shot_pool(source, task, "de")
    assert (pool.split, pool.reported) == ("validation", "test")
    assert read(source, "panx", ShotDraw("de", 20, 0), joined=False).shots is not None
    with pytest.raises(MissingRows, match=r"no rows of 'vi' .* shots can be of de, sw$"):
        shot_pool(source, task, "vi")
    pool = shot_pool(mirror_of(tmp_path, {PANX.format("sw", "train"): tagged()}), task, "sw")
    assert (pool.split, pool.reported, pool.files[0].rows.split) == ("", "", "train")


@pytest.mark.parametrize("path", sorted((samples_dir() / "shots").glob("*.jsonl")), ids=str)
def test_embedded_shots_are_rows_of_their_task_that_it_does_not_report(path: Path) -> None:
    name = path.stem
    language = "de" if name in ("xnli", "panx", "udpos") else "id"
    rows = read(Embedded(), name, ShotDraw(language, 2, 3), joined=False)
    assert rows.shots is not None and not rows.train.faults
    assert rows.shots.digests == tuple(row_digest(row) for row in rows.train.examples)
    # nothing was held back because it is reported: these rows are others
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert rows.shots.pool == len(lines)
