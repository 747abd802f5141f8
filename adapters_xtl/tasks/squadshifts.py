"""SQuAD Shifts (Miller et al. 2020, arXiv 2004.14444): questions like SQuAD's about four other
kinds of text. Evaluates `squad1`'s run; XQuAD's English questions are SQuAD's own domain.
"""

from adapters_xtl.tasks import Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_DOMAINS = ("new_wiki", "nyt", "reddit", "amazon")

TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering in other domains",
    report={
        domain: (Rows("ludwigschmidt/squadshifts", domain, "test", COLUMNS),) for domain in _DOMAINS
    },
    train_from="squad1",
    in_domain_task="xquad",
    same_domain=("new_wiki",),
    group="qa",
    licence="CC BY 4.0",
    notes=("new_wiki is SQuAD's own domain: new rows of it show what a new sample costs",),
)
