"""Cases small enough to check by hand, and the errors; none needs outside data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters_xtl.base.errors import DataError
from adapters_xtl.formats import _mining as mining
from adapters_xtl.metrics import accuracy, bucc, lareqa, mewslix, mlqa, squad, squad_v2, tagging
from adapters_xtl.metrics.xtreme import averages, official_files


def test_accuracy_compares_raw_values() -> None:
    assert accuracy.score([0, "1", 2, "b"], [0, 1, 2, "B"]) == {"accuracy": 50.0}
    assert accuracy.score(["a"], ["a", "b"], strict=False) == {"accuracy": 100.0}
    assert accuracy.score(["a", "b"], ["a"], strict=False) == {"accuracy": 50.0}


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy.score(["a"], ["a", "b"]),
        lambda: accuracy.score([], []),
        lambda: accuracy.items(["a"], ["a"], ids=["x", "y"]),
        lambda: tagging.score([["O"]], []),
        lambda: tagging.score([["O"]], [["O", "O"]], rules="1.2.2"),
        lambda: tagging.score([["O"]], [["O", "O"]], tokens=True),
        lambda: tagging.score([["O"]], [["O"]], rules="0.0.13"),
        lambda: tagging.score([[""]], [["O"]]),
        lambda: squad.score({}, {}),
        lambda: squad.score({"a": "x"}, {"a": []}),
        lambda: squad.score({"a": 3}, {"a": ["x"]}),  # type: ignore[dict-item]
        lambda: squad_v2.score({}, {}),
        lambda: mlqa.score({}, {"a": ["x"]}, "fr"),
        lambda: mlqa.normalise_mlqa("x", "xx"),
        lambda: bucc.candidates([], ["s"], [], [], []),
        lambda: bucc.candidates([], [], [], [], [], repeated="no"),
        lambda: bucc.tune_threshold({"a\tb": 1.0}, ["a\tb"], strict=True),
        lambda: mining.mine_bitext(["a"], ["b"], [[1.0]], [[1.0]], retrieval="best"),
        lambda: mining.mine_bitext(["a"], ["b"], [[1.0]], [[1.0]], margin="none"),
        lambda: mining.mine_bitext(["a"], ["b"], [[1.0]], [[1.0]], neighborhood=0),
        lambda: mining.mine_bitext(["a"], ["b"], [[1.0]], [[1.0, 2.0]]),
        lambda: mining.mine_bitext(["a", "b"], ["b"], [[1.0]], [[1.0]]),
        lambda: mining.mine_bitext([], ["b"], [], [[1.0]]),
        lambda: mining.mine_bitext(["a"], ["b", "c"], [[1.0]], [[1.0], [2.0]], retrieval="given"),
        lambda: mining.nearest_rows([[1.0]], [[1.0, 0.0]]),
        lambda: mining.nearest_rows([[1.0]], [[float("nan")]]),
        lambda: mining.nearest_rows([[1.0]], [[1.0]], dist="manhattan"),
        lambda: mewslix.score({}, {"a": []}),
        lambda: lareqa.average_precision([], ["a"]),
        lambda: lareqa.rank([[1.0]], [[1.0, 2.0]]),
        lambda: lareqa.ranked_items([["a"]], [["a"]], []),
        lambda: lareqa.lareqa_items([[1.0]], [[1.0]], ["q_en"], ["c", "d"], {"q_en": ["c"]}),
        lambda: lareqa.lareqa_items([[1.0]], [[1.0]], ["q_en"], ["c"], {}),
        lambda: averages.aggregate({"xnli": {"en": {"accuracy": 1.0}}}),
        lambda: averages.aggregate({}, "xtreme-s"),
        lambda: averages.task_score({"bleu": 1.0}),
        lambda: official_files.score_text("xlni", "en", "", ""),
        lambda: official_files.score_text("xquad", "en", "{", "[]"),
        lambda: official_files.score_text("xquad", "en", "[]", "[]"),
        lambda: official_files.score_text("xquad", "en", "{}", '[{"title": "t"}]'),
        lambda: official_files.score_text("xcopa", "it", "{}\n", "{}\n"),
        lambda: official_files.score_file("xnli", "en", Path("no/such"), Path("file")),
    ],
)
def test_wrong_input_is_one_data_error(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value)


def test_chunks_of_iob_tags() -> None:
    sentences = [["B-PER", "I-PER", "O", "I-LOC"], ["I-LOC", "B-LOC"]]
    for rules in tagging.RULES:
        assert tagging.chunks(sentences, rules) == [
            ("PER", 0, 1),
            ("LOC", 3, 3),
            ("LOC", 5, 5),
            ("LOC", 6, 6),
        ]


def test_chunks_of_pos_tags_are_runs_and_differ_by_rules() -> None:
    gold = [["NOUN", "NOUN", "SCONJ", "CCONJ"]]
    assert tagging.chunks(gold) == [("NOUN", 0, 1), ("SCONJ", 2, 2), ("CCONJ", 3, 3)]
    assert tagging.chunks(gold, "1.2.2") == [("OUN", 0, 1), ("CONJ", 2, 2), ("CONJ", 2, 3)]
    # one token of a run wrong: 3 predicted chunks, 2 gold, the verb alone is right; 3 of 4 tokens
    # are
    result = tagging.score(
        [["NOUN", "PROPN", "NOUN", "VERB"]], [["NOUN", "NOUN", "NOUN", "VERB"]], tokens=True
    )
    assert result == pytest.approx(
        {"f1": 100 / 3, "precision": 25.0, "recall": 50.0, "token_accuracy": 75.0}
    )


def test_chunk_counts_belong_to_the_sentence_they_end_in() -> None:
    gold = [["B-A", "I-A"], [], ["O", "B-B"], ["O"]]
    predicted = [["B-A", "O"], [], ["O", "B-B"], ["B-C"]]
    assert tagging.items(predicted, gold).stats.tolist() == [
        [0, 1, 1],
        [0, 0, 0],
        [1, 1, 1],
        [0, 1, 0],
    ]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The U.S.A.!", "usa"),
        ("an-a", "ana"),
        ("A.", ""),
        ("北京。", "北京。"),
        ("a\u00a0b  c", "b c"),
    ],
)
def test_squad_normal_form(text: str, normal: str) -> None:
    assert squad.normalise_squad(text) == normal


@pytest.mark.parametrize(
    ("language", "text", "normal"),
    [
        ("es", "«Los» 5 €", "5 €"),
        ("de", "Die des Einen", ""),
        ("ar", "العالم", "ع م"),
        ("zh", "5 月ab", "5 月 ab"),
        ("zh", "\u9fa5\u9fa6\u9fa7", "\u9fa5 \u9fa6\u9fa7"),
        ("vi", "Cái của An", "an"),
        ("hi", "दिल्ली।", "दिल्ली"),
    ],
)
def test_mlqa_normal_form(language: str, text: str, normal: str) -> None:
    assert mlqa.normalise_mlqa(text, language) == normal


def test_em_and_f1_take_their_own_best_gold() -> None:
    references = {"q": ["red car", "big red car here"], "r": ["x"]}
    assert squad.score({"q": "big red car"}, references) == pytest.approx(
        {"exact_match": 0.0, "f1": 100 * (6 / 7) / 2}
    )
    assert squad.score({"q": "red car"}, {"q": ["car", "a red car"]})["exact_match"] == 100.0
    assert squad.score({"q": ""}, [("q", [""]), ("q", ["x"])]) == {"exact_match": 50.0, "f1": 0.0}


def test_squad_v2_scores_questions_without_answer() -> None:
    references = {"has": ["blue whale"], "none": [], "wrong": [], "silent": ["x"], "lost": ["y"]}
    predictions = {"has": "whale", "none": "the", "wrong": "something", "silent": ""}
    assert squad_v2.score(predictions, references) == pytest.approx(
        {
            "exact_match": 20.0,
            "f1": 100 * (2 / 3 + 1) / 5,
            "total": 5,
            "HasAns_exact": 0.0,
            "HasAns_f1": 100 * (2 / 3) / 3,
            "HasAns_total": 3,
            "NoAns_exact": 50.0,
            "NoAns_f1": 50.0,
            "NoAns_total": 2,
        }
    )
    assert set(squad_v2.score({"a": "x"}, {"a": ["x"]})) == {
        "exact_match",
        "f1",
        "total",
        "HasAns_exact",
        "HasAns_f1",
        "HasAns_total",
    }


FOUND = {"s1\tt1": 0.9, "s2\tt2": 0.8, "s3\tt9": 0.7, "s4\tt4": 0.6, "s5\tt8": 0.5}
GOLD = ["s1\tt1", "s2\tt2", "s4\tt4", "s6\tt6"]


def test_threshold_search_is_the_best_prefix() -> None:
    # prefixes: F1 2/5, 4/6, 4/7, 6/8, 6/9
    assert bucc.tune_threshold(FOUND, GOLD) == pytest.approx(0.55)
    assert bucc.bucc_eval(FOUND, GOLD) == pytest.approx(
        {"f1": 75.0, "precision": 75.0, "recall": 75.0, "threshold": 0.55, "upper_bound": 1.0}
    )
    assert bucc.tune_threshold({"a\tb": 0.3, "c\td": 0.2}, ["a\tb", "c\td"]) == 0.2
    assert bucc.tune_threshold(FOUND, ["no\tpair"]) == 0.0
    # one of one and two of four give the same F1 of 2/3: the first prefix wins
    even = {"a\ta": 0.9, "b\tx": 0.7, "c\tx": 0.5, "d\td": 0.3, "e\tx": 0.1}
    assert bucc.tune_threshold(even, ["a\ta", "d\td"]) == pytest.approx(0.8)


def test_average_precision_by_hand_and_with_ties() -> None:
    assert bucc.average_precision(FOUND, GOLD) == pytest.approx(100 * (1 + 1 + 3 / 4) / 4)
    tied = dict.fromkeys(FOUND, 1.0)
    assert bucc.average_precision(tied, GOLD) == pytest.approx(100 * 3 * (3 / 5) / 4)
    assert bucc.average_precision({}, GOLD) == bucc.average_precision(FOUND, []) == 0.0


def test_folds_are_fixed_and_pooled_counts_are_those_of_the_union() -> None:
    assert [bucc.fold_of(f"de-{i:09d}") for i in range(12)] == [
        2,
        3,
        3,
        4,
        0,
        0,
        1,
        1,
        0,
        0,
        3,
        1,
    ]
    rng = np.random.default_rng(0)
    found = {f"s{i}\tt{i}": float(value) for i, value in enumerate(rng.normal(size=400))}
    gold = [pair for pair, value in found.items() if value + rng.normal() > 0.5]
    accepted = bucc.crossfit(found, gold)
    sums = np.zeros(3)
    for fold in range(bucc.FOLDS):
        others = {p: v for p, v in found.items() if bucc.fold_of(p.split("\t")[0]) != fold}
        own = {p: v for p, v in found.items() if p not in others}
        kept = bucc.extract(own, bucc.tune_threshold(others, [p for p in gold if p in others]))
        sums += [len(set(kept) & set(gold)), len(kept), len([p for p in gold if p in own])]
    assert sums.tolist() == bucc.items(accepted, gold).stats.sum(axis=0).tolist()
    report = bucc.report(found, gold)
    assert report["f1_crossfit"] == pytest.approx(200 * sums[0] / (sums[1] + sums[2]))
    assert report["f1_crossfit"] < report["f1_upper_bound"]


def test_repeated_sentences_are_dropped_or_combined() -> None:
    mined = [(1.0, 0, 0), (0.5, 1, 1)]
    sides = (["a", "b", "a "], ["x", "y"], ["s0", "s1", "s2"], ["t0", "t1"])
    assert bucc.candidates(mined, *sides) == {"s1\tt1": 0.5}
    combined = bucc.candidates(mined, *sides, repeated="combine")
    assert combined == {"s0\tt0": 1.0, "s2\tt0": 1.0, "s1\tt1": 0.5}


def test_mining_finds_rotated_copies_and_leaves_the_vectors_alone() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 8)).astype(np.float32) * 3
    order = rng.permutation(30)
    y = (x[order] + 0.05 * rng.normal(size=x.shape)).astype(np.float32)
    before = x.copy(), y.copy()
    sentences = [f"s{i}" for i in range(30)]
    for retrieval in ("max", "intersect", "fwd", "bwd"):
        mined = mining.mine_bitext(sentences, sentences, x, y, retrieval=retrieval)
        assert {(i, int(order[j])) for _, i, j in mined} == {(i, i) for i in range(30)}
    assert mining.nearest_rows(y, x) == order.tolist()
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


def test_margins_by_hand() -> None:
    x, y = [[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [3.0, 4.0]]
    # similarities 1, 0.6 / 0, 0.8; means of both neighbours 0.8, 0.4 and 0.5, 0.7
    for margin, first, second in (
        ("ratio", 1 / 0.65, 0.8 / 0.55),
        ("distance", 1 - 0.65, 0.8 - 0.55),
        ("absolute", 1.0, 0.8),
    ):
        mined = mining.mine_bitext(["a", "b"], ["c", "d"], x, y, margin=margin)
        assert [(i, j) for _, i, j in mined] == [(0, 0), (1, 1)]
        assert [score for score, _, _ in mined] == pytest.approx([first, second], rel=1e-6)
        above = mining.mine_bitext(
            ["a", "b"], ["c", "d"], x, y, margin=margin, threshold=mined[1][0]
        )
        assert above == mined[:1]


def test_shift_undoes_an_offset_between_the_sides() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 6))
    sentences = [str(i) for i in range(20)]
    plain, moved = (
        mining.mine_bitext(
            sentences,
            sentences,
            x,
            x + 5.0,
            dist="l2",
            shift=shift,
            margin="absolute",
            retrieval="bwd",
        )
        for shift in (False, True)
    )
    assert sum(i == j for _, i, j in moved) > sum(i == j for _, i, j in plain)


def test_a_repeated_sentence_keeps_its_first_place_and_last_vector() -> None:
    kept, vectors = mining.unify(["a", "b", "a"], [[1.0], [2.0], [3.0]])
    assert kept == ["a", "b"] and vectors.tolist() == [[3.0], [2.0]]


def test_sorted_rows_are_by_stripped_text_and_stable() -> None:
    assert mining.sorted_rows([" b", "a", "b", "B"]) == [3, 1, 0, 2]


def test_mewslix_is_reciprocal_rank() -> None:
    golds = {"a": [" Q1 ", "Q2"], "b": ["Q3"], "c": ["Q4"]}
    ranked = {"a": ["Q2", "Q1"], "b": [f"Q{i}" for i in range(100, 120)] + ["Q3"], "z": ["Q4"]}
    assert mewslix.score(ranked, golds) == pytest.approx({"map@20": 100 * 0.5 / 3})
    assert mewslix.score({}, {}) == {"map@20": 0.0}


def test_average_precision_at_k_by_hand() -> None:
    assert lareqa.average_precision([1, 2], [3, 2, 1]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert lareqa.average_precision([1, 2], [1, 1, 2]) == pytest.approx((1 + 2 / 3) / 2)
    assert lareqa.average_precision([1, 2, 3], [1, 9, 2], k=2) == 0.5


def test_lareqa_from_vectors() -> None:
    found = lareqa.lareqa_items(
        [[1.0, 0.0], [0.0, 1.0]],
        [[1.0, 0.1], [0.9, 0.0], [0.0, 1.0]],
        ["q_en", "q_de"],
        ["c0", "c1", "c2"],
        {"q_en": ["c1"], "q_de": ["c0", "c2"]},
        k=0,
    )
    assert found.score() == pytest.approx({"map": 75.0}) and list(found.ids) == ["q", "q"]


def test_averages_by_hand() -> None:
    languages = averages.languages_of("xtreme")
    scores = {
        task: {language: {"exact_match": 20.0, "f1": 40.0} for language in languages[task]}
        for task in ("xquad", "mlqa", "tydiqa")
    }
    scores["xnli"] = {language: {"accuracy": 50.0} for language in languages["xnli"]}
    result = averages.aggregate(scores)
    assert result["overall_scores"] == {"qa": 30.0}
    assert result["detailed_scores"]["xnli"]["avg_metric"] == 50.0
    assert averages.aggregate({"bucc": {c: {"f1": 1.0} for c in languages["bucc2018"]}})[
        "detailed_scores"
    ]
    assert averages.means({"xnli": 50.0, "mlqa": 30.0, "bucc": 70.0}) == {
        "mean": 50.0,
        "mean_retrieval": 70.0,
        "mean_without_retrieval": 40.0,
    }
    assert averages.means({}) == {}


def test_language_counts_of_the_benchmarks() -> None:
    counts = {
        version: {task: len(set(names)) for task, names in averages.languages_of(version).items()}
        for version in averages.LANGUAGES
    }
    assert counts["xtreme"] == {
        "pawsx": 7,
        "xnli": 15,
        "panx": 40,
        "udpos": 33,
        "bucc2018": 4,
        "tatoeba": 36,
        "xquad": 11,
        "mlqa": 7,
        "tydiqa": 9,
    }
    assert counts["xtreme-r"] == {
        "xnli": 15,
        "panx": 48,
        "udpos": 38,
        "tatoeba": 41,
        "xcopa": 11,
        "mewslix": 11,
        "xquad": 12,
        "mlqa": 7,
        "tydiqa": 9,
        "lareqa": 0,
    }


def test_whole_folders_are_scored(tmp_path: Path) -> None:
    for side in ("predictions", "labels"):
        for language in averages.languages_of("xtreme")["pawsx"]:
            path = tmp_path / side / "pawsx" / f"test-{language}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"0\r\n1\r\n" if side == "labels" else b"0\n0")
    result = official_files.score_folders(tmp_path / "predictions", tmp_path / "labels")
    assert result["detailed_scores"]["pawsx"]["avg_metric"] == 50.0
    path.unlink()
    with pytest.raises(DataError, match="pawsx zh"):
        official_files.score_folders(tmp_path / "predictions", tmp_path / "labels")
