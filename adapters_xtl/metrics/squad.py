"""Exact match and F1 of answer spans by the rules of SQuAD 1.1 (XQuAD, TyDiQA-GoldP).

Source of the rules: the official evaluation script of SQuAD 1.1.
Answers are normalised, then compared whole (EM) and as multisets of tokens (F1 = 2PR/(P+R)).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._bootstrap import Items, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = [
    "ENGLISH_ARTICLES",
    "METRIC",
    "Answers",
    "Normalise",
    "Squad",
    "answers_of",
    "best_of_golds",
    "items",
    "normalise_squad",
    "per_question",
    "predicted_text",
    "questions_of",
    "score",
]

Answers = Mapping[str, Sequence[str]] | Iterable[tuple[str, Sequence[str]]]
"""Question id → gold texts; as pairs where an id may occur twice (each occurrence then counts)."""

Normalise = Callable[[str], str]

_DROP_ASCII = str.maketrans("", "", string.punctuation)
ENGLISH_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise_squad(text: str) -> str:
    """SQuAD's normal form, the English rules for every language.

    In this order: lower case; ASCII punctuation deleted; the words a, an, the replaced by a space
    (so "a.m." is kept as "am"); whitespace runs made one space. Unicode punctuation stays; nothing
    is segmented.
    """
    return " ".join(ENGLISH_ARTICLES.sub(" ", text.lower().translate(_DROP_ASCII)).split())


def _token_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    common = (Counter(predicted) & Counter(gold)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def best_of_golds(
    prediction: str, golds: Sequence[str], normalise: Normalise
) -> tuple[float, float]:
    """(EM, F1), 0-1, each the best over the gold texts by itself."""
    predicted, normal = normalise(prediction), [normalise(gold) for gold in golds]
    f1 = max(_token_f1(predicted.split(), gold.split()) for gold in normal)
    return float(predicted in normal), f1


def answers_of(predictions: Predictions) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """The arguments of `score`: question id → predicted text, and (id, gold texts) in order."""
    text_of_question = {
        row["id"]: row["prediction"] for row in predictions if row["prediction"] is not None
    }
    return text_of_question, [(row["id"], list(row["gold"])) for row in predictions]


def questions_of(references: Answers) -> list[tuple[str, Sequence[str]]]:
    questions = list(references.items()) if isinstance(references, Mapping) else list(references)
    if not questions:
        raise DataError("no questions to score")
    return questions


def predicted_text(predictions: Mapping[str, str], question: str) -> str | None:
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
    for question, golds in questions_of(references):
        text = predicted_text(predictions, question)
        if text is not None and not golds:
            raise DataError(
                f"question {question} has no gold answer; SQuAD 2.0's metric scores such questions"
            )
        result.append(None if text is None else best_of_golds(text, golds, normalise))
    return result


def items(
    predictions: Mapping[str, str], references: Answers, normalise: Normalise = normalise_squad
) -> Items:
    """Items, one a question, ids the question ids, with stats (EM, F1, 1). Errors as in
    `per_question`.
    """
    questions = questions_of(references)
    scores = per_question(predictions, questions, normalise)
    stats = np.array([(*(pair or (0.0, 0.0)), 1.0) for pair in scores])
    return Items(stats, mean_measure("exact_match", "f1"), [question for question, _ in questions])


def score(predictions: Mapping[str, str], references: Answers) -> dict[str, float]:
    """SQuAD 1.1: `{"exact_match", "f1"}`, means over all questions, 0-100.

    A question without prediction counts as 0, a prediction for an unknown id is ignored. Errors as
    in `per_question`.
    """
    return items(predictions, references).score()


class Squad(Metric):
    """`exact_match` and token `f1` of answers, the English rules for every language."""

    description = (
        "Exact match and F1 of answers; predictions: {'id', 'prediction_text'}; references:"
        " {'id', 'answers': {'text', 'answer_start'}}."
    )
    shapes = (("answer", "question"),)

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        return [items(*answers_of(predictions))]

    def rows(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[dict[str, Any]]:
        """Brought together by id, in the order of the references."""
        text_of_question = {row["id"]: row["prediction_text"] for row in predictions}
        return [
            {
                "id": row["id"],
                "prediction": text_of_question.get(row["id"]),
                "gold": row["answers"]["text"],
            }
            for row in references
        ]


METRIC = Squad()
