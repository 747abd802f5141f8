"""XNLI (Conneau et al. 2018): natural language inference in 15 languages, trained on MNLI's English
rows.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task
from adapters_xtl.tasks._multinli import COLUMNS, GENRES, LABELS, rows
from adapters_xtl.tasks._multinli import example as multinli_example
from adapters_xtl.tasks._translated_mnli import TRAIN_IN

_XTREME = {
    "language": "string",
    "sentence1": "string",
    "sentence2": "string",
    "gold_label": "class",
}
_LANGUAGES = (
    "ar",
    "bg",
    "de",
    "el",
    "en",
    "es",
    "fr",
    "hi",
    "ru",
    "sw",
    "th",
    "tr",
    "ur",
    "vi",
    "zh",
)


def _report(split: str) -> tuple[Rows, ...]:
    own = Rows("facebook/xnli", "{code}", split, COLUMNS)
    return (
        Rows("google/xtreme", "XNLI", split, _XTREME, language="column:language", instead=(own,)),
    )


TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference",
    labels=LABELS,
    train=(rows("train"),),
    train_in=TRAIN_IN,
    genres={genre: genre for genre in GENRES},
    select=(rows("validation_matched"),),
    select_xtreme=tuple(form.named("en") for form in _report("validation")),
    report={"validation": _report("validation"), "test": _report("test")},
    languages={"xtreme": _LANGUAGES, "xtreme-r": _LANGUAGES},
    samples="mnli",
    group="classification",
    licence="CC BY-NC 4.0",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "epochs": 2,
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
    """XNLI's own files tell the genre of a row; the hub's do not."""
    if "gold_label" in row:
        texts = {"text": row["sentence1"], "pair": row["sentence2"], "label": row["gold_label"]}
    else:
        texts = multinli_example(row)
    return {**texts, "genre": row["genre"]} if row.get("genre") else texts
