"""Exact match and F1 of answer spans by MLQA's rules for the language of the answers.

Source of the rules: the official evaluation script of MLQA. Answers are compared as SQuAD's.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Any

from adapters_xtl.base.errors import DataError, nearest
from adapters_xtl.metrics import squad
from adapters_xtl.metrics._bootstrap import Items
from adapters_xtl.metrics._metric import Predictions
from adapters_xtl.metrics.squad import ENGLISH_ARTICLES, Answers

__all__ = ["LANGUAGES", "METRIC", "Mlqa", "items", "normalise_mlqa", "score"]

_ASCII = frozenset(string.punctuation)
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
    "en": ENGLISH_ARTICLES,
    "es": _words("un una unos unas el la los las"),
    "de": _words("ein eine einen einem eines einer der die das den dem des"),
    "vi": _words("của là cái chiếc những"),
    "ar": re.compile("\u0627\u0644"),
    "hi": None,
    "zh": None,
}
LANGUAGES = tuple(_ARTICLES)


def normalise_mlqa(text: str, language: str) -> str:
    """MLQA's normal form for an answer in `language` (one of LANGUAGES, else DataError).

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
        raise DataError(f"MLQA has no language {language!r}{nearest(str(language), LANGUAGES)}")
    return _ARTICLES[language]


def items(predictions: Mapping[str, str], references: Answers, language: str) -> Items:
    """`squad.items` by MLQA's rules for answers (hence contexts) in `language`; DataError for an
    unknown one.
    """
    _articles(language)
    return squad.items(predictions, references, lambda text: normalise_mlqa(text, language))


def score(predictions: Mapping[str, str], references: Answers, language: str) -> dict[str, float]:
    """MLQA: `{"exact_match", "f1"}`, 0-100, as `squad.score`, with the rules of the answers'
    language.
    """
    return items(predictions, references, language).score()


class Mlqa(squad.Squad):
    """`exact_match` and token `f1` of answers, by the rules of their language."""

    description = f"{squad.Squad.description} language: that of answers and contexts."

    def items(self, predictions: Predictions, language: str, **options: Any) -> list[Items]:
        return [items(*squad.answers_of(predictions), language)]


METRIC = Mlqa()
