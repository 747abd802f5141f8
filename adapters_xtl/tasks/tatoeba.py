"""Tatoeba (Artetxe and Schwenk 2019): find each English sentence's translation. Trains nothing."""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"source_sentence": "string", "target_sentence": "string"}
_CODES = {
    "ar": "ara", "he": "heb", "vi": "vie", "id": "ind", "jv": "jav", "tl": "tgl", "eu": "eus",
    "ml": "mal", "ta": "tam", "te": "tel", "af": "afr", "nl": "nld", "de": "deu", "el": "ell",
    "bn": "ben", "hi": "hin", "mr": "mar", "ur": "urd", "fa": "pes", "fr": "fra", "it": "ita",
    "pt": "por", "es": "spa", "bg": "bul", "ru": "rus", "ja": "jpn", "ka": "kat", "ko": "kor",
    "th": "tha", "sw": "swh", "zh": "cmn", "kk": "kaz", "tr": "tur", "et": "est", "fi": "fin",
    "hu": "hun",
}  # fmt: skip
_ADDED = {"az": "aze", "lt": "lit", "pl": "pol", "uk": "ukr", "ro": "ron"}

TASK = Task(
    kind="target",
    format="retrieve",
    metric="accuracy",
    scorer="tatoeba",
    title="sentence retrieval",
    report={"validation": (Rows("google/xtreme", "tatoeba.{code}", "validation", _COLUMNS),)},
    languages={"xtreme": tuple(_CODES), "xtreme-r": (*_CODES, *_ADDED)},
    codes={**_CODES, **_ADDED},
    group="retrieval",
    licence="CC BY 2.0 FR",
)


def example(row: Row) -> dict[str, Any]:
    return {"source": row["source_sentence"], "target": row["target_sentence"]}
