"""CommonsenseQA (Talmor et al. 2019): a question about everyday things, five choices."""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"id": "string", "question": "string", "choices": "choices", "answerKey": "string"}
_DEV = (Rows("tau/commonsense_qa", "default", "validation", _COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="choice",
    metric="accuracy",
    scorer="accuracy",
    title="commonsense questions",
    train=(Rows("tau/commonsense_qa", "default", "train", _COLUMNS),),
    select=_DEV,
    report={"validation": _DEV},
    licence="MIT",
)


def example(row: Row) -> dict[str, Any]:
    choices, key = row["choices"], row["answerKey"]
    return {
        "id": row["id"],
        "context": row["question"],
        "choices": list(choices["text"]),
        "label": list(choices["label"]).index(key) if key else None,
    }
