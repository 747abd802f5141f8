"""Cosmos QA (Huang et al. 2019): reading between the lines of a blog post, four choices."""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {
    "id": "string",
    "context": "string",
    "question": "string",
    "answer0": "string",
    "answer1": "string",
    "answer2": "string",
    "answer3": "string",
    "label": "int",
}
_DEV = (Rows("allenai/cosmos_qa", "default", "validation", _COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="choice",
    metric="accuracy",
    scorer="accuracy",
    title="commonsense reading comprehension",
    train=(Rows("allenai/cosmos_qa", "default", "train", _COLUMNS),),
    select=_DEV,
    report={"validation": _DEV},
    licence="CC BY 4.0",
)


def example(row: Row) -> dict[str, Any]:
    answers = [row[f"answer{number}"] for number in range(4)]
    return {
        "id": row["id"],
        "context": row["context"],
        # a null or empty part leaves the choice null or empty, so that it is found
        "choices": [
            row["question"] and answer and f"{row['question']} {answer}" for answer in answers
        ],
        "label": row["label"] if row["label"] != -1 else None,
    }
