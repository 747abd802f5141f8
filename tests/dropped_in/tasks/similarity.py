"""How alike two sentences are, from 0 to 1."""

from adapters_xtl.tasks import Rows, Task

_COLUMNS = {"sentence1": "string", "sentence2": "string", "score": "number"}
_VALIDATION = Rows("someone/similarity", "default", "validation", _COLUMNS)

TASK = Task(
    kind="intermediate",
    format="regress",
    metric="pearson",
    scorer="pearson",
    title="sentence similarity",
    train=(Rows("someone/similarity", "default", "train", _COLUMNS),),
    select=(_VALIDATION,),
    report={"validation": (_VALIDATION,)},
    licence="CC0-1.0",
)


def example(row):
    return {"first": row["sentence1"], "second": row["sentence2"], "value": row["score"]}
