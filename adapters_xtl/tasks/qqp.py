"""Quora Question Pairs, as in GLUE: do two questions ask the same?"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"question1": "string", "question2": "string", "label": "class"}
_DEV = (Rows("nyu-mll/glue", "qqp", "validation", _COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="duplicate questions",
    labels=("not_duplicate", "duplicate"),
    train=(Rows("nyu-mll/glue", "qqp", "train", _COLUMNS),),
    select=_DEV,
    report={"validation": _DEV},
    licence="not stated",
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row.get("idx"),
        "text": row["question1"],
        "pair": row["question2"],
        "label": row["label"],
    }
