"""TyDiQA-GoldP (Clark et al. 2020): questions asked natively in nine languages, trained on the
English part.
"""

from adapters_xtl.tasks import LanguageRows, Rows, Task
from adapters_xtl.tasks._squad_rows import COLUMNS, example

__all__ = ["TASK", "example"]

_CODES = {
    "en": "english",
    "ar": "arabic",
    "bn": "bengali",
    "fi": "finnish",
    "id": "indonesian",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
}


def _rows(split: str) -> tuple[Rows, ...]:
    # One file holds every language; only the id's prefix tells them apart.
    own = Rows(
        "google-research-datasets/tydiqa", "secondary_task", split, COLUMNS, language="prefix:id"
    )
    return (Rows("google/xtreme", "tydiqa", split, COLUMNS, language="prefix:id", instead=(own,)),)


TASK = Task(
    kind="target",
    format="span",
    metric="f1",
    scorer="squad",
    title="extractive question answering, natively asked",
    train=_rows("train"),
    train_in={code: LanguageRows(_rows("train")[0], "native") for code in _CODES},
    select_xtreme=_rows("validation"),
    report={"validation": _rows("validation")},
    languages={"xtreme": tuple(_CODES), "xtreme-r": tuple(_CODES)},
    codes=_CODES,
    group="qa",
    licence="Apache-2.0",
    notes=(
        (
            "all dev languages are reported: under `clean`, the checkpoint is chosen on a slice of"
            " English train"
        ),
    ),
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
