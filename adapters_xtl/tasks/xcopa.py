"""XCOPA (Ponti et al. 2020): cause or effect, two choices, eleven languages. Trained on SIQA, then on COPA."""

from typing import Any

from adapters_xtl.spec import Row, Rows, Task

_SIQA = {name: "string" for name in ("context", "question", "answerA", "answerB", "answerC", "label")}
_COPA = {"premise": "string", "choice1": "string", "choice2": "string", "question": "string", "label": "int"}
_LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
_ASKED = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def _rows(split: str) -> tuple[Rows, ...]:
    return (Rows("cambridgeltl/xcopa", "{code}", split, _COPA),)


_SIQA_ROWS = Rows("lighteval/siqa", "default", "train", _SIQA,
                  instead=(Rows("allenai/social_i_qa", "default", "train", _SIQA),))  # fmt: skip

TASK = Task(
    kind="target",
    format="choice",
    metric="accuracy",
    scorer="accuracy",
    title="causal commonsense reasoning",
    train=(
        _SIQA_ROWS,
        Rows("aps/super_glue", "copa", "train", _COPA),
    ),
    ordered=True,
    select_xtreme=(Rows("aps/super_glue", "copa", "validation", _COPA),),
    report={"validation": _rows("validation"), "test": _rows("test")},
    languages={"xtreme-r": _LANGUAGES},
    group="classification",
    licence="CC BY 4.0 (XCOPA, SIQA), BSD-2 (COPA)",
    notes=("XCOPA's validation rows are translations of COPA's: under `clean`, a slice of COPA's train rows selects",),
)  # fmt: skip


def example(row: Row) -> dict[str, Any]:
    if "answerA" in row:
        choices = [f"{row['question']} {row[key]}" for key in ("answerA", "answerB", "answerC")]
        return {"context": row["context"], "choices": choices, "label": int(row["label"]) - 1 if row["label"] else None}
    asked = _ASKED[row["question"]]
    choices = [f"{asked} {row[key]}" for key in ("choice1", "choice2")]
    label = row["label"] if row["label"] != -1 else None
    return {"id": row.get("idx"), "context": row["premise"], "choices": choices, "label": label}
