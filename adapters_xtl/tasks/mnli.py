"""MNLI (Williams et al. 2018): does the premise entail, contradict or leave open the hypothesis?"""

from adapters_xtl.tasks import Task
from adapters_xtl.tasks._multinli import GENRES, LABELS, example, rows
from adapters_xtl.tasks._translated_mnli import TRAIN_IN

__all__ = ["TASK", "example"]

TASK = Task(
    kind="intermediate",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference",
    labels=LABELS,
    train=(rows("train"),),
    train_in=TRAIN_IN,
    genres={genre: genre for genre in GENRES},
    select=(rows("validation_matched"),),
    report={
        "validation": (rows("validation_matched"),),
        "mismatched": (rows("validation_mismatched"),),
    },
    zero_shot="xnli",
    licence="CC BY 3.0 and others, by genre (MultiNLI)",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "warmup": 0.1,
            "max_length": 256,
            "eval_every": 1000,
            "patience": 30,
        },
    },
)
