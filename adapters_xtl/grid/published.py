"""Published figures, to be read beside a comparison and never subtracted from it.

Every figure names its source, model, split and how it is known: "V" read in a primary source (a
paper, its first author's code), "S" taken from a secondary source. Figures that are only remembered
are not here. All are of full fine-tuning, or of no training at all, of XLM-R Large on real data:
another backbone or sample rows compare with none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FIGURES", "FINDINGS", "MARKS", "Figure", "record"]

MARKS = {"V": "read in a primary source", "S": "from a secondary source"}
_PHANG = "Phang et al. 2020, arXiv 2005.13013 (not its first version)"
_TABLE = "published table of XTREME test scores"
_SECOND = "secondary source, XTREME test scores"
_CODE = "first author of arXiv 2005.13013"


@dataclass(frozen=True)
class Figure:
    """One number, 0-100, averaged over the task's languages. `task` "mean": over XTREME's nine
    tasks.
    """

    task: str
    metric: str
    value: float
    mark: str
    model: str
    split: str
    source: str


def _figures() -> tuple[Figure, ...]:
    plain, best = "XLM-R Large, fully fine-tuned", "XLM-R Large, best intermediate task (X-STILTs)"
    raw = "XLM-R Large, no training, hidden state 14, mean pooled"
    rows = [
        ("xnli", "accuracy", 79.2, 80.4),
        ("pawsx", "accuracy", 86.4, 87.7),
        ("panx", "f1", 65.4, 64.7),
        ("xquad", "f1", 76.6, 77.2),
        ("mlqa", "f1", 71.6, 72.3),
        ("tydiqa", "f1", 65.1, 76.0),
    ]
    figures = [
        Figure(task, metric, value, "V", plain, "XTREME test", _TABLE)
        for task, metric, value, _ in rows
    ]
    figures += [
        Figure("bucc", "f1", 66.0, "S", plain, "XTREME test", _SECOND),
        Figure("tatoeba", "accuracy", 57.3, "S", plain, "XTREME test", _SECOND),
        Figure("mean", "nine tasks", 68.1, "S", plain, "XTREME test", _SECOND),
    ]
    figures += [
        Figure(task, metric, value, "V", best, "XTREME test", _PHANG)
        for task, metric, _, value in rows
    ]
    return (
        *figures,
        Figure("bucc", "f1", 71.5, "V", raw, "dev", _CODE),
        Figure("tatoeba", "accuracy", 31.0, "V", raw, "dev", _CODE),
    )


FIGURES = _figures()
FINDINGS = (
    (
        "V",
        (
            "XTREME dev average against no intermediate task: +8.2 SQuAD, +7.5 MNLI, +7.0"
            " HellaSwag, +8.7 all nine at once"
        ),
        _PHANG,
    ),
    (
        "V",
        (
            "BUCC and Tatoeba carry most of it; TyDiQA improves with many intermediate tasks, XNLI"
            " does not"
        ),
        _PHANG,
    ),
    (
        "V",
        "adapters beat fine-tuning on low-resource and cross-lingual tasks and forget less",
        "arXiv 2106.03164",
    ),
    (
        "V",
        "mDeBERTa: parameter-efficient methods better for QA, full fine-tuning better for NER",
        "arXiv 2501.06025",
    ),
)


def record(tasks: Iterable[str]) -> dict[str, Any]:
    """What is published about these tasks (the mean when there are several), JSON-ready."""
    compared = tuple(tasks)
    names = {*compared, *(("mean",) if len(compared) > 1 else ())}
    return {
        "note": (
            "other models, data and splits than the rows of this comparison: for reading, not for"
            " subtracting"
        ),
        "marks": dict(MARKS),
        "figures": [asdict(figure) for figure in FIGURES if figure.task in names],
        "findings": [
            {"mark": mark, "text": text, "source": source} for mark, text, source in FINDINGS
        ],
    }
