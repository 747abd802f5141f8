"""Chunk F1 of tag sequences (PAN-X, UDPOS, CCG …) by two sets of rules, and token accuracy.

The rules are those of seqeval's default ("conlleval") mode in two releases. `0.0.12` is the release
XTREME's published numbers come from and the default here; `1.2.2` is what an install gives today.
They agree on IOB tags without inner hyphens and differ on bare POS tags by up to several points.

A tag is read as prefix + type. The prefix is its first character. The type is, in 0.0.12, what
follows the last hyphen (the whole tag without one); in 1.2.2, what follows the first hyphen after
the first character is dropped, and `_` when nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.metrics._bootstrap import Items, f1_measure, mean_measure
from adapters_xtl.metrics._metric import Metric, Predictions

__all__ = ["METRIC", "RULES", "Tagging", "chunks", "items", "score", "token_items"]

Sentences = Sequence[Sequence[str]]
Chunk = tuple[str, int, int]

RULES: dict[str, Callable[[str], str]] = {
    "0.0.12": lambda tag: tag.rpartition("-")[2],
    "1.2.2": lambda tag: tag[1:].split("-", maxsplit=1)[-1] or "_",
}


def chunks(sentences: Sentences, rules: str = "0.0.12") -> list[Chunk]:
    """The chunks (type, first, last), in order of their ends, of all sentences joined.

    Positions count the tokens of all sentences plus one `O` that follows each sentence. At each
    token two independent tests are made against the one before it: whether a chunk ends there (it
    is recorded from the remembered start) and whether one starts there (the remembered start
    moves). Under 1.2.2 they need not go together, so that chunks may overlap, and a start may date
    from an earlier sentence. Raises DataError for unknown rules or an empty tag.
    """
    if rules not in RULES:
        raise DataError(f"unknown tagging rules {rules!r}{nearest(rules, RULES)}")
    type_of = RULES[rules]
    parts_of_tag: dict[str, tuple[str, str]] = {}
    chunks: list[Chunk] = []
    before, type_before, start = "O", "", 0
    position = 0
    for sentence in sentences:
        for tag in (*sentence, "O"):
            if tag not in parts_of_tag:
                if not tag:
                    raise DataError("a tag is empty")
                parts_of_tag[tag] = (tag[0], type_of(tag))
            prefix, kind = parts_of_tag[tag]
            changed = kind != type_before
            if (
                before in "ES"
                or (before in "BI" and prefix in "BSO")
                or (changed and before not in "O.")
            ):
                chunks.append((type_before, start, position - 1))
            if (
                prefix in "BS"
                or (before in "ESO" and prefix in "EI")
                or (changed and prefix not in "O.")
            ):
                start = position
            before, type_before = prefix, kind
            position += 1
    return chunks


def items(
    predictions: Sentences,
    references: Sentences,
    *,
    rules: str = "0.0.12",
    ids: Sequence[Hashable] | None = None,
) -> Items:
    """Items, one a sentence, with stats (correct, predicted, gold chunks); their sums are the
    corpus counts.

    A chunk belongs to the sentence it ends in (of its own side, a correct one to the gold side's).
    Arguments and errors as in `score`.
    """
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predicted sentences for {len(references)} gold ones")
    if rules != "0.0.12":
        _check_lengths(predictions, references)
    predicted, gold = chunks(predictions, rules), chunks(references, rules)
    correct = set(predicted) & set(gold)
    stats = np.stack(
        [
            _per_sentence([chunk for chunk in gold if chunk in correct], references),
            _per_sentence(predicted, predictions),
            _per_sentence(gold, references),
        ],
        axis=1,
    )
    return Items(stats, f1_measure, range(len(references)) if ids is None else ids)


def _per_sentence(
    chunks: Sequence[Chunk], sentences: Sentences
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(n sentences,) float64: how many of the chunks end in each sentence."""
    borders = np.cumsum([len(sentence) + 1 for sentence in sentences])
    where = np.searchsorted(borders, [last for _, _, last in chunks], side="right")
    return np.bincount(where, minlength=len(sentences)).astype(np.float64)


def token_items(
    predictions: Sentences, references: Sentences, *, ids: Sequence[Hashable] | None = None
) -> Items:
    """Items, one a sentence, with stats (tokens tagged right, tokens) → `{"token_accuracy"}`.

    Raises DataError when the number of sentences or a sentence's length differs.
    """
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predicted sentences for {len(references)} gold ones")
    _check_lengths(predictions, references)
    stats = [
        (sum(p == r for p, r in zip(predicted, gold, strict=True)), len(gold))
        for predicted, gold in zip(predictions, references, strict=True)
    ]
    keys = range(len(references)) if ids is None else ids
    return Items(
        np.array(stats, dtype=np.float64).reshape(-1, 2), mean_measure("token_accuracy"), keys
    )


def _check_lengths(predictions: Sentences, references: Sentences) -> None:
    for row, (predicted, gold) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(gold):
            raise DataError(
                f"sentence {row}: {len(predicted)} predicted tags for {len(gold)} tokens"
            )


def score(
    predictions: Sentences, references: Sentences, *, rules: str = "0.0.12", tokens: bool = False
) -> dict[str, float]:
    """`{"f1", "precision", "recall"}` over all chunks (micro; type and span must match), 0-100.

    With `tokens`, "token_accuracy" beside them. No gold or no predicted chunk gives 0. Raises
    DataError when the number of sentences differs; when a sentence's length does, only under 1.2.2
    or with `tokens`: the rules of 0.0.12 do not look, and every later span is shifted.
    """
    result = items(predictions, references, rules=rules).score()
    if tokens:
        result |= token_items(predictions, references).score()
    return result


class Tagging(Metric):
    """Micro chunk `f1`, `precision` and `recall` (PAN-X, UDPOS …), and `token_accuracy`."""

    description = (
        "Chunk F1; predictions and references: sentences, each a list of tags. rules: '0.0.12'"
        " (XTREME's numbers) or '1.2.2', the release of seqeval whose rules apply; tokens: whether"
        " to give token_accuracy too."
    )
    shapes = (("texts", "texts"),)

    def items(
        self,
        predictions: Predictions,
        language: str,
        *,
        rules: str = "0.0.12",
        tokens: bool = True,
        **options: Any,
    ) -> list[Items]:
        predicted = [row["prediction"] for row in predictions]
        gold = [row["gold"] for row in predictions]
        groups = [items(predicted, gold, rules=rules)]
        return [*groups, token_items(predicted, gold)] if tokens else groups

    def compute(
        self, predictions: Sequence[Any], references: Sequence[Any], **options: Any
    ) -> dict[str, Any]:
        """Without token_accuracy unless `tokens` is True: the official rules take sentences of
        unequal length.
        """
        return super().compute(predictions, references, **{"tokens": False, **options})


METRIC = Tagging()
