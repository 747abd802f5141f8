"""CCG supertagging on CCGbank (Hockenmaier and Steedman 2007), licensed data: `xtl data import
ccgbank` reads a copy.

The inventory of supertags is what the train rows hold; a tag first seen later is counted as wrong,
never dropped.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"tokens": "strings", "ccg_tags": "strings"}
_DEV = (Rows("original/ccgbank", "default", "validation", _COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="tag",
    metric="accuracy",
    scorer="token_accuracy",
    title="CCG supertagging",
    train=(Rows("original/ccgbank", "default", "train", _COLUMNS),),
    select=_DEV,
    report={"validation": _DEV, "test": (Rows("original/ccgbank", "default", "test", _COLUMNS),)},
    licence="LDC2005T13, licensed",
)


def example(row: Row) -> dict[str, Any]:
    return {"id": row.get("id"), "words": row["tokens"], "tags": row["ccg_tags"]}
