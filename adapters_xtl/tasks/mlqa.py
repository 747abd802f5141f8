"""MLQA (Lewis et al. 2020): extractive question answering in seven languages. Evaluates `squad1`'s
run.
"""

from adapters_xtl.tasks import Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_LANGUAGES = ("en", "es", "de", "ar", "hi", "vi", "zh")


def _rows(split: str) -> tuple[Rows, ...]:
    own = Rows("facebook/mlqa", "mlqa.{code}.{code}", split, COLUMNS)
    return (Rows("google/xtreme", "MLQA.{code}.{code}", split, COLUMNS, instead=(own,)),)


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
