"""ANLI+ of Phang et al. 2020: SNLI, MNLI and ANLI rounds 1-3 under one head, sampled in proportion
to their sizes.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_COLUMNS = {"premise": "string", "hypothesis": "string", "label": "class"}


def _rows(repo: str, config: str, split: str) -> Rows:
    return Rows(repo, config, split, _COLUMNS)


_DEV = (
    _rows("stanfordnlp/snli", "plain_text", "validation"),
    _rows("nyu-mll/multi_nli", "default", "validation_matched"),
    *(_rows("facebook/anli", "plain_text", f"dev_r{number}") for number in (1, 2, 3)),
)

TASK = Task(
    kind="intermediate",
    format="classify",
    metric="accuracy",
    scorer="accuracy",
    title="natural language inference: SNLI + MNLI + ANLI",
    labels=("entailment", "neutral", "contradiction"),
    train=(
        _rows("stanfordnlp/snli", "plain_text", "train"),
        _rows("nyu-mll/multi_nli", "default", "train"),
        *(_rows("facebook/anli", "plain_text", f"train_r{number}") for number in (1, 2, 3)),
    ),
    select=_DEV,
    report={"validation": _DEV},
    zero_shot="xnli",
    licence="CC BY-SA 4.0 (SNLI), MultiNLI's, CC BY-NC 4.0 (ANLI)",
)


def example(row: Row) -> dict[str, Any]:
    identity = row.get("uid") or row.get("pairID")
    return {
        "id": identity,
        "text": row["premise"],
        "pair": row["hypothesis"],
        "label": row["label"],
    }
