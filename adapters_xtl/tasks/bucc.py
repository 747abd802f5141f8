"""BUCC 2018 (Zweigenbaum et al. 2018): mine the translations hidden in two monolingual corpora.
Trains nothing.

Needs the shared task's own form, every sentence of both sides; the hub's has the gold pairs only.
"""

from typing import Any

from adapters_xtl.tasks import Row, Rows, Task

_SENTENCES = {"id": "string", "sentence": "string"}
_PARTS = {
    "source": _SENTENCES,
    "target": _SENTENCES,
    "gold": {"source_id": "string", "target_id": "string"},
}
_LANGUAGES = ("de", "fr", "ru", "zh")

TASK = Task(
    kind="target",
    format="retrieve",
    metric="f1",
    scorer="bucc",
    title="bitext mining",
    report={"validation": (Rows("original/bucc2018", "{code}-en/dev", "dev", {}, parts=_PARTS),)},
    languages={"xtreme": _LANGUAGES, "samples": (*_LANGUAGES, "es", "ar")},
    group="retrieval",
    licence="not stated",
    notes=(
        (
            "the hub's google/xtreme bucc18.* holds gold pairs without the distractor sentences:"
            " mining it measures nothing"
        ),
        "the set samples adds the languages of which only embedded rows exist",
        (
            "the threshold is tuned on the same gold: an upper bound, shown beside a cross-fitted"
            " F1 and average precision"
        ),
    ),
)


def example(row: Row) -> dict[str, Any]:
    return dict(row)
