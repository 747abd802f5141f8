"""PAN-X / WikiANN (Pan et al. 2017; Rahimi et al. 2019): named entities in 40 languages, silver
labels.
"""

from typing import Any

from adapters_xtl.tasks import LanguageRows, Row, Rows, Task

_COLUMNS = {"tokens": "strings", "ner_tags": "classes"}
_LANGUAGES = (
    "ar", "he", "vi", "id", "jv", "ms", "tl", "eu", "ml", "ta", "te", "af", "nl", "en", "de", "el",
    "bn", "hi", "mr", "ur", "fa", "fr", "it", "pt", "es", "bg", "ru", "ja", "ka", "ko", "th", "sw",
    "yo", "my", "zh", "kk", "tr", "et", "fi", "hu",
)  # fmt: skip
_ADDED = ("qu", "pl", "uk", "az", "lt", "pa", "gu", "ro")


def _rows(split: str) -> tuple[Rows, ...]:
    own = Rows("unimelb-nlp/wikiann", "{code}", split, _COLUMNS)
    return (Rows("google/xtreme", "PAN-X.{code}", split, _COLUMNS, instead=(own,)),)


TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="named entity recognition",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    train=tuple(rows.named("en") for rows in _rows("train")),
    train_in={code: LanguageRows(_rows("train")[0], "native") for code in (*_LANGUAGES, *_ADDED)},
    select_xtreme=tuple(rows.named("en") for rows in _rows("validation")),
    report={"validation": _rows("validation"), "test": _rows("test")},
    languages={
        "xtreme": _LANGUAGES,
        "xtreme-r": (*_LANGUAGES, *_ADDED),
    },
    group="structured",
    licence="not stated",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "epochs": 10,
            "warmup": 0.1,
            "max_length": 256,
        },
        "XTREME's own scripts, full fine-tuning": {
            "lr": 2e-5,
            "batch_size": 32,
            "epochs": 10,
            "max_length": 128,
        },
    },
)


def example(row: Row) -> dict[str, Any]:
    return {"words": row["tokens"], "tags": row["ner_tags"]}
