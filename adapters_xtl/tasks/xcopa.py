"""XCOPA (Ponti et al. 2020): cause or effect, two choices, eleven languages. Trained on SIQA, then
on COPA.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_SIQA = {
    name: "string" for name in ("context", "question", "answerA", "answerB", "answerC", "label")
}
_COPA = {
    "premise": "string",
    "choice1": "string",
    "choice2": "string",
    "question": "string",
    "label": "int",
}
_LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
_QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def _rows(split: str) -> tuple[Rows, ...]:
    return (Rows("cambridgeltl/xcopa", "{code}", split, _COPA),)


_SIQA_ROWS = Rows(
    "lighteval/siqa",
    "default",
    "train",
    _SIQA,
    instead=(Rows("allenai/social_i_qa", "default", "train", _SIQA),),
)

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
    notes=(
        (
            "XCOPA's validation rows are translations of COPA's: under `clean`, a slice of COPA's"
            " train rows selects"
        ),
    ),
)


def example(row: Row) -> dict[str, Any]:
    # a null or empty part leaves the choice null or empty, so that it is found
    if "answerA" in row:
        question, answers = row["question"], [row[key] for key in ("answerA", "answerB", "answerC")]
        label = int(row["label"]) - 1 if row["label"] else None
        identity, context, stage = None, row["context"], 0
    else:
        question, answers = _QUESTIONS[row["question"]], [row["choice1"], row["choice2"]]
        label = row["label"] if row["label"] != -1 else None
        identity, context, stage = row.get("idx"), row["premise"], 1
    choices = [question and answer and f"{question} {answer}" for answer in answers]
    return {"id": identity, "context": context, "choices": choices, "label": label, "stage": stage}
