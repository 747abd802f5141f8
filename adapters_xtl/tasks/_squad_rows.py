"""Rows in the columns of SQuAD (Rajpurkar et al. 2016): a question, a passage, and its answers."""

from typing import Any

from adapters_xtl.tasks import Row

COLUMNS = {"id": "string", "context": "string", "question": "string", "answers": "answers"}


def example(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "context": row["context"],
        "answers": row["answers"],
    }
