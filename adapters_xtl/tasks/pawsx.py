"""PAWS-X (Yang et al. 2019): paraphrase or not, in seven languages, pairs with high
word overlap.
"""

from dataclasses import replace
from typing import Any

from adapters_xtl.tasks import BACK_TRANSLATED, LanguageRows, Row, Rows, Task

_COLUMNS = {"sentence1": "string", "sentence2": "string", "label": "class"}
_LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "zh")


def _rows(split: str) -> tuple[Rows, ...]:
    # The XTREME form drops some rows; the authors' own is whole. Which one was read is recorded.
    own = Rows("google-research-datasets/paws-x", "{code}", split, _COLUMNS)
    return (Rows("google/xtreme", "PAWS-X.{code}", split, _COLUMNS, instead=(own,)),)


def _train_in() -> dict[str, LanguageRows]:
    # only the authors' own form has the ids by which a row finds its translations
    (xtreme,) = _rows("train")
    rows = replace(xtreme.instead[0], parallel="id", instead=(replace(xtreme, instead=()),))
    translated = {code: LanguageRows(rows, "translated") for code in _LANGUAGES}
    return {
        **translated,
        "en": LanguageRows(rows, "native"),
        BACK_TRANSLATED: LanguageRows(rows, "back-translated"),  # not published
    }


TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="paraphrase identification",
    labels=("0", "1"),
    train=tuple(rows.named("en") for rows in _rows("train")),
    train_in=_train_in(),
    select_xtreme=tuple(rows.named("en") for rows in _rows("validation")),
    report={"validation": _rows("validation"), "test": _rows("test")},
    languages={"xtreme": _LANGUAGES},
    group="classification",
    licence="free use, as its authors state",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "epochs": 5,
            "warmup": 0.1,
            "max_length": 256,
        },
        "XTREME's own scripts, full fine-tuning": {
            "lr": 2e-5,
            "batch_size": 32,
            "epochs": 5,
            "max_length": 128,
        },
    },
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row.get("id"),
        "text": row["sentence1"],
        "pair": row["sentence2"],
        "label": row["label"],
    }
