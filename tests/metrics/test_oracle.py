"""Every recorded case of the official evaluators, whatever cases the folder holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xtl.base.errors import DataError
from adapters_xtl.formats import _mining as mining
from adapters_xtl.metrics import accuracy, bucc, lareqa, mewslix, mlqa, squad, tagging
from adapters_xtl.metrics.xtreme import averages, official_files

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("XTL_SHARED") or ROOT.parent / "shared") / "oracle"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no oracle cases at {FOLDER}")

Case = dict[str, Any]
REL = 1e-9
MINED = 1e-5


@cache
def cases(name: str) -> dict[str, Case]:
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {case["id"]: case for case in content["cases"]}


def all_cases() -> list[Any]:
    names = sorted(path.stem for path in FOLDER.glob("*.json")) if FOLDER.is_dir() else []
    return [pytest.param(name, key, id=f"{name}-{key}") for name in names for key in cases(name)]


def close(found: Any, expected: Any, rel: float = REL) -> None:
    """Equality by structure; numbers within `rel`."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            close(found[key], value, rel)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            close(left, right, rel)
    elif isinstance(expected, float) or (isinstance(expected, int) and isinstance(found, float)):
        assert found == pytest.approx(expected, rel=rel, abs=1e-12)
    else:
        assert found == expected


def check(run: Callable[[], Any], expected: Any) -> None:
    """`run()` gives `expected`; where the official code fails, ours raises DataError."""
    if isinstance(expected, Mapping) and "error" in expected:
        with pytest.raises(DataError):
            run()
    else:
        close(run(), expected)


def check_accuracy(case: Case) -> None:
    strict = case["task"] != "function"
    check(
        lambda: accuracy.score(case["predictions"], case["labels"], strict=strict), case["expected"]
    )


def check_tagging(case: Case) -> None:
    for rules, name in (("0.0.12", "expected"), ("1.2.2", "expected_seqeval_1_2_2")):
        check(lambda: tagging.score(case["predictions"], case["labels"], rules=rules), case[name])
    correct, predicted, gold = tagging.items(case["predictions"], case["labels"]).stats.sum(axis=0)
    assert {"gold": gold, "predicted": predicted, "correct": correct} == case["chunks"]
    assert len(tagging.chunks(case["labels"])) == gold


def answers(
    case: Case, normalise: Callable[[str], str], score: Callable[..., dict[str, float]]
) -> None:
    check(lambda: score(case["predictions"], case["labels"]), case["expected"])
    found = squad.per_question(case["predictions"], case["labels"], normalise)
    close(found, case["per_question"])


def check_squad(case: Case) -> None:
    answers(case, squad.normalise_squad, squad.score)


def check_mlqa(case: Case) -> None:
    language = case["language"]
    answers(
        case,
        lambda text: mlqa.normalise_mlqa(text, language),
        partial(mlqa.score, language=language),
    )


def check_qa_normalisation(case: Case) -> None:
    assert squad.normalise_squad(case["text"]) == case["expected"]["squad"]
    if "mlqa" in case["expected"]:
        assert mlqa.normalise_mlqa(case["text"], case["language"]) == case["expected"]["mlqa"]


def check_qa_edge(case: Case) -> None:
    questions = list(official_files.read_questions(case["dataset"]))
    if case["metric"] == "mlqa":
        check(
            lambda: mlqa.score(case["predictions"], questions, case["language"]),
            case["expected"],
        )
    else:
        check(lambda: squad.score(case["predictions"], questions), case["expected"])


def check_bucc_f1(case: Case) -> None:
    check(lambda: bucc.score(case["predictions"], case["labels"]), case["expected"])


def check_mewslix(case: Case) -> None:
    check(lambda: mewslix.score(case["predictions"], case["labels"]), case["expected"])


def check_tatoeba(case: Case) -> None:
    check(lambda: accuracy.score(case["predictions"], case["labels"]), case["expected"])


def check_tatoeba_mining(case: Case) -> None:
    dist = "cosine" if case["normalize"] else "l2"
    x, y = np.float32(case["x"]), np.float32(case["y"])
    rows = mining.nearest_rows(y, x, dist=dist)
    assert rows == case["predictions"]
    gold = [str(row) for row in mining.sorted_rows(case["english_in_source_order"])]
    assert gold == case["labels"]
    result = accuracy.score([str(row) for row in rows], gold)
    close(result, case["expected"])
    if "expected_jiant" in case:
        assert result["accuracy"] / 100 == pytest.approx(case["expected_jiant"]["acc"], rel=REL)


def check_bucc_mining(case: Case) -> None:
    options, expected = dict(case["options"]), case["expected"]
    mode = options.pop("mode")
    options["shift"] = options.pop("use_shift_embeds")
    options["retrieval"] = {"mine": options["retrieval"], "search": "fwd", "score": "given"}[mode]
    sides = (case["src_sentences"], case["trg_sentences"])
    mined = mining.mine_bitext(*sides, np.float32(case["x"]), np.float32(case["y"]), **options)
    if mode == "search":
        assert [target for _, _, target in mined] == expected["found"]
        return
    close(mined, expected["mined"], MINED)
    if mode == "score":
        return
    found = bucc.candidates(mined, *sides, case["src_ids"], case["trg_ids"])
    assert len(found) == expected["candidates"]
    bucc_search(found, case["gold"], expected["bucc_eval"], percent=1.0)
    if "extracted" in expected:
        threshold = bucc.tune_threshold(found, case["gold"])
        assert bucc.extract(found, threshold) == expected["extracted"]
        given = bucc.extract(found, expected["given_threshold"])
        assert given == expected["extracted_at_given_threshold"]
    if "expected_jiant" in case:
        found = bucc.candidates(mined, *sides, case["src_ids"], case["trg_ids"], repeated="combine")
        bucc_search(found, case["gold"], case["expected_jiant"], percent=100.0, count_repeats=True)


def bucc_search(
    found: Mapping[str, float], gold: Sequence[str], expected: Any, percent: float, **options: bool
) -> None:
    if "error" in expected:
        with pytest.raises(DataError):
            bucc.bucc_eval(found, gold, strict=True, **options)
        assert bucc.bucc_eval(found, gold, **options)["threshold"] == min(found.values())
        return
    result = bucc.bucc_eval(found, gold, strict=True, **options)
    assert result["upper_bound"] == 1.0
    assert result["threshold"] == pytest.approx(expected["best-threshold"], rel=MINED)
    for ours, theirs in (("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        assert result[ours] == pytest.approx(percent * expected[theirs], rel=REL)


def check_lareqa(case: Case) -> None:
    if "function" in case:
        check(
            lambda: lareqa.average_precision(case["targets"], case["ranked"], case["k"]),
            case["expected"],
        )
        return
    data = lareqa.lareqa_data(case["squad_per_lang"])
    assert list(data.questions) == case["questions"]
    assert list(data.candidates) == case["candidates"]
    assert {key: sorted(ids) for key, ids in data.relevant.items()} == {
        key: sorted(ids) for key, ids in case["relevant"].items()
    }
    vectors = (np.float32(case["question_embeddings"]), np.float32(case["candidate_embeddings"]))
    for name, value in case["expected"].items():
        k = int(name.partition("@")[2] or 0)
        found = lareqa.lareqa_items(
            *vectors, case["questions"], case["candidates"], data.relevant, k=k
        ).score()
        close(found, {name.replace("mAP", "map"): 100 * value})


def check_file_text(case: Case) -> None:
    for rules, name in (("0.0.12", "expected"), ("1.2.2", "expected_seqeval_1_2_2")):
        if name in case:
            check(
                lambda: official_files.score_text(
                    case["task"],
                    case["language"],
                    case["prediction_file"],
                    case["label_file"],
                    rules=rules,
                ),
                case[name],
            )


def one_language(
    task: str, language: str, predictions: Any, references: Any, rules: str
) -> dict[str, float]:
    """The scores of one task and language from data that is already read."""
    if task in ("panx", "udpos"):
        return tagging.score(predictions, references, rules=rules)
    if task in ("xquad", "tydiqa"):
        return squad.score(predictions, references)
    if task == "mlqa":
        return mlqa.score(predictions, references, language)
    if task == "bucc2018":
        return bucc.score(predictions, references)
    if task == "mewslix":
        return mewslix.score(predictions, references)
    return accuracy.score(predictions, references)


def check_averages(case: Case) -> None:
    data = cases("aggregate")[case["data_of"]] if "data_of" in case else case
    for rules, name in (("0.0.12", "expected"), ("1.2.2", "expected_seqeval_1_2_2")):
        scores = {
            task: {
                language: one_language(
                    task, language, predictions, data["labels"][task][language], rules
                )
                for language, predictions in data["predictions"].get(task, {}).items()
            }
            for task in case["tasks"]
        }
        check(lambda: averages.aggregate(scores, case["version"]), case[name])


CHECKS: dict[str, Callable[[Case], None]] = {
    "accuracy": check_accuracy,
    "aggregate": check_averages,
    "bucc_f1": check_bucc_f1,
    "bucc_mining": check_bucc_mining,
    "files": check_file_text,
    "lareqa": check_lareqa,
    "mewslix": check_mewslix,
    "mlqa": check_mlqa,
    "panx": check_tagging,
    "qa_edge": check_qa_edge,
    "qa_normalisation": check_qa_normalisation,
    "squad": check_squad,
    "tatoeba": check_tatoeba,
    "tatoeba_mining": check_tatoeba_mining,
    "udpos": check_tagging,
}


@pytest.mark.parametrize(("name", "key"), all_cases())
def test_case(name: str, key: str) -> None:
    assert name in CHECKS, f"{name}.json holds cases of a metric that no check here knows"
    CHECKS[name](cases(name)[key])
