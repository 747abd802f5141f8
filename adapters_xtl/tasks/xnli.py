"""XNLI (Conneau et al. 2018): natural language inference in 15 languages, trained on MNLI's English
rows.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task
from adapters_xtl.tasks._translated_mnli import TRAIN_IN

_NLI = {"premise": "string", "hypothesis": "string", "label": "class"}
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


def _mnli(split: str) -> tuple[Rows, ...]:
    return (
        Rows(
            "nyu-mll/multi_nli",
            "default",
            split,
            _NLI,
            instead=(Rows("nyu-mll/glue", "mnli", split, _NLI),),
        ),
    )


def _report(split: str) -> tuple[Rows, ...]:
    own = Rows("facebook/xnli", "{code}", split, _NLI)
    return (
        Rows("google/xtreme", "XNLI", split, _XTREME, language="column:language", instead=(own,)),
    )


TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference",
    labels=("entailment", "neutral", "contradiction"),
    train=_mnli("train"),
    train_in=TRAIN_IN,
    select=_mnli("validation_matched"),
    select_xtreme=tuple(rows.named("en") for rows in _report("validation")),
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
    if "gold_label" in row:
        return {"text": row["sentence1"], "pair": row["sentence2"], "label": row["gold_label"]}
    return {
        "id": row.get("pairID"),
        "text": row["premise"],
        "pair": row["hypothesis"],
        "label": row["label"],
    }
