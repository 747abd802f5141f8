"""MNLI by genre (Williams et al. 2018): trained on MNLI's genres, scored on its other ones.

The checkpoint is chosen on a slice of the train rows, so that `validation_matched`, the genres of
the train rows, can be reported as the domain that the training is from. A genre's rows are those of
both validation files: five of the ten stand in MNLI's train rows, the other five do not.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"premise": "string", "hypothesis": "string", "label": "class"}
_UNSEEN = ("facetoface", "letters", "nineeleven", "oup", "verbatim")
_SEEN = ("fiction", "government", "slate", "telephone", "travel")
_VALIDATION = ("validation_matched", "validation_mismatched")


def _rows(split: str, genre: str = "") -> Rows:
    only = {"genre": (genre,)} if genre else {}
    return Rows("nyu-mll/multi_nli", "default", split, _COLUMNS, only=only)


TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference by genre",
    labels=("entailment", "neutral", "contradiction"),
    train=(_rows("train"),),
    report={
        "matched": (_rows("validation_matched"),),
        **{
            genre: tuple(_rows(split, genre) for split in _VALIDATION)
            for genre in (*_UNSEEN, *_SEEN)
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


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row.get("pairID"),
        "text": row["premise"],
        "pair": row["hypothesis"],
        "label": row["label"],
    }
