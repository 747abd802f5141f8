"""Trainings in chosen languages: which rows are read, which select, what makes them comparable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.data.language_rows import ITEMS, NUMBERS
from adapters_xtl.data.locate import locate_training
from adapters_xtl.data.reading import Reader, read_training
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Embedded, Source
from adapters_xtl.data.splits import TrainingRows
from adapters_xtl.planning import training_rows
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.run_card import run_card
from adapters_xtl.runs.stored_runs import read_run
from tests.data.mirrors import PANX, SQUAD, mirror_of, nli, squad, tagged
from tests.finished_runs import finished_run

XNLI = "facebook/xnli/{}/train-00000-of-00001.parquet"
XQUAD = "google/xtreme/XQuAD.{}/validation-00000-of-00001.parquet"
TRANSLATED = "facebook/mlqa/mlqa-translate-train.{}/{}-00000-of-00001.parquet"
LABELS = {"label": ["entailment", "neutral", "contradiction"]}
TAGS = {"ner_tags": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]}


def rows_of(source: Source, name: str, languages: str, matched: str = "") -> TrainingRows:
    task = tasks.load(name)
    chosen = tuple(languages.split(",")), tuple(filter(None, matched.split(",")))
    files = locate_training(source, task, "clean", tasks.load, *chosen)
    return read_training(Reader(), task, files, tasks.load)


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def translated_nli(code: str, count: int = 30) -> dict[str, list[Any]]:
    rows = nli(count)
    return {
        "premise": [f"{code} {text}" for text in rows["premise"]],
        "hypothesis": [f"{code} {text}" for text in rows["hypothesis"]],
        "label": rows["label"],
    }


def parallel_mirror(root: Path, **changed: dict[str, list[Any]]) -> Source:
    by_language = {code: translated_nli(code) for code in ("en", "zh", "ar")} | changed
    files = {XNLI.format(code): rows for code, rows in by_language.items()}
    return mirror_of(root, files, LABELS)


def test_every_language_trains_and_selects_on_the_same_items(tmp_path: Path) -> None:
    """Of 30 items, one is empty in Arabic: 29 are left, of which 2 select."""
    arabic = translated_nli("ar")
    arabic["premise"][7] = ""
    source = parallel_mirror(tmp_path, ar=arabic)
    by_language = {code: rows_of(source, "mnli", code, "en,zh,ar") for code in ("en", "zh", "ar")}
    english, chinese, arab = by_language.values()
    assert ids(english.train.examples) == ids(chinese.train.examples) == ids(arab.train.examples)
    assert ids(english.select.examples) == ids(chinese.select.examples)
    assert (len(chinese.train.examples), len(chinese.select.examples)) == (27, 2)
    assert not {"#7"} & set(ids(english.train.examples + english.select.examples))
    assert not set(ids(chinese.train.examples)) & set(ids(chinese.select.examples))
    assert all(row["text"].startswith("zh premise") for row in chinese.train.examples)
    assert chinese.in_languages == {"zh": 27} and chinese.matched_by == ITEMS
    assert chinese.train.forms == ["facebook/xnli [zh] train"]
    alone = rows_of(source, "mnli", "zh")
    assert len(alone.train.examples) + len(alone.select.examples) == 30 and not alone.matched_by
    both = rows_of(source, "mnli", "zh,ar", "en,zh,ar")
    assert both.in_languages == {"zh": 27, "ar": 27}
    assert {row["language"] for row in both.select.examples} == {"zh", "ar"}
    assert not set(ids(both.train.examples)) & set(ids(both.select.examples)), "no item is in both"


def test_rows_at_the_same_place_with_another_gold_are_no_translations(tmp_path: Path) -> None:
    shifted = translated_nli("zh")
    shifted["label"] = shifted["label"][1:] + shifted["label"][:1]
    with pytest.raises(DataError, match=r"row 0 has the label .* in en .* in zh .*not parallel"):
        rows_of(parallel_mirror(tmp_path, zh=shifted), "mnli", "ar", "en,zh,ar")


def test_an_english_form_without_translations_is_matched_by_number(tmp_path: Path) -> None:
    files = {
        "nyu-mll/multi_nli/data/train-00000-of-00001.parquet": nli(50),
        XNLI.format("zh"): translated_nli("zh", 40),
    }
    source = mirror_of(tmp_path, files, LABELS)
    english, chinese = (rows_of(source, "mnli", code, "en,zh") for code in ("en", "zh"))
    assert english.in_languages["en"] == chinese.in_languages["zh"] > 30
    assert len(english.select.examples) == len(chinese.select.examples) > 0
    assert english.matched_by == NUMBERS
    with pytest.raises(MissingRows, match=r"no split 'train' of config 'ar'"):
        rows_of(source, "mnli", "zh", "zh,ar")


def test_native_rows_are_equally_many_and_none_is_reported(tmp_path: Path) -> None:
    """Five of the German train rows, and three of the English ones, stand among the dev rows."""
    files = {
        PANX.format("en", "train"): tagged(60, "en"),
        PANX.format("de", "train"): tagged(40, "de"),
        PANX.format("en", "validation"): tagged(3, "en"),
        PANX.format("de", "validation"): tagged(5, "de"),
    }
    source = mirror_of(tmp_path, files, TAGS)
    english, german = (rows_of(source, "panx", code, "en,de") for code in ("en", "de"))
    assert english.in_languages["en"] == german.in_languages["de"]
    assert english.in_languages["en"] + len(english.select.examples) == 35
    assert german.dropped_from_train == {"panx": 5} and english.dropped_from_train == {"panx": 3}
    reported = {f"de{number}" for number in range(5)}
    used = [*german.train.examples, *german.select.examples]
    assert not reported & {row["words"][0] for row in used}
    assert german.matched_by == NUMBERS
    assert "panx test in de" in german.unchecked, "the mirror has no test rows"


def test_translated_squad_is_found_by_its_ids_and_never_selects_what_xquad_reports(
    tmp_path: Path,
) -> None:
    """Chinese lacks the first ten questions, as where no answer could be found in a translation;
    its dev rows are SQuAD's, of which XQuAD reports the first four.
    """
    chinese = {name: values[10:] for name, values in squad(40).items()}
    files = {
        SQUAD.format("train"): squad(40),
        SQUAD.format("validation"): squad(12, prefix="dev"),
        TRANSLATED.format("zh", "train"): chinese,
        TRANSLATED.format("zh", "validation"): squad(12, prefix="dev"),
        XQUAD.format("en"): squad(4, prefix="dev"),
    }
    source = mirror_of(tmp_path, files)
    english, translated = (rows_of(source, "squad1", code, "en,zh") for code in ("en", "zh"))
    assert ids(english.train.examples) == ids(translated.train.examples)
    assert sorted(ids(translated.train.examples)) == sorted(f"q{n}" for n in range(10, 40))
    assert sorted(ids(translated.select.examples)) == sorted(f"dev{n}" for n in range(4, 12))
    assert translated.dropped == {"xquad": 4}
    assert translated.matched_by == ITEMS


def test_one_file_with_several_languages(tmp_path: Path) -> None:
    swahili, english = squad(30, prefix="swahili-"), squad(50, start=30, prefix="english-")
    path = "google/xtreme/tydiqa/train-00000-of-00001.parquet"
    files = {path: {name: swahili[name] + english[name] for name in swahili}}
    source = mirror_of(tmp_path, files)
    rows = rows_of(source, "tydiqa", "sw", "en,sw")
    assert all(row["id"].startswith("swahili-") for row in rows.train.examples)
    assert rows.in_languages == {"sw": 27} and len(rows.select.examples) == 3
    digests = [
        locate_training(source, tasks.load("tydiqa"), "clean", tasks.load, *chosen).digests()
        for chosen in ((("sw",), ("en", "sw")), (("en",), ("en", "sw")))
    ]
    assert digests[0] == digests[1], "only the setting tells the two trainings apart"


@pytest.mark.parametrize(
    ("task", "settings", "complaint"),
    [
        ("mnli", {"languages": ("zh-tw",)}, "'mnli' has no train rows in 'zh-tw'"),
        ("udpos", {"languages": ("yo",)}, "'udpos' has no train rows in 'yo'"),
        ("qqp", {"languages": ("sw",)}, "one language alone; rows in 'sw' have mnli"),
        ("mnli", {"matched": ("en", "zh")}, "means nothing without train.languages"),
        ("mnli", {"languages": ("ar",), "matched": ("en", "zh")}, "lacks ar, which is trained in"),
        ("mnli", {"languages": ("ar", "ar")}, "names a language twice"),
    ],
)
def test_what_a_task_has_not_is_refused_in_a_line(
    task: str, settings: dict[str, Any], complaint: str
) -> None:
    problems = Problems()
    assert not training_rows.check((task,), Hyper(**settings), "clean", "--set", problems)
    (message,) = problems.messages
    assert complaint in message and "\n" not in message


def test_other_languages_are_no_part_of_xtremes_protocol() -> None:
    problems = Problems()
    training_rows.check(("panx",), Hyper(languages=("de",)), "xtreme", "--set", problems)
    assert "--protocol xtreme" in problems.messages[0]


def test_the_embedded_translations_are_parallel() -> None:
    codes = ("en", "en-bt", "de", "zh", "ar")
    by_language = {code: rows_of(Embedded(), "xnli", code, ",".join(codes)) for code in codes}
    first, *others = by_language.values()
    assert len(first.train.examples) == 33
    for rows in others:
        assert ids(rows.train.examples) == ids(first.train.examples)
        golds = [row["label"] for row in rows.train.examples]
        assert golds == [row["label"] for row in first.train.examples]
    texts = {row["text"] for rows in by_language.values() for row in rows.train.examples}
    assert len(texts) == 5 * len({row["text"] for row in first.train.examples})


def test_a_run_tells_its_languages_and_has_its_own_id(runs: Path) -> None:
    quick = ("train.max_steps=2", "train.eval_every=2", "eval.max_examples=5")
    english = finished_run(runs, "mnli", set_=quick)
    chosen = (*quick, "train.languages=zh", "train.matched=en,zh")
    chinese = finished_run(runs, "mnli", set_=chosen)
    assert english["id"] != chinese["id"]
    of_english, of_chinese = (read_run(Path(done["path"])) for done in (english, chinese))
    identity = of_english.module.run.identity() if of_english.module else {}
    assert not {"languages", "matched"} & set(identity["hyper"]), "ids of older runs stay"
    assert of_chinese.module is not None
    assert of_chinese.module.run.identity()["hyper"]["languages"] == ["zh"]
    assert of_chinese.provenance.data.in_languages == {"mnli": {"zh": 33}}
    assert of_chinese.provenance.data.matched_by == {"mnli": "items"}
    assert "| trained in | zh (translated); rows matched over en, zh |" in run_card(
        Path(chinese["path"])
    )
    assert "trained in" not in run_card(Path(english["path"]))
