"""XQuAD (Artetxe et al. 2020): 1,190 SQuAD dev questions translated. Trains nothing: it evaluates
`squad1`'s run.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"id": "string", "context": "string", "question": "string", "answers": "answers"}
_LANGUAGES = ("en", "es", "de", "el", "ru", "tr", "ar", "vi", "th", "zh", "hi")
_ROWS = Rows(
    "google/xtreme",
    "XQuAD.{code}",
    "validation",
    _COLUMNS,
    instead=(Rows("google/xquad", "xquad.{code}", "validation", _COLUMNS),),
)

TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering",
    report={"validation": (_ROWS,)},
    languages={"xtreme": _LANGUAGES, "xtreme-r": (*_LANGUAGES, "ro")},
    train_from="squad1",
    group="qa",
    licence="CC BY-SA 4.0",
    notes=("XQuAD has one split: it is reported as validation and never selects",),
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "context": row["context"],
        "answers": row["answers"],
    }
