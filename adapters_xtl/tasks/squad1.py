"""SQuAD 1.1 (Rajpurkar et al. 2016). XQuAD and MLQA borrow this training; dev ids that XQuAD holds
never select.
"""

from adapters_xtl.tasks import BACK_TRANSLATED, LanguageRows, Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_DEV = (Rows("rajpurkar/squad", "plain_text", "validation", COLUMNS),)


def _in(language: str, origin: str) -> LanguageRows:
    """SQuAD as MLQA's authors translated it (Lewis et al. 2020); the ids are SQuAD's own."""
    repo, config = "facebook/mlqa", "mlqa-translate-train.{code}"
    if language == "en":
        repo, config = "rajpurkar/squad", "plain_text"
    train, select = (
        Rows(repo, config, split, COLUMNS, parallel="id") for split in ("train", "validation")
    )
    return LanguageRows(train, origin, select, licence="" if language == "en" else "CC BY-SA 3.0")


_TRANSLATIONS = ("ar", "de", "es", "hi", "vi", "zh")

TASK = Task(
    kind="intermediate",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering",
    train=(Rows("rajpurkar/squad", "plain_text", "train", COLUMNS),),
    train_in={
        "en": _in("en", "native"),
        **{code: _in(code, "translated") for code in _TRANSLATIONS},
        BACK_TRANSLATED: _in(BACK_TRANSLATED, "back-translated"),  # not published
    },
    select=_DEV,
    report={"validation": _DEV},
    drop=("xquad",),
    zero_shot="xquad",
    licence="CC BY-SA 4.0",
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 16,
            "epochs": 2,
            "max_length": 384,
            "stride": 128,
        },
        "XTREME's own scripts, full fine-tuning": {
            "lr": 3e-5,
            "batch_size": 32,
            "epochs": 3,
            "max_length": 384,
        },
    },
)
