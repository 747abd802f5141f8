"""Which rows select, and how select and report are kept apart. Every row here is made up for the
tests, but for those of the mirror.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.sources import Embedded, Mirror
from adapters_xtl.data.splits import (
    CheckedSplit,
    TrainingRows,
    count_overlap,
    cut_select,
    id_digest,
    known_ids,
)
from tests.data.mirrors import PANX, SQUAD, mirror_of, squad, tagged

TYDIQA = "google/xtreme/tydiqa/{}-00000-of-00001.parquet"
XQUAD = "google/xtreme/XQuAD.en/validation-00000-of-00001.parquet"


def trained(source: Mirror | Embedded, name: str, protocol: str = "clean") -> TrainingRows:
    task = tasks.load(name)
    files = locate_training(source, task, protocol, tasks.load)
    return read_training(Reader(), task, files, tasks.load)


def test_tydiqa_may_select_on_what_it_reports_under_xtreme_only(tmp_path: Path) -> None:
    path = "google/xtreme/tydiqa/{}-00000-of-00001.parquet"
    source = mirror_of(
        tmp_path,
        {
            path.format("train"): squad(60, prefix="english-"),
            path.format("validation"): squad(30, 100, prefix="english-"),
        },
    )
    task = tasks.load("tydiqa")
    report, _ = read_report(Reader(), task, locate_report(source, task, "validation", ("en",))[0])
    clean = read_training(
        Reader(), task, locate_training(source, task, "clean", tasks.load), tasks.load
    ).select
    assert clean.forms == ["slice of train"] and count_overlap(task, clean, report.values()) == 0
    xtreme = read_training(
        Reader(), task, locate_training(source, task, "xtreme", tasks.load), tasks.load
    ).select
    assert count_overlap(task, xtreme, report.values()) == 30


def test_when_every_train_question_is_reported_too_clean_refuses(tmp_path: Path) -> None:
    path = "google/xtreme/tydiqa/{}-00000-of-00001.parquet"
    rows = squad(60, prefix="english-")
    source = mirror_of(tmp_path, {path.format("train"): rows, path.format("validation"): rows})
    task = tasks.load("tydiqa")
    with pytest.raises(DataError, match="--protocol xtreme allows"):
        read_training(
            Reader(), task, locate_training(source, task, "clean", tasks.load), tasks.load
        )


def test_squads_dev_loses_the_questions_that_xquad_reports(tmp_path: Path) -> None:
    files = {
        SQUAD.format("train"): squad(60, 500),
        SQUAD.format("validation"): squad(40),
        "google/xtreme/XQuAD.en/validation-00000-of-00001.parquet": squad(25, 10),
    }
    source, task = mirror_of(tmp_path, files), tasks.load("squad1")
    rows = read_training(
        Reader(), task, locate_training(source, task, "clean", tasks.load), tasks.load
    )
    assert rows.dropped == {"xquad": 25} and not rows.unchecked
    assert [e["id"] for e in rows.select.examples] == [
        f"q{n}" for n in (*range(10), *range(35, 40))
    ]
    assert len(rows.train.examples) == 60
    digests = locate_training(source, task, "clean", tasks.load).digests()
    assert len(digests["select"]) == 3, "what is dropped is part of the run's identity"
    rows = read_training(
        Reader(), task, locate_training(source, task, "xtreme", tasks.load), tasks.load
    )
    assert not rows.dropped and len(rows.select.examples) == 40
    source = mirror_of(
        tmp_path, {"google/xtreme/XQuAD.en/validation-00000-of-00001.parquet": squad(40)}
    )
    with pytest.raises(DataError, match=r"select row.*reported"):
        read_training(
            Reader(), task, locate_training(source, task, "clean", tasks.load), tasks.load
        )


def _part(task: str, count: int, group: int = 1) -> CheckedSplit:
    spec = tasks.load(task)
    if spec.format == "span":
        examples = [
            {"id": str(n), "context": f"passage {n // group}", "question": f"q{n}"}
            for n in range(count)
        ]
    elif spec.format == "choice":
        examples = [
            {
                "id": str(n),
                "context": f"c{n // group}",
                "choices": ["a", "b"],
                "label": 0,
                "stage": n % 2,
            }
            for n in range(count)
        ]
    else:
        examples = [
            {"id": str(n), "words": [f"w{n // group}"], "tags": ["O"]} for n in range(count)
        ]
    return CheckedSplit(examples, rows=count)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 400), group=st.integers(1, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", ["tydiqa", "panx", "xcopa"])
def test_a_select_slice_is_whole_groups_of_the_right_size(
    name: str, count: int, group: int, seed: int
) -> None:
    task, part = tasks.load(name), _part(name, count, group)
    stage = 1 if name == "xcopa" and count > 1 else None
    pool = [example for example in part.examples if stage is None or example["stage"] == stage]
    if group > len(pool) // 2:
        with contextlib.suppress(DataError):
            train, select = cut_select(task, part, stage)
            assert 1 <= len(select.examples) <= len(pool) // 2
        return
    train, select = cut_select(task, part, stage)
    wanted = max(1, min(500, len(pool) // 10))
    assert min(wanted, 1) <= len(select.examples) < wanted + group
    assert len(select.examples) <= len(pool) // 2
    assert len(train.examples) + len(select.examples) == count
    key = "words" if name == "panx" else "context"
    if name != "xcopa":
        assert not {str(e[key]) for e in train.examples} & {str(e[key]) for e in select.examples}
    else:
        assert count < 2 or {example["stage"] for example in select.examples} == {1}, (
            "the last stage selects"
        )
    shuffled = list(part.examples)
    random.Random(seed).shuffle(shuffled)
    _, again = cut_select(task, CheckedSplit(shuffled, rows=count), stage)
    assert sorted(e["id"] for e in again.examples) == sorted(e["id"] for e in select.examples), (
        "content alone decides"
    )


def test_xcopa_selects_on_copa(mirror: Path) -> None:
    task = tasks.load("xcopa")
    rows = read_training(
        Reader(), task, locate_training(Mirror(mirror), task, "clean", tasks.load), tasks.load
    )
    train, select = rows.train, rows.select
    assert {e["stage"] for e in select.examples} == {1} and {
        e["stage"] for e in train.examples
    } == {0, 1}
    assert {len(e["choices"]) for e in select.examples} == {2}
    copa = sum(e["stage"] == 1 for e in (*train.examples, *select.examples))
    assert len(select.examples) == copa // 10


def test_words_that_are_reported_never_select(tmp_path: Path) -> None:
    """PAN-X's rows have no ids: the same words tell that a sentence is reported, under any case or
    spelling of white space, whatever its tags are.
    """
    train = tagged(200)
    plain = {PANX.format("en", "train"): train}
    chosen = [
        e["words"][0] for e in trained(mirror_of(tmp_path / "a", plain), "panx").select.examples
    ]
    files = {
        PANX.format("en", "train"): train,
        PANX.format("en", "test"): {
            "tokens": [[chosen[0].upper(), "in", "ulm"], ["other", "words"]],
            "ner_tags": [[0, 0, 0], [0, 0]],
        },
        PANX.format("en", "validation"): {
            "tokens": [[chosen[1], "in", "Ulm"]],
            "ner_tags": [[0, 0, 0]],
        },
    }
    rows = trained(mirror_of(tmp_path / "b", files), "panx")
    assert [e["words"][0] for e in rows.select.examples] == chosen[2:]
    assert rows.dropped == {"panx": 2} and not rows.unchecked
    assert len(rows.train.examples) == 180, "train rows stay"
    xtreme = trained(mirror_of(tmp_path / "b", files), "panx", "xtreme")
    assert not xtreme.dropped and len(xtreme.select.examples) == 1


def test_what_a_source_lacks_is_said_and_kept_apart_by_known_ids(tmp_path: Path) -> None:
    files = {SQUAD.format("train"): squad(60, 500), SQUAD.format("validation"): squad(40)}
    rows = trained(mirror_of(tmp_path, files), "squad1")
    assert list(rows.unchecked) == ["xquad validation"] and not rows.dropped
    reason = rows.unchecked["xquad validation"]
    assert "lacks" in reason and "ids" in reason and str(tmp_path) not in reason


def test_xquads_ids_ship_with_the_package(mirror: Path) -> None:
    assert len(known_ids("xquad")) == 1190 and not known_ids("panx")
    task = tasks.load("xquad")
    files, _ = locate_report(Mirror(mirror), task, "validation", ("en",))
    parts, _ = read_report(Reader(), task, files)
    assert {id_digest(e["id"]) for e in parts["en"].examples} == known_ids("xquad")


def test_known_ids_are_dropped_where_the_source_lacks_xquad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = frozenset(id_digest(f"q{n}") for n in range(10, 25))
    for module in ("splits", "locate"):
        monkeypatch.setattr(
            f"adapters_xtl.data.{module}.known_ids",
            lambda task: ids if task == "xquad" else frozenset(),
        )
    files = {SQUAD.format("train"): squad(60, 500), SQUAD.format("validation"): squad(40)}
    rows = trained(mirror_of(tmp_path, files), "squad1")
    assert rows.dropped == {"xquad": 15} and "xquad validation" in rows.unchecked
    assert [e["id"] for e in rows.select.examples] == [
        f"q{n}" for n in (*range(10), *range(25, 40))
    ]


def test_reported_rows_that_cannot_be_read_are_said_and_training_goes_on(tmp_path: Path) -> None:
    hidden = {**tagged(20), "ner_tags": [[None, None, None]] * 20}
    files = {
        PANX.format("en", "train"): tagged(100),
        PANX.format("en", "test"): hidden,
        PANX.format("en", "validation"): tagged(20, "other"),
    }
    rows = trained(mirror_of(tmp_path, files), "panx")
    assert len(rows.select.examples) == 10 and list(rows.unchecked) == ["panx test"]


@pytest.mark.parametrize("name", [n for n in tasks.names() if tasks.load(n).train])
def test_no_embedded_row_selects_that_is_reported(name: str) -> None:
    task, rows = tasks.load(name), trained(Embedded(), name)
    assert not rows.unchecked
    if task.kind == "target":
        split = next(iter(task.report))
        files, _ = locate_report(Embedded(), task, split, task.all_languages)
        parts, _ = read_report(Reader(), task, files)
        assert count_overlap(task, rows.select, parts.values()) == 0


@pytest.mark.parametrize(
    ("distinct", "share"), [(1, 60), (2, 30), (3, 20), (60, 1)], ids=lambda value: str(value)
)
def test_a_slice_leaves_rows_to_train_on_or_is_refused(
    tmp_path: Path, distinct: int, share: int
) -> None:
    rows = {
        "sentence1": [f"text {n % distinct}" for n in range(60)],
        "sentence2": ["same"] * 60,
        "label": [n % 2 for n in range(60)],
    }
    source = mirror_of(tmp_path, {"google/xtreme/PAWS-X.en/train-00000-of-00001.parquet": rows})
    if distinct == 1:
        with pytest.raises(DataError, match="60 train rows"):
            trained(source, "pawsx")
    else:
        parts = trained(source, "pawsx")
        taken = len(parts.select.examples)
        assert taken and taken % share == 0 and taken <= 30
        assert len(parts.train.examples) == 60 - taken


def test_one_row_cannot_both_train_and_select(tmp_path: Path) -> None:
    rows = {"sentence1": ["a"], "sentence2": ["b"], "label": [1]}
    source = mirror_of(tmp_path, {"google/xtreme/PAWS-X.en/train-00000-of-00001.parquet": rows})
    with pytest.raises(DataError, match="1 train rows"):
        trained(source, "pawsx")


def test_each_stage_has_its_own_rows_and_selects_on_its_own(tmp_path: Path) -> None:
    siqa = {key: [f"{key} {n}" for n in range(80)] for key in ("context", "question")}
    siqa |= {f"answer{key}": [f"{key}{n}" for n in range(80)] for key in "ABC"}
    copa: dict[str, Any] = {
        "premise": [f"p{n}" for n in range(40)],
        "choice1": ["a"] * 40,
        "choice2": ["b"] * 40,
        "question": ["cause", "effect"] * 20,
        "label": [n % 2 for n in range(40)],
        "idx": list(range(40)),
    }
    files = {
        "lighteval/siqa/default/train-00000-of-00001.parquet": {**siqa, "label": ["2"] * 80},
        "aps/super_glue/copa/train-00000-of-00001.parquet": copa,
        "aps/super_glue/copa/validation-00000-of-00001.parquet": {
            **copa,
            "premise": [f"v{n}" for n in range(40)],
        },
    }
    source = mirror_of(tmp_path, files)
    for protocol, selecting in (("clean", 4), ("xtreme", 40)):
        rows = trained(source, "xcopa", protocol)
        first, second = rows.stages()
        assert first.title.startswith("lighteval/siqa") and "copa" in second.title
        assert (len(first.train), len(first.select)) == (72, 8)
        assert len(second.select) == selecting and len(rows.select.examples) == selecting
        assert len(second.train) == (36 if protocol == "clean" else 40)
        for number, stage in enumerate((first, second)):
            assert {row["stage"] for row in (*stage.train, *stage.select)} == {number}
        contexts = {row["context"] for row in first.train}
        assert not contexts & {row["context"] for row in first.select}
    assert len(trained(source, "xcopa").stages()) == 2


def test_the_embedded_rows_of_xcopa_have_stages_and_others_have_one() -> None:
    rows = trained(Embedded(), "xcopa")
    assert all(stage.train and stage.select for stage in rows.stages())
    assert {row["stage"] for row in rows.select.examples} == {len(rows.stages()) - 1}
    assert len(trained(Embedded(), "mnli").stages()) == 1
