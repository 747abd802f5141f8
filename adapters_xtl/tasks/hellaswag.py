"""HellaSwag (Zellers et al. 2019): which of four endings continues the scene?"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"ctx_a": "string", "ctx_b": "string", "endings": "strings", "label": "string"}
_DEV = (Rows("Rowan/hellaswag", "default", "validation", _COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="choice",
    metric="accuracy",
    scorer="accuracy",
    title="sentence completion",
    train=(Rows("Rowan/hellaswag", "default", "train", _COLUMNS),),
    select=_DEV,
    report={"validation": _DEV},
    licence="MIT",
)


def example(row: Row) -> dict[str, Any]:
    # ctx_b is the beginning of the last sentence: every ending continues it.
    return {
        "id": row.get("ind"),
        "context": row["ctx_a"],
        "choices": [
            ending and f"{row['ctx_b'] or ''} {ending}".strip() for ending in row["endings"]
        ],
        "label": int(row["label"]) if row["label"] else None,
    }
