"""SQuAD 2.0 (Rajpurkar et al. 2018): extractive answers, or none."""

from adapters_xtl.tasks import Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_DEV = (Rows("rajpurkar/squad_v2", "squad_v2", "validation", COLUMNS),)

TASK = Task(
    kind="intermediate",
    format="span",
    metric="f1",
    scorer="squad_v2",
    title="extractive question answering with unanswerable questions",
    labels=("unanswerable",),
    train=(Rows("rajpurkar/squad_v2", "squad_v2", "train", COLUMNS),),
    select=_DEV,
    report={"validation": _DEV},
    licence="CC BY-SA 4.0",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 16,
            "epochs": 2,
            "max_length": 384,
            "stride": 128,
        },
        "XTREME's own scripts, full fine-tuning": {
            "lr": 3e-5,
            "batch_size": 32,
            "epochs": 3,
            "max_length": 384,
        },
    },
)
