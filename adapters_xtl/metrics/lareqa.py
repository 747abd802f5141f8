"""LAReQA: mean average precision of ranked answer sentences, and its candidates and questions."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._bootstrap import Items, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = [
    "CUT",
    "METRIC",
    "Lareqa",
    "LareqaData",
    "average_precision",
    "lareqa_data",
    "lareqa_items",
    "rank",
    "ranked_items",
]

_BLOCK = 512  # questions ranked at once
CUT = 20


def average_precision(
    targets: Collection[Hashable], ranked: Sequence[Hashable], k: int | None = None
) -> float:
    """AP@k, 0-1: mean over relevant places of precision there, divided by min(number of targets,
    k).

    A repeat in the ranking takes up a place and counts once; k None or 0 is no cut. Raises
    DataError without targets.
    """
    if not targets:
        raise DataError("a question has no relevant candidate")
    relevant, hits, total = set(targets), 0, 0.0
    for place, candidate in enumerate(ranked[:k] if k else ranked, start=1):
        if candidate in relevant:
            relevant.discard(candidate)
            hits += 1
            total += hits / place
    return total / (min(len(targets), k) if k else len(targets))


@dataclass(frozen=True)
class LareqaData:
    """Questions and candidates in the official order, ready to be encoded.

    questions: `{id}_{language}` → text; candidates: `{language}_{paragraph, from 1}_{sentence}` →
    sentence; contexts: the same ids → the whole paragraph; relevant: question id → candidate ids.
    """

    questions: dict[str, str] = field(default_factory=dict)
    candidates: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, str] = field(default_factory=dict)
    relevant: dict[str, list[str]] = field(default_factory=dict)


def lareqa_data(squad_per_lang: Mapping[str, Mapping[str, Any]]) -> LareqaData:
    """LAReQA's question and candidate sets from SQuAD-form JSON by language, with
    `sentence_breaks`.

    Candidates are all sentences of all paragraphs; paragraphs are numbered through a language's
    file. A question whose answer starts in no sentence [start, end) is left out. Relevant to a
    question is every sentence with the answer sentence's text in that paragraph, in every language
    that asks the same id.
    """
    data = LareqaData()
    keys_of_question: dict[str, list[str]] = {}
    relevant: dict[str, dict[str, None]] = {}
    for language, squad in squad_per_lang.items():
        paragraphs = [paragraph for article in squad["data"] for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(paragraphs, start=1):
            context, breaks = paragraph["context"], paragraph["sentence_breaks"]
            texts = {f"{language}_{number}_{i}": context[a:b] for i, (a, b) in enumerate(breaks)}
            data.candidates.update(texts)
            data.contexts.update(dict.fromkeys(texts, context))
            for question in paragraph["qas"]:
                start = question["answers"][0]["answer_start"]
                answer = next((context[a:b] for a, b in breaks if a <= start < b), None)
                if answer is None:
                    continue
                key = f"{question['id']}_{language}"
                data.questions[key] = question["question"]
                keys_of_question.setdefault(question["id"], []).append(key)
                same = {candidate: None for candidate, text in texts.items() if text == answer}
                relevant.setdefault(question["id"], {}).update(same)
    targets_of_key = {
        key: list(relevant[question]) for question, keys in keys_of_question.items() for key in keys
    }
    data.relevant.update({key: targets_of_key[key] for key in data.questions})
    return data


def rank(queries: ArrayLike, index: ArrayLike, k: int | None = None) -> NDArray[np.int64]:
    """(n, min(k, m)) rows of `index` (m, d) by falling dot product with the rows of `queries` (n,
    d).

    In float32. k None or 0 is no cut; equal scores keep the index's order.
    """
    left, right = np.asarray(queries, dtype=np.float32), np.asarray(index, dtype=np.float32)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise DataError(f"vectors of shapes {left.shape} and {right.shape} cannot be compared")
    blocks = [
        np.argsort(-(left[start : start + _BLOCK] @ right.T), axis=1, kind="stable")[:, : k or None]
        for start in range(0, len(left), _BLOCK)
    ]
    return (
        np.concatenate(blocks)
        if blocks
        else np.empty((0, min(k or len(right), len(right))), dtype=np.int64)
    )


def lareqa_items(
    question_vectors: ArrayLike,
    candidate_vectors: ArrayLike,
    questions: Sequence[str],
    candidates: Sequence[str],
    relevant: Mapping[str, Collection[str]],
    *,
    k: int | None = CUT,
) -> Items:
    """Items, one a question, ids the question ids without their language, with stats (AP, 1).

    `.score()` gives `{"map@k"}` (`{"map"}` without a cut), 0-100, the mean of `average_precision`
    over all questions; the official script prints it as a fraction, k = 20. Vectors (n, d) and (m,
    d) in the order of `questions` and `candidates`; ranked by plain dot product (give unit vectors
    for cosine). Raises DataError for wrong shapes or a question without relevant candidates.
    """
    ranked = rank(question_vectors, candidate_vectors, k)
    if len(ranked) != len(questions) or len(np.asarray(candidate_vectors)) != len(candidates):
        raise DataError("there must be one vector a question and one a candidate")
    names = np.array(candidates, dtype=object)
    return ranked_items(
        [names[rows].tolist() for rows in ranked],
        [relevant.get(question, ()) for question in questions],
        [question.rpartition("_")[0] for question in questions],
        k=k,
    )


def ranked_items(
    ranked: Sequence[Sequence[Hashable]],
    relevant: Sequence[Collection[Hashable]],
    ids: Sequence[Hashable],
    *,
    k: int | None = CUT,
) -> Items:
    """Items, one a question, with stats (`average_precision` of its ranking, 1), named map@k or
    map.
    """
    if not len(ranked) == len(relevant) == len(ids):
        raise DataError(f"{len(ranked)} rankings for {len(relevant)} questions")
    precisions = [
        average_precision(targets, row, k) for targets, row in zip(relevant, ranked, strict=True)
    ]
    stats = np.array([(value, 1.0) for value in precisions]).reshape(-1, 2)
    return Items(stats, mean_measure(f"map@{k}" if k else "map"), ids)


class Lareqa(Metric):
    """Mean average precision, `map@<k>`, or `map` without a cut."""

    description = (
        "Mean average precision; predictions: ranked candidate ids of each question; references:"
        " the relevant ones; k: the cut (20; 0: none)."
    )
    shapes = (("texts", "texts"),)

    def items(
        self, predictions: Predictions, language: str, *, k: int = CUT, **options: Any
    ) -> list[Items]:
        ranked = [row["prediction"] for row in predictions]
        relevant = [row["gold"] for row in predictions]
        return [ranked_items(ranked, relevant, range(len(ranked)), k=k)]


METRIC = Lareqa()
