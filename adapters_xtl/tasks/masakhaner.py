"""MasakhaNER (Adelani et al. 2021, arXiv 2103.11811): named entities in the news, tagged by people,
in the languages of it that WikiANN has too. Evaluates `panx`'s run.

WikiANN has no dates: theirs count as no entity.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="named entity recognition in the news",
    labels=(
        "O",
        "B-PER",
        "I-PER",
        "B-ORG",
        "I-ORG",
        "B-LOC",
        "I-LOC",
        "B-DATE",
        "I-DATE",
    ),
    report={
        "news": (
            Rows(
                "masakhane/masakhaner",
                "{code}",
                "test",
                {"tokens": "strings", "ner_tags": "classes"},
            ),
        )
    },
    languages={"all": ("sw", "yo")},
    codes={"sw": "swa", "yo": "yor"},
    train_from="panx",
    in_domain_task="panx",
    group="structured",
    licence="CC BY-NC 4.0",
    notes=("dates are tagged O, since WikiANN has none",),
)


def example(row: Row) -> dict[str, Any]:
    tags = row["ner_tags"]
    if tags is not None:
        tags = ["O" if tag in ("B-DATE", "I-DATE") else tag for tag in tags]
    return {"id": row.get("id"), "words": row["tokens"], "tags": tags}
