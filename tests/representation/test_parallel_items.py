"""Rows of several languages become units of the same items, or are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError
from adapters_xtl.data.locate import locate_report
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.data.shots import row_digest
from adapters_xtl.data.splits import CheckedSplit
from adapters_xtl.representation.features import feature_distances, scripts
from adapters_xtl.representation.parallel_items import Unit, parallel_units
from tests.data.mirrors import mirror_of

LABELS = ("entailment", "neutral", "contradiction")


def nli_rows(language: str, premises: int = 14, first: int = 0) -> CheckedSplit:
    """Three hypotheses on each premise, with ids that only number the rows of a file."""
    examples: list[dict[str, Any]] = [
        {
            "id": f"#{first + 3 * premise + number}",
            "text": f"{language} premise {premise}",
            "pair": f"{language} hypothesis {premise} {number}",
            "label": label,
        }
        for premise in range(premises)
        for number, label in enumerate(LABELS)
    ]
    return CheckedSplit(examples, rows=len(examples))


def test_rows_without_ids_are_aligned_by_their_place_in_their_language() -> None:
    """Also where one file holds both languages, and numbers them through."""
    rows = {"en": nli_rows("en"), "de": nli_rows("de", first=42)}
    units = parallel_units(tasks.load("xnli"), rows, 100)
    assert Counter(unit.language for unit in units) == {"en": 42, "de": 42}
    english, german = (
        {unit.item: unit for unit in units if unit.language == code} for code in ("en", "de")
    )
    for item, unit in english.items():
        assert german[item].texts[1] == unit.texts[1].replace("en ", "de ")
        assert (german[item].label, german[item].group) == (unit.label, unit.group)
    assert Counter(Counter(unit.group for unit in units).values()) == {6: 14}  # 3 items × 2


def test_groups_are_taken_whole() -> None:
    rows = {"en": nli_rows("en"), "de": nli_rows("de")}
    units = parallel_units(tasks.load("xnli"), rows, 37)
    assert len({unit.item for unit in units}) == 39  # 13 premises with all their hypotheses


def test_translations_with_other_labels_are_none() -> None:
    rows = {"en": nli_rows("en"), "de": nli_rows("de")}
    rows["de"].examples[4]["label"] = "entailment"
    with pytest.raises(DataError, match="no translations of each other"):
        parallel_units(tasks.load("xnli"), rows, 100)


def test_a_row_that_is_missing_in_one_language_is_not_papered_over() -> None:
    rows = {"en": nli_rows("en"), "de": nli_rows("de")}
    del rows["de"].examples[0]
    rows["de"].faults["an empty text"] += 1
    with pytest.raises(DataError, match="xnli, de: 1 of 42 rows are unfit"):
        parallel_units(tasks.load("xnli"), rows, 100)


def test_too_few_rows_in_common_are_refused() -> None:
    rows = {"en": nli_rows("en", premises=5), "de": nli_rows("de", premises=5)}
    with pytest.raises(DataError, match="5 groups of rows in several languages; takes 12"):
        parallel_units(tasks.load("xnli"), rows, 100)


def test_sentence_pairs_meet_in_their_english_sentence() -> None:
    """German has all twenty, French twelve in another order, Thai too few to be compared."""

    def pairs(code: str, numbers: list[int]) -> CheckedSplit:
        examples = [{"source": f"{code} {n}", "target": f"sentence {n}"} for n in numbers]
        return CheckedSplit(examples, rows=len(examples))

    rows = {
        "de": pairs("de", list(range(20))),
        "fr": pairs("fr", list(range(12))[::-1]),
        "th": pairs("th", [1, 2, 3]),
    }
    units = parallel_units(tasks.load("tatoeba"), rows, 100)
    assert Counter(unit.language for unit in units) == {"en": 20, "de": 20, "fr": 12}
    texts = {(unit.language, unit.item): unit.texts for unit in units}
    assert texts["fr", "sentence 3"] == ("fr 3",)
    assert texts["en", "sentence 3"] == ("sentence 3",)


def test_questions_on_one_paragraph_are_one_group() -> None:
    def questions(code: str) -> CheckedSplit:
        examples = [
            {
                "id": f"q{number}",
                "question": f"{code} {number}?",
                "context": f"{code} paragraph {number // 2}",
                "answers": {"text": ["x"], "answer_start": [0]},
            }
            for number in range(26)
        ]
        return CheckedSplit(examples, rows=len(examples))

    units = parallel_units(tasks.load("xquad"), {"en": questions("en"), "hi": questions("hi")}, 100)
    assert Counter(Counter(unit.group for unit in units).values()) == {4: 13}
    assert {unit.texts for unit in units if unit.item == "q3"} == {("en 3?",), ("hi 3?",)}


def test_features_that_say_nothing_are_left_out_with_the_reason() -> None:
    rows = {"en": nli_rows("en"), "de": nli_rows("de"), "fr": nli_rows("fr")}
    units = parallel_units(tasks.load("xnli"), rows, 100)
    tokens = [np.arange(len(unit.texts[1])) for unit in units]
    features = feature_distances(units, tokens, np.random.default_rng(0))
    assert features.left_out["genre"] == "these rows have none"
    assert features.left_out["script"] == features.left_out["family"] == "the same in all units"
    assert {"language", "item", "group", "label", "length", "overlap", "random"} == set(
        features.names
    )
    first, second = 0, next(n for n, unit in enumerate(units) if unit.item == units[0].item and n)
    distances = dict(
        zip(features.names, features.of(np.array([first]), np.array([second]))[0], strict=True)
    )
    assert (distances["language"], distances["item"], distances["label"]) == (1.0, 0.0, 0.0)


def test_scripts_are_read_off_the_texts() -> None:
    texts = {"ru": "Поезд ушёл", "zh": "火车开走了", "hi": "ट्रेन चली गई", "de": "Der Zug fuhr ab"}
    units = [Unit(code, "1", (text,)) for code, text in texts.items()]
    assert scripts(units) == {
        "ru": "CYRILLIC",
        "zh": "CJK",
        "hi": "DEVANAGARI",
        "de": "LATIN",
    }


def test_the_genre_is_a_feature_where_a_file_has_such_a_column(tmp_path: Path) -> None:
    """Of XNLI's rows, the column is read beside those that are declared."""
    task, count = tasks.load("xnli"), 42
    columns = {
        "language": [code for code in ("en", "de") for _ in range(count)],
        "sentence1": [f"{code} {n // 3}" for code in ("en", "de") for n in range(count)],
        "sentence2": [f"{code} hypothesis {n}" for code in ("en", "de") for n in range(count)],
        "gold_label": [LABELS[n % 3] for _ in ("en", "de") for n in range(count)],
        "genre": [("letters", "travel")[n // 3 % 2] for _ in ("en", "de") for n in range(count)],
    }
    source = mirror_of(tmp_path, {"google/xtreme/XNLI/validation-00000-of-00001.parquet": columns})
    located, _ = locate_report(source, task, "validation", ["en", "de"])
    rows, _ = read_report(Reader(), task, located)
    units = parallel_units(task, rows, 100)
    tokens = [np.arange(3)] * len(units)
    features = feature_distances(units, tokens, np.random.default_rng(0))
    genre = features.names.index("genre")
    for second, unit in enumerate(units):
        expected = float(unit.genre != units[0].genre)
        assert features.of(np.array([0]), np.array([second]))[0, genre] == expected
    # it is said of a row, and is no part of its content
    example = dict(rows["en"].examples[0])
    assert row_digest(example) == row_digest({**example, "genre": "fiction"})
