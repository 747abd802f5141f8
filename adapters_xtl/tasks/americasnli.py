"""AmericasNLI (Ebrahimi et al. 2022, arXiv 2104.08726): XNLI's rows in ten languages of the
Americas. Evaluates `xnli`'s run.

A shift of language and not of domain: the rows are translations of XNLI's, and XNLI has none of
these languages.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"premise": "string", "hypothesis": "string", "label": "class"}
_LANGUAGES = ("aym", "bzd", "cni", "gn", "hch", "nah", "oto", "quy", "shp", "tar")

TASK = Task(
    kind="target",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference in languages of the Americas",
    labels=("entailment", "neutral", "contradiction"),
    report={"americas": (Rows("nala-cub/americas_nli", "{code}", "test", _COLUMNS),)},
    languages={"all": _LANGUAGES},
    train_from="xnli",
    in_domain_task="xnli",
    group="classification",
    licence="CC BY-SA 4.0",
)


def example(row: Row) -> dict[str, Any]:
    return {"text": row["premise"], "pair": row["hypothesis"], "label": row["label"]}
