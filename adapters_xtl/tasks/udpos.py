"""UDPOS: universal part-of-speech tags of UD 2.5 treebanks in 33 languages.

The hub's rows hold syntactic words where the official XTREME files hold surface forms: not the same
benchmark.
"""

from adapters_xtl.tasks import LanguageRows, Rows, Task
from adapters_xtl.tasks._universal_dependencies import TAGS, example

__all__ = ["TASK", "example"]

_COLUMNS = {"tokens": "strings", "pos_tags": "classes"}
_CODES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian",
    "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "ko": "Korean",
    "mr": "Marathi", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "ta": "Tamil",
    "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "ur": "Urdu",
    "vi": "Vietnamese", "yo": "Yoruba", "zh": "Chinese",
}  # fmt: skip
_ADDED = {"lt": "Lithuanian", "pl": "Polish", "uk": "Ukrainian", "wo": "Wolof", "ro": "Romanian"}

_NO_TRAIN = ("th", "tl", "yo")  # the treebanks of these have test rows alone


def _rows(split: str) -> tuple[Rows, ...]:
    return (Rows("google/xtreme", "udpos.{code}", split, _COLUMNS),)


TASK = Task(
    kind="target",
    format="tag",
    metric="f1",
    scorer="tagging",
    title="part-of-speech tagging",
    labels=TAGS,
    train=tuple(rows.named("English") for rows in _rows("train")),
    train_in={
        code: LanguageRows(_rows("train")[0], "native")
        for code in (*_CODES, *_ADDED)
        if code not in _NO_TRAIN
    },
    select_xtreme=tuple(rows.named("English") for rows in _rows("validation")),
    report={"validation": _rows("validation"), "test": _rows("test")},
    languages={"xtreme": tuple(_CODES), "xtreme-r": (*_CODES, *_ADDED)},
    codes={**_CODES, **_ADDED},
    group="structured",
    licence="CC BY-SA 4.0 and others, by treebank",
    notes=(
        (
            "F1 is seqeval's entity F1 on plain tags by the rules of seqeval 0.0.12, XTREME's"
            " official number"
        ),
        "the hub's rows hold syntactic words, the official files surface forms",
    ),
    published={
        "Phang et al. 2020 (first author's code), full fine-tuning": {
            "lr": 1e-5,
            "batch_size": 32,
            "epochs": 10,
            "warmup": 0.1,
            "max_length": 256,
        },
        "XTREME's own scripts, full fine-tuning": {
            "lr": 2e-5,
            "batch_size": 32,
            "epochs": 10,
            "max_length": 128,
        },
    },
)
