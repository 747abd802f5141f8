"""Exact match and F1 of answer spans: SQuAD 1.1 (XQuAD, TyDiQA-GoldP), SQuAD 2.0, MLQA.

Sources of the rules: the official evaluation scripts of SQuAD 1.1, of SQuAD 2.0 and of MLQA.
Answers are normalised, then compared whole (EM) and as multisets of tokens (F1 = 2PR/(P+R)).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.metrics.bootstrap import Floats, Items, mean_measure

Answers = Mapping[str, Sequence[str]] | Iterable[tuple[str, Sequence[str]]]
"""Question id → gold texts; as pairs where an id may occur twice (each occurrence then counts)."""

Normalise = Callable[[str], str]

_ASCII = frozenset(string.punctuation)
_DROP_ASCII = str.maketrans("", "", string.punctuation)
_ENGLISH = re.compile(r"\b(?:a|an|the)\b")
_HAN = re.compile(r"([\u4e00-\u9fa5])")


class _Punctuation(dict[int, int | None]):
    """Translation table that drops categories P* and ASCII punctuation, filled as characters are
    met.
    """

    def __missing__(self, code: int) -> int | None:
        letter = chr(code)
        drop = letter in _ASCII or unicodedata.category(letter).startswith("P")
        self[code] = None if drop else code
        return self[code]


_DROP_UNICODE = _Punctuation()


def _words(text: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(text.split())})\b")


# What MLQA replaces by a space, by language; whole words, but in Arabic the two letters alef-lam
# anywhere.
_ARTICLES: dict[str, re.Pattern[str] | None] = {
    "en": _ENGLISH,
    "es": _words("un una unos unas el la los las"),
    "de": _words("ein eine einen einem eines einer der die das den dem des"),
    "vi": _words("của là cái chiếc những"),
    "ar": re.compile("\u0627\u0644"),
    "hi": None,
    "zh": None,
}
MLQA_LANGUAGES = tuple(_ARTICLES)


def normalise_squad(text: str) -> str:
    """SQuAD's normal form, the English rules for every language.

    In this order: lower case; ASCII punctuation deleted; the words a, an, the replaced by a space
    (so "a.m." is kept as "am"); whitespace runs made one space. Unicode punctuation stays; nothing
    is segmented.
    """
    return " ".join(_ENGLISH.sub(" ", text.lower().translate(_DROP_ASCII)).split())


def normalise_mlqa(text: str, language: str) -> str:
    """MLQA's normal form for an answer in `language` (one of MLQA_LANGUAGES, else DataError).

    As SQuAD's, but all Unicode punctuation goes, articles are the language's own, and in zh each
    character of U+4E00-U+9FA5 is a token of its own.
    """
    articles = _articles(language)
    text = text.lower().translate(_DROP_UNICODE)
    if articles is not None:
        text = articles.sub(" ", text)
    if language == "zh":
        text = _HAN.sub(r" \1 ", text)
    return " ".join(text.split())


def _articles(language: str) -> re.Pattern[str] | None:
    if language not in _ARTICLES:
        raise DataError(
            f"MLQA has no language {language!r}{nearest(str(language), MLQA_LANGUAGES)}"
        )
    return _ARTICLES[language]


def _token_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(predicted) & Counter(gold)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _best(prediction: str, golds: Sequence[str], normalise: Normalise) -> tuple[float, float]:
    """(EM, F1), 0-1, each the best over the gold texts by itself."""
    predicted, normal = normalise(prediction), [normalise(gold) for gold in golds]
    f1 = max(_token_f1(predicted.split(), gold.split()) for gold in normal)
    return float(predicted in normal), f1


def by_question(
    predictions: Iterable[Mapping[str, Any]], references: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """The arguments of `score` from rows {"id", "prediction_text"} and {"id", "answers": {"text":
    […]}}.
    """
    predicted = {row["id"]: row["prediction_text"] for row in predictions}
    return predicted, [(row["id"], list(row["answers"]["text"])) for row in references]


def _questions(references: Answers) -> list[tuple[str, Sequence[str]]]:
    found = list(references.items()) if isinstance(references, Mapping) else list(references)
    if not found:
        raise DataError("no questions to score")
    return found


def _prediction(predictions: Mapping[str, str], question: str) -> str | None:
    text = predictions.get(question)
    if text is not None and not isinstance(text, str):
        raise DataError(f"question {question}: the prediction is {type(text).__name__}, not text")
    return text


def per_question(
    predictions: Mapping[str, str], references: Answers, normalise: Normalise = normalise_squad
) -> list[tuple[float, float] | None]:
    """(EM, F1) of each question, 0-1, in the order of `references`; None where nothing is
    predicted.

    F1 is 0 without a common token, also when both sides are empty, so EM may exceed it. Raises
    DataError without questions, for a predicted question without gold text, or for a prediction
    that is no text.
    """
    result: list[tuple[float, float] | None] = []
    for question, golds in _questions(references):
        text = _prediction(predictions, question)
        if text is not None and not golds:
            raise DataError(
                f"question {question} has no gold answer; SQuAD 2.0's metric scores such questions"
            )
        result.append(None if text is None else _best(text, golds, normalise))
    return result


def items(
    predictions: Mapping[str, str], references: Answers, normalise: Normalise = normalise_squad
) -> Items:
    """Items, one a question, ids the question ids, with stats (EM, F1, 1). Errors as in
    `per_question`.
    """
    questions = _questions(references)
    scores = per_question(predictions, questions, normalise)
    stats = np.array([(*(pair or (0.0, 0.0)), 1.0) for pair in scores])
    return Items(stats, mean_measure("exact_match", "f1"), [question for question, _ in questions])


def score(predictions: Mapping[str, str], references: Answers) -> dict[str, float]:
    """SQuAD 1.1: `{"exact_match", "f1"}`, means over all questions, 0-100.

    A question without prediction counts as 0, a prediction for an unknown id is ignored. Errors as
    in `per_question`.
    """
    return items(predictions, references).score()


def mlqa_items(predictions: Mapping[str, str], references: Answers, language: str) -> Items:
    """`items` by MLQA's rules for answers (hence contexts) in `language`; DataError for an unknown
    one.
    """
    _articles(language)
    return items(predictions, references, lambda text: normalise_mlqa(text, language))


def mlqa_score(
    predictions: Mapping[str, str], references: Answers, language: str
) -> dict[str, float]:
    """MLQA: `{"exact_match", "f1"}`, 0-100, as `score`, with the rules of the answers' language."""
    return mlqa_items(predictions, references, language).score()


def squad_v2_items(predictions: Mapping[str, str], references: Answers) -> Items:
    """Items, one a question, with stats (EM, F1, 1) of all, then of HasAns, then of NoAns
    questions.
    """
    questions = _questions(references)
    stats = np.zeros((len(questions), 9))
    for row, (question, golds) in enumerate(questions):
        text = _prediction(predictions, question)
        pair = (0.0, 0.0) if text is None else _best_v2(text, golds)
        stats[row, 0:3] = (*pair, 1.0)
        start = 3 if golds else 6
        stats[row, start : start + 3] = (*pair, 1.0)
    return Items(stats, _measure_v2, [question for question, _ in questions])


def _best_v2(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """(EM, F1), 0-1: gold texts that normalise to nothing are dropped; none left means
    "no answer".
    """
    kept = [gold for gold in golds if normalise_squad(gold)] or [""]
    if kept == [""] or not normalise_squad(prediction):
        exact = float(normalise_squad(prediction) in map(normalise_squad, kept))
        return exact, exact
    return _best(prediction, kept, normalise_squad)


def _measure_v2(sums: Floats) -> dict[str, Floats]:
    result = mean_measure("exact_match", "f1")(sums[..., 0:3])
    for name, start in (("HasAns", 3), ("NoAns", 6)):
        if np.any(sums[..., start + 2] > 0):
            result |= mean_measure(f"{name}_exact", f"{name}_f1")(sums[..., start : start + 3])
    return result


def squad_v2_score(predictions: Mapping[str, str], references: Answers) -> dict[str, float]:
    """SQuAD 2.0: EM and F1 over all questions, and over those with and without answers, 0-100.

    `{"exact_match", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total", "NoAns_…"}`; a
    group without questions has no entries, totals are counts. An empty gold list means that the
    question has no answer; the right prediction is then text that normalises to nothing, worth EM =
    F1 = 1, and any other is worth 0. A question without prediction counts as 0 (the official script
    leaves it out of the overall means). No threshold on a no-answer probability is searched. Raises
    DataError without questions.
    """
    found = squad_v2_items(predictions, references)
    counts = found.stats.sum(axis=0)
    totals = {"total": counts[2], "HasAns_total": counts[5], "NoAns_total": counts[8]}
    return found.score() | {name: float(count) for name, count in totals.items() if count}
