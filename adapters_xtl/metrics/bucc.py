"""BUCC: F1 of pairs, threshold search, cross-fitted F1, average precision.

A pair is a line `source-id TAB target-id`. Candidates are pairs with a score, as `candidates` makes
them from what a miner finds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError
from adapters_xtl.metrics._bootstrap import Items, f1_measure, interval
from adapters_xtl.metrics._metric import Metric, Predictions

FOLDS = 5


def items(predictions: Iterable[str], references: Iterable[str]) -> Items:
    """Items, one a source id (the first column), with stats (correct, predicted, gold pairs). See
    `score`.
    """
    predicted, gold = set(predictions), set(references)
    counts = [Counter(map(_source, pairs)) for pairs in (predicted & gold, predicted, gold)]
    ids = sorted(counts[1].keys() | counts[2].keys())
    stats = np.array([[count[key] for count in counts] for key in ids], dtype=np.float64).reshape(
        -1, 3
    )
    return Items(stats, f1_measure, ids)


def score(predictions: Iterable[str], references: Iterable[str]) -> dict[str, float]:
    """`{"f1", "precision", "recall"}` of two sets of lines, 0-100; all 0 without a correct pair.

    Lines are compared whole: duplicates vanish, a third column never matches, an empty line is an
    item.
    """
    return items(predictions, references).score()


def _source(pair: str) -> str:
    return pair.split("\t", 1)[0]


def candidates(
    mined: Iterable[tuple[float, int, int]],
    src_sentences: Sequence[str],
    trg_sentences: Sequence[str],
    src_ids: Sequence[str],
    trg_ids: Sequence[str],
    *,
    repeated: str = "drop",
) -> dict[str, float]:
    """Mined index pairs as id pairs with their scores, in mining order; the best score where a pair
    repeats.

    Indices count distinct raw sentences, in order of first occurrence. Ids are then found by
    stripped text. repeated "drop" (XTREME): a text that occurs twice on its side is dropped
    altogether; "combine" (jiant): it yields every combination of its ids. Raises DataError when
    sentences and ids differ in number.
    """
    if repeated not in ("drop", "combine"):
        raise DataError(f"repeated must be 'drop' or 'combine', not {repeated!r}")
    src, trg = _ids(src_sentences, src_ids, repeated), _ids(trg_sentences, trg_ids, repeated)
    score_of_pair: dict[str, float] = {}
    for value, i, j in mined:
        for left in src[i]:
            for right in trg[j]:
                pair = f"{left}\t{right}"
                score_of_pair[pair] = max(value, score_of_pair.get(pair, value))
    return score_of_pair


def _ids(sentences: Sequence[str], ids: Sequence[str], repeated: str) -> list[list[str]]:
    """For each distinct raw sentence the ids its text stands for."""
    if len(sentences) != len(ids):
        raise DataError(f"{len(sentences)} sentences for {len(ids)} ids")
    by_text: dict[str, list[str]] = {}
    for sentence, key in zip(sentences, ids, strict=True):
        by_text.setdefault(sentence.strip(), []).append(key.strip())
    keep = {text: keys for text, keys in by_text.items() if repeated == "combine" or len(keys) == 1}
    return [keep.get(sentence.strip(), []) for sentence in dict.fromkeys(sentences)]


def _gold(gold: Iterable[str], count_repeats: bool = False) -> list[str]:
    """Stripped lines, each once unless repeats count."""
    lines = [line.strip() for line in gold]
    return lines if count_repeats else list(dict.fromkeys(lines))


def tune_threshold(
    score_of_pair: Mapping[str, float],
    gold: Iterable[str],
    *,
    strict: bool = False,
    count_repeats: bool = False,
) -> float:
    """The threshold of the first prefix of the candidates, by falling score, with the best F1.

    It lies midway between the prefix's last score and the next one. If the prefix is the whole list
    it is the last score; `strict=True` raises DataError there, where the official code fails
    (IndexError). 0 if nothing is correct. Pairs of equal score keep their order.
    """
    lines = _gold(gold, count_repeats)
    gold_lines, total = set(lines), len(lines)
    ranked = sorted(score_of_pair.items(), key=lambda entry: -entry[1])
    best = threshold = 0.0
    correct = 0
    for place, (pair, value) in enumerate(ranked):
        correct += pair in gold_lines
        if correct:
            precision, recall = correct / (place + 1), correct / total
            f1 = 2 * precision * recall / (precision + recall)
            if f1 > best:
                if place + 1 == len(ranked) and strict:
                    raise DataError(
                        "the best prefix is the whole list: no next score to set the threshold by"
                    )
                best = f1
                threshold = (value + ranked[min(place + 1, len(ranked) - 1)][1]) / 2
    return threshold


def extract(score_of_pair: Mapping[str, float], threshold: float) -> list[str]:
    """The candidates with score >= threshold, in their order."""
    return [pair for pair, value in score_of_pair.items() if value >= threshold]


def bucc_eval(
    score_of_pair: Mapping[str, float],
    gold: Collection[str],
    *,
    strict: bool = False,
    count_repeats: bool = False,
) -> dict[str, float]:
    """`{"f1", "precision", "recall", "threshold", "upper_bound"}`, 0-100: the threshold is tuned on
    this very gold (`tune_threshold`), which is BUCC's custom and an upper bound: "upper_bound" is
    1.

    Gold is a set of stripped lines; with `count_repeats` (jiant) a repeated line counts as further
    gold.
    """
    threshold = tune_threshold(score_of_pair, gold, strict=strict, count_repeats=count_repeats)
    lines = _gold(gold, count_repeats)
    accepted = extract(score_of_pair, threshold)
    sums = np.array([len(set(accepted) & set(lines)), len(accepted), len(lines)], dtype=np.float64)
    values = {name: float(value) for name, value in f1_measure(sums).items()}
    return values | {"threshold": threshold, "upper_bound": 1.0}


def fold_of(source_id: str, folds: int = FOLDS) -> int:
    """The fold of a source id: the first 8 bytes of its UTF-8 text's SHA-256, big-endian, modulo
    `folds`.
    """
    return int.from_bytes(hashlib.sha256(source_id.encode()).digest()[:8], "big") % folds


def crossfit(
    score_of_pair: Mapping[str, float], gold: Iterable[str], *, folds: int = FOLDS
) -> list[str]:
    """The candidates accepted when no fold's threshold has seen that fold's gold.

    Candidates and gold pairs go to folds by source id (`fold_of`). Each fold's candidates are
    accepted at the threshold tuned on the candidates and gold of the other folds. The cross-fitted
    F1 is the F1 of the union of the accepted pairs against all gold: correct, predicted and gold
    counts are summed over folds (micro), F1s are not averaged. Only the threshold is cross-fitted;
    mining has seen all sentences, as always.
    """
    lines = set(_gold(gold))
    accepted: set[str] = set()
    for fold in range(folds):
        outside = {
            pair: value
            for pair, value in score_of_pair.items()
            if fold_of(_source(pair), folds) != fold
        }
        threshold = tune_threshold(
            outside, {line for line in lines if fold_of(_source(line), folds) != fold}
        )
        inside = {pair: value for pair, value in score_of_pair.items() if pair not in outside}
        accepted.update(extract(inside, threshold))
    return [pair for pair in score_of_pair if pair in accepted]


def average_precision(score_of_pair: Mapping[str, float], gold: Iterable[str]) -> float:
    """Average precision of the ranked candidates, 0-100; needs no threshold.

    AP = Σ over correct candidates of the precision of all candidates scoring at least as high,
    divided by the number of gold pairs: gold that was never a candidate counts as 0, equal scores
    are one step. 0 without gold.
    """
    lines = set(_gold(gold))
    if not lines or not score_of_pair:
        return 0.0
    values = np.fromiter(score_of_pair.values(), dtype=np.float64)
    correct = np.fromiter(
        (pair in lines for pair in score_of_pair), dtype=np.float64, count=len(score_of_pair)
    )
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(correct[order])[ends]
    return float(100.0 * np.sum(np.diff(hits, prepend=0.0) * hits / (ends + 1)) / len(lines))


def report(score_of_pair: Mapping[str, float], gold: Collection[str]) -> dict[str, float]:
    """Every figure of scored candidates, 0-100: cross-fitted f1, precision and recall; average
    precision; and, as *_upper_bound, the figures and the threshold that are tuned on the very gold
    they are scored on.
    """
    tuned = bucc_eval(score_of_pair, gold)
    del tuned["upper_bound"]
    crossfitted = score(crossfit(score_of_pair, gold), _gold(gold))
    return (
        {f"{name}_crossfit": value for name, value in crossfitted.items()}
        | {"average_precision": average_precision(score_of_pair, gold)}
        | {f"{name}_upper_bound": value for name, value in tuned.items()}
    )


def _scored_pairs(predictions: Predictions) -> tuple[dict[str, float], set[str]]:
    """(candidate pair → score, gold pairs) of a retrieval's predictions."""
    scored = {
        f"{row['source_id']}\t{row['target_id']}": row["score"]
        for row in predictions
        if "score" in row
    }
    gold = {f"{row['source_id']}\t{row['target_id']}" for row in predictions if row["gold"]}
    return scored, gold


def accepted_pairs(predictions: Predictions) -> list[str]:
    """The candidates at and above the threshold that is tuned on the gold they are scored on."""
    scored, gold = _scored_pairs(predictions)
    return extract(scored, tune_threshold(scored, gold))


class Bucc(Metric):
    """`f1`, `precision`, `recall` and `threshold` as XTREME gives them, tuned on the gold they are
    scored on (an upper bound); the same cross-fitted, and average precision, which needs no
    threshold.

    Predictions are candidate pairs {"source_id", "target_id", "score", "gold": whether it is
    right}, and gold pairs that are no candidates without a score.
    """

    description = (
        "F1 of mined sentence pairs; predictions, references: one list each, the accepted and the"
        " gold pairs of one language, each a text 'source-id TAB target-id'. Intervals are"
        " clustered by source sentence."
    )
    shapes = (("texts", "texts"),)

    def score(self, predictions: Predictions, language: str, **options: Any) -> dict[str, float]:
        scores = report(*_scored_pairs(predictions))
        return {name.removesuffix("_upper_bound"): float(scores[name]) for name in scores}

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        """Those of the accepted pairs; the threshold's own uncertainty is not in them."""
        return [items(accepted_pairs(predictions), _scored_pairs(predictions)[1])]

    def compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        *,
        language: str = "",
        resamples: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        if len(predictions) != 1:
            raise DataError(
                f"BUCC is scored one language at a time, not {len(predictions)} lists of pairs"
            )
        pairs = items(predictions[0], references[0])
        scores: dict[str, Any] = dict(pairs.score())
        if resamples:
            bounds = interval(pairs, resamples=resamples, seed=seed)
            scores |= {f"{name}_interval": bound for name, bound in bounds.items()}
        return scores


METRIC = Bucc()
