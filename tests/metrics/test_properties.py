"""What must hold for any input."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xtl.metrics import accuracy, bucc, lareqa, mlqa, squad, squad_v2, tagging

LABEL = st.sampled_from(["entailment", "neutral", "contradiction", "0", "1"])
IOB = st.sampled_from(["O", "B-PER", "I-PER", "E-PER", "S-LOC", "I-LOC", "B-A-B", "."])
POS = st.sampled_from(["NOUN", "SCONJ", "CCONJ", "X", "_", "INTJ", "SYM", "PUNCT", "O"])
TEXT = st.text(st.sampled_from("abAthe nx.,!-'ßİ 中国。ال€\u00a0ด"), max_size=12)
LANGUAGE = st.sampled_from(mlqa.LANGUAGES)
SENTENCES = st.one_of(
    *(
        st.lists(st.lists(kind, max_size=6), min_size=1, max_size=6)
        for kind in (IOB, POS, st.one_of(IOB, POS))
    )
)
RULES = st.sampled_from(sorted(tagging.RULES))
SCORED = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: f"s{pair[0]}\tt{pair[1]}"),
    st.floats(0.5, 2.0).map(lambda value: round(value, 2)),
    max_size=25,
)

often = settings(max_examples=60, deadline=None)


def in_range(result: dict[str, Any]) -> None:
    assert all(0.0 <= value <= 100.0 + 1e-9 for value in result.values())


@often
@given(st.lists(st.tuples(LABEL, LABEL), min_size=1), st.randoms())
def test_accuracy(pairs: list[tuple[str, str]], random: Any) -> None:
    predictions, references = zip(*pairs, strict=True)
    result = accuracy.score(predictions, references)
    in_range(result)
    assert accuracy.score(references, references) == {"accuracy": 100.0}
    random.shuffle(pairs)
    shuffled = zip(*pairs, strict=True)
    assert accuracy.score(*map(list, shuffled)) == result


@often
@given(SENTENCES, RULES, st.data())
def test_tagging(gold: list[list[str]], rules: str, data: st.DataObject) -> None:
    predicted = [
        data.draw(st.lists(IOB | POS, min_size=len(row), max_size=len(row))) for row in gold
    ]
    result = tagging.score(predicted, gold, rules=rules, tokens=any(gold))
    in_range(result)
    if result["precision"] + result["recall"]:
        harmonic = (
            2 * result["precision"] * result["recall"] / (result["precision"] + result["recall"])
        )
        assert abs(harmonic - result["f1"]) < 1e-9
    swapped = tagging.score(gold, predicted, rules=rules)
    assert (swapped["precision"], swapped["recall"]) == (result["recall"], result["precision"])
    perfect = tagging.score(gold, gold, rules=rules)
    assert set(perfect.values()) == ({100.0} if tagging.chunks(gold, rules) else {0.0})
    counts = tagging.items(predicted, gold, rules=rules).stats
    assert counts[:, 2].sum() == len(tagging.chunks(gold, rules))
    assert (counts[:, 0] <= counts[:, 2]).all()


@often
@given(SENTENCES, st.randoms())
def test_iob_chunks_do_not_depend_on_other_sentences(
    sentences: list[list[str]], random: Any
) -> None:
    alone = [len(tagging.chunks([sentence])) for sentence in sentences]
    assert len(tagging.chunks(sentences)) == sum(alone)
    random.shuffle(sentences)
    assert len(tagging.chunks(sentences)) == sum(alone)


@often
@given(
    st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=5),
    LANGUAGE,
)
def test_answers(questions: list[tuple[str, list[str]]], language: str) -> None:
    predictions = {str(i): text for i, (text, _) in enumerate(questions)}
    references = {str(i): golds for i, (_, golds) in enumerate(questions)}
    for score in (squad.score, lambda p, r: mlqa.score(p, r, language)):
        result = score(predictions, references)
        in_range(result)
        assert score(dict(reversed(predictions.items())), references) == result
        more = {key: [*golds, "something else"] for key, golds in references.items()}
        assert score(predictions, more)["f1"] >= result["f1"] - 1e-9
        assert (
            score({key: golds[0] for key, golds in references.items()}, references)["exact_match"]
            == 100.0
        )
    second = squad_v2.score(predictions, references)
    assert second["exact_match"] <= second["f1"] + 1e-9
    in_range({name: value for name, value in second.items() if not name.endswith("total")})


@often
@given(TEXT, LANGUAGE)
def test_normal_forms_are_single_spaced_and_exact_match_ignores_case(
    text: str, language: str
) -> None:
    for normal in (squad.normalise_squad, lambda answer: mlqa.normalise_mlqa(answer, language)):
        found = normal(text)
        assert found == " ".join(found.split())
        assert normal(f"  {text}\t!") == found
        assert normal(text.lower()) == found


@often
@given(SCORED, SCORED)
def test_bucc(found: dict[str, float], other: dict[str, float]) -> None:
    gold = sorted(other)
    in_range(bucc.score(found, gold))
    assert bucc.score([*found, *found], gold) == bucc.score(found, gold)
    tuned = bucc.bucc_eval(found, gold)
    ranked = sorted(found, key=lambda pair: -found[pair])
    distinct = len(set(found.values())) == len(found)
    prefixes = [bucc.score(ranked[: n + 1], gold)["f1"] for n in range(len(ranked))]
    assert tuned["f1"] <= max(prefixes, default=0.0) + 1e-9
    if distinct:
        assert abs(tuned["f1"] - max(prefixes, default=0.0)) < 1e-9
    accepted = bucc.crossfit(found, gold)
    assert set(accepted) <= set(found)
    assert 0.0 <= bucc.average_precision(found, gold) <= 100.0 + 1e-9
    backwards = dict(reversed(found.items()))
    assert abs(bucc.average_precision(backwards, gold) - bucc.average_precision(found, gold)) < 1e-9
    if gold:
        perfect = dict.fromkeys(gold, 1.0)
        assert bucc.bucc_eval(perfect, gold)["f1"] == 100.0
        assert abs(bucc.average_precision(perfect, gold) - 100.0) < 1e-9


@often
@given(
    st.lists(st.integers(0, 8), max_size=10),
    st.sets(st.integers(0, 8), min_size=1),
    st.integers(0, 5),
)
def test_average_precision(ranked: list[int], targets: set[int], k: int) -> None:
    value = lareqa.average_precision(targets, ranked, k)
    assert 0.0 <= value <= 1.0 + 1e-12
    first = [*targets, *ranked]
    assert abs(lareqa.average_precision(targets, first, k) - 1.0) < 1e-9


@often
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 40), st.integers(0, 2**16))
def test_ranking_is_by_dot_product(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, index = rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
    rows = lareqa.rank(queries, index, k)
    assert rows.shape == (n, min(k or m, m))
    scores = np.take_along_axis(queries.astype(np.float32) @ index.astype(np.float32).T, rows, 1)
    assert (np.diff(scores, axis=1) <= 0).all()
