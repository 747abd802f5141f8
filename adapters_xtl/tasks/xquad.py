"""XQuAD (Artetxe et al. 2020): 1,190 SQuAD dev questions translated. Trains nothing: it evaluates
`squad1`'s run.
"""

from adapters_xtl.tasks import Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_LANGUAGES = ("en", "es", "de", "el", "ru", "tr", "ar", "vi", "th", "zh", "hi")
_ROWS = Rows(
    "google/xtreme",
    "XQuAD.{code}",
    "validation",
    COLUMNS,
    instead=(Rows("google/xquad", "xquad.{code}", "validation", COLUMNS),),
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
