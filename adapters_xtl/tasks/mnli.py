"""MNLI (Williams et al. 2018): does the premise entail, contradict or leave open the hypothesis?"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task
from adapters_xtl.tasks._translated_mnli import TRAIN_IN

_COLUMNS = {"premise": "string", "hypothesis": "string", "label": "class"}


def _rows(split: str) -> Rows:
    glue = Rows("nyu-mll/glue", "mnli", split, _COLUMNS)
    return Rows("nyu-mll/multi_nli", "default", split, _COLUMNS, instead=(glue,))


TASK = Task(
    kind="intermediate",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference",
    labels=("entailment", "neutral", "contradiction"),
    train=(_rows("train"),),
    train_in=TRAIN_IN,
    select=(_rows("validation_matched"),),
    report={
        "validation": (_rows("validation_matched"),),
        "mismatched": (_rows("validation_mismatched"),),
    },
    zero_shot="xnli",
    licence="CC BY 3.0 and others, by genre (MultiNLI)",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "warmup": 0.1,
            "max_length": 256,
            "eval_every": 1000,
            "patience": 30,
        },
    },
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row.get("pairID"),
        "text": row["premise"],
        "pair": row["hypothesis"],
        "label": row["label"],
    }
