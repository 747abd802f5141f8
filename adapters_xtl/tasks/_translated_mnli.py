"""MNLI's train rows in the languages of XNLI (Conneau et al. 2018): translated by a machine, one
data set a language, row by row the same items. The tasks `mnli` and `xnli` train on them.
"""

from __future__ import annotations

from adapters_xtl.tasks import BACK_TRANSLATED, LanguageRows, Rows
from adapters_xtl.tasks._multinli import COLUMNS

__all__ = ["TRAIN_IN"]

_LICENCE = "CC BY-NC 4.0"
_TRANSLATIONS = (
    *("ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"),
)
_ROWS = Rows("facebook/xnli", "{code}", "train", COLUMNS, parallel="row")
# where a source has no translations, English can still be trained on; it is then parallel to none
_ENGLISH = Rows(
    "facebook/xnli",
    "{code}",
    "train",
    COLUMNS,
    parallel="row",
    instead=(
        Rows("nyu-mll/multi_nli", "default", "train", COLUMNS),
        Rows("nyu-mll/glue", "mnli", "train", COLUMNS),
    ),
)

TRAIN_IN = {
    "en": LanguageRows(_ENGLISH, "native"),
    **{code: LanguageRows(_ROWS, "translated", licence=_LICENCE) for code in _TRANSLATIONS},
    # not published; a mirror may have it beside the others
    BACK_TRANSLATED: LanguageRows(_ROWS, "back-translated", licence=_LICENCE),
}
