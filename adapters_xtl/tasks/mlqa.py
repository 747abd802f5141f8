"""MLQA (Lewis et al. 2020): extractive question answering in seven languages. Evaluates `squad1`'s
run.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"id": "string", "context": "string", "question": "string", "answers": "answers"}
_LANGUAGES = ("en", "es", "de", "ar", "hi", "vi", "zh")


def _rows(split: str) -> tuple[Rows, ...]:
    own = Rows("facebook/mlqa", "mlqa.{code}.{code}", split, _COLUMNS)
    return (Rows("google/xtreme", "MLQA.{code}.{code}", split, _COLUMNS, instead=(own,)),)


TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="mlqa",
    title="extractive question answering",
    report={"validation": _rows("validation"), "test": _rows("test")},
    languages={"xtreme": _LANGUAGES, "xtreme-r": _LANGUAGES},
    train_from="squad1",
    group="qa",
    licence="CC BY-SA 3.0",
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "context": row["context"],
        "answers": row["answers"],
    }
