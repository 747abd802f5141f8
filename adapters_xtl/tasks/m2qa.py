"""M2QA (Engländer et al. 2024, arXiv 2407.01091): questions about news, reviews and stories, in
German, Turkish and Chinese. Evaluates `squad1`'s run; XQuAD's questions in these languages are
SQuAD's own domain.

Its questions without an answer are left out: SQuAD 1.1 has none, and a training on it cannot tell.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"id": "string", "context": "string", "question": "string", "answers": "answers"}
_DOMAINS = ("news", "product_reviews", "creative_writing")

TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering in other domains",
    report={
        domain: (Rows("UKPLab/m2qa", "m2qa.{code}." + domain, "validation", _COLUMNS),)
        for domain in _DOMAINS
    },
    languages={"all": ("de", "tr", "zh")},
    codes={"de": "german", "tr": "turkish", "zh": "chinese"},
    train_from="squad1",
    in_domain_task="xquad",
    group="qa",
    licence="CC BY-ND 4.0",
    notes=("questions without an answer are left out, and counted among the unfit rows",),
)


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "context": row["context"],
        "answers": row["answers"],
    }
