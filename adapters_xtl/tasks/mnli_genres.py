"""MNLI by genre (Williams et al. 2018): trained on MNLI's genres, scored on its other ones.

The checkpoint is chosen on a slice of the train rows, so that `validation_matched`, the genres of
the train rows, can be reported as the domain that the training is from. A genre's rows are those of
both validation files: five of the ten stand in MNLI's train rows, the other five do not.
`train.genres` chooses those that are trained on.
"""

from adapters_xtl.tasks import Task
from adapters_xtl.tasks._multinli import GENRES, LABELS, example, rows

__all__ = ["TASK", "example"]

_UNSEEN = ("facetoface", "letters", "nineeleven", "oup", "verbatim")
_VALIDATION = ("validation_matched", "validation_mismatched")

TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference by genre",
    labels=LABELS,
    train=(rows("train"),),
    genres={genre: genre for genre in GENRES},
    report={
        "matched": (rows("validation_matched"),),
        **{
            genre: tuple(rows(split, genre) for split in _VALIDATION)
            for genre in (*_UNSEEN, *GENRES)
        },
    },
    in_domain_task="mnli_genres",
    samples="mnli",
    recipe="xnli",
    group="classification",
    licence="CC BY 3.0 and others, by genre (MultiNLI)",
    notes=(
        "facetoface, letters, nineeleven, oup and verbatim are in no train row of MNLI; the other"
        " five genres are what it is trained on",
    ),
)
