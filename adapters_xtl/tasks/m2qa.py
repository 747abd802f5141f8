"""M2QA (Engländer et al. 2024, arXiv 2407.01091): questions about news, reviews and stories, in
German, Turkish and Chinese. Evaluates `squad1`'s run; XQuAD's questions in these languages are
SQuAD's own domain.

Its questions without an answer are left out: SQuAD 1.1 has none, and a training on it cannot tell.
The hub's rows are encrypted, so that no language model is trained on them by accident; they are
decrypted while they are read, and must not be published otherwise.
"""

from collections.abc import Mapping
from typing import Any

from adapters_xtl.base.fernet import PREFIX, decrypt
from adapters_xtl.tasks import Row, Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS
from adapters_xtl.tasks._squad_rows import example as squad_example

_TEXTS = ("question", "context", "answers")

# published beside the rows, on the data set's own page
_KEY = "aRY0LZZb_rPnXWDSiSJn9krCYezQMOBbGII2eGkN5jo="
_DOMAINS = ("news", "product_reviews", "creative_writing")

TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering in other domains",
    report={
        domain: (Rows("UKPLab/m2qa", "m2qa.{code}." + domain, "validation", COLUMNS),)
        for domain in _DOMAINS
    },
    languages={"all": ("de", "tr", "zh")},
    codes={"de": "german", "tr": "turkish", "zh": "chinese"},
    train_from="squad1",
    in_domain_task="xquad",
    group="qa",
    licence="CC BY-ND 4.0",
    notes=(
        "questions without an answer are left out, and counted among the unfit rows",
        "Chinese answers are compared by SQuAD's own rule, as XQuAD's are: a text without blanks is"
        " one word",
    ),
)


def example(row: Row) -> dict[str, Any]:
    return squad_example({**row, **{name: _read(row[name]) for name in _TEXTS}})


def _read(value: Any) -> Any:
    """A text, or the texts of answers, decrypted where they are encrypted."""
    if isinstance(value, str):
        return decrypt(value, _KEY) if value.startswith(PREFIX) else value
    if isinstance(value, Mapping):
        return {**value, "text": [_read(text) for text in value["text"] or ()]}
    return value
