"""Predictions of a run in XTREME's official layout: `<task>/test-<language>.tsv|json`, one file a
language.

A task that has a test split is exported from it; of another split the files are named `dev-…`, as
XTREME names its dev files. XQuAD, TyDiQA and Tatoeba have no test split of their own: what they
report is XTREME's test. What BUCC reports is XTREME's dev.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.evaluation.scoring import predictions
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.tasks import Task

__all__ = ["ROWS", "check", "export"]

_TEN = "ar he vi id eu nl en de el fa fr it pt es bg ru ja ka ko th zh tr et fi hu"
_ONE = "ms tl ml ta te af bn hi mr ur sw kk"


def _each(number: int, codes: str) -> dict[str, int]:
    return dict.fromkeys(codes.split(), number)


# Rows of XTREME's files by task, split and language. Sources: the split sizes of google/xtreme on
# the hub, PAWS-X 2,000 by its authors (arXiv 1908.11828; the hub's copy drops some), TyDiQA-GoldP
# by language from its dev file.
ROWS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "xnli": {
        "test": _each(5010, "ar bg de el en es fr hi ru sw th tr ur vi zh"),
        "validation": _each(2490, "ar bg de el en es fr hi ru sw th tr ur vi zh"),
    },
    "pawsx": {
        "test": _each(2000, "de en es fr ja ko zh"),
        "validation": _each(2000, "de en es fr ja ko zh"),
    },
    "panx": {
        split: {**_each(10000, _TEN), **_each(1000, _ONE), **_each(100, "jv yo my")}
        for split in ("test", "validation")
    },
    "udpos": {
        "test": {
            "af": 425,
            "ar": 1680,
            "bg": 1116,
            "de": 22458,
            "el": 2809,
            "en": 5440,
            "es": 3147,
            "et": 3760,
            "eu": 1799,
            "fa": 600,
            "fi": 4422,
            "fr": 9465,
            "he": 491,
            "hi": 2684,
            "hu": 449,
            "id": 1557,
            "it": 3518,
            "ja": 2372,
            "kk": 1047,
            "ko": 4276,
            "mr": 47,
            "nl": 1471,
            "pt": 2681,
            "ru": 11336,
            "ta": 120,
            "te": 146,
            "th": 1000,
            "tl": 55,
            "tr": 4785,
            "ur": 535,
            "vi": 800,
            "yo": 100,
            "zh": 5528,
        },
        "validation": {
            "af": 194,
            "ar": 909,
            "bg": 1115,
            "de": 19233,
            "el": 2559,
            "en": 3974,
            "es": 3054,
            "et": 3125,
            "eu": 1798,
            "fa": 599,
            "fi": 3239,
            "fr": 5979,
            "he": 484,
            "hi": 1659,
            "hu": 441,
            "id": 559,
            "it": 2278,
            "ja": 511,
            "ko": 3016,
            "mr": 46,
            "nl": 1394,
            "pt": 1770,
            "ru": 9960,
            "ta": 80,
            "te": 131,
            "tr": 988,
            "ur": 552,
            "vi": 800,
            "zh": 3038,
        },
    },
    "xquad": {"validation": _each(1190, "en es de el ru tr ar vi th zh hi")},
    "mlqa": {
        "test": {
            "en": 11590,
            "es": 5253,
            "de": 4517,
            "ar": 5335,
            "hi": 4918,
            "vi": 5495,
            "zh": 5137,
        },
        "validation": {
            "en": 1148,
            "es": 500,
            "de": 512,
            "ar": 517,
            "hi": 507,
            "vi": 511,
            "zh": 504,
        },
    },
    "tydiqa": {
        "validation": {
            "ar": 921,
            "bn": 113,
            "en": 440,
            "fi": 782,
            "id": 565,
            "ko": 276,
            "ru": 812,
            "sw": 499,
            "te": 669,
        }
    },
    "tatoeba": {
        "validation": {
            **_each(
                1000,
                "ar he vi id tl eu af nl de el bn hi mr ur fa fr it pt es bg ru ja ko zh tr et"
                " fi hu",
            ),
            "jv": 205,
            "ml": 687,
            "ta": 307,
            "te": 234,
            "ka": 746,
            "th": 548,
            "sw": 390,
            "kk": 575,
        }
    },
    "bucc": {},  # as many lines as pairs are mined
}
HUB_DIFFERS = {
    "udpos": (
        "the hub's rows hold syntactic words where XTREME's files hold surface forms; import"
        " XTREME's own download with `xtl data import xtreme`"
    )
}


# task → XTREME's folder, where it has another name
FOLDERS = {"bucc": "bucc2018"}
# Tasks of which XTREME calls "dev" all that is reported here: BUCC's shared task has gold for its
# sample set alone, which is XTREME's dev.
DEV_ONLY = ("bucc",)


def _split_word(task: Task, split: str) -> str:
    """XTREME's word for a split in the names of its files."""
    return "test" if split == list(task.report)[-1] and task.name not in DEV_ONLY else "dev"


def check(form: str, names: Sequence[str], source: str, directory: Path | None = None) -> None:
    """RequestError before anything is predicted, where an export cannot be official or written
    whatever comes out.
    """
    problems = Problems()
    if form != "xtreme":
        problems.add(f"--export {form}: only xtreme is known")
    place = (directory or Path()).absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        problems.add(
            f"--export {form} {directory}: {place}"
            f" {'cannot be written' if place.is_dir() else 'is no directory'}"
        )
    for name in names:
        if name not in ROWS:
            problems.add(
                f"--export xtreme: '{name}' is not one of XTREME's tasks ({', '.join(ROWS)})"
            )
        elif source == "embedded":
            problems.add("--export xtreme: the embedded sample rows are not XTREME's; give --data")
        elif source == "hub" and name in HUB_DIFFERS:
            problems.add(f"--export xtreme: {name}: {HUB_DIFFERS[name]}")
    problems.raise_if_any()


def export(run: Path, directory: Path) -> list[Path]:
    """Writes the predictions of a finished run, in the rows' own order; every file or none.

    RequestError where the rows are not XTREME's: other in number, left out, or limited.
    """
    exported = read_run(run)
    data, evaluation = exported.provenance.data, exported.spec.evaluation
    check("xtreme", list(exported.metrics.tasks), data.source)
    problems = Problems()
    texts: dict[Path, str] = {}
    for name, entry in exported.metrics.tasks.items():
        task = tasks.load(name)
        form = formats.load(task.format)
        folder, word = FOLDERS.get(name, name), _split_word(task, entry.split)
        for language in entry.languages:
            part = data.report[name][language]
            official_rows = ROWS.get(name, {}).get(entry.split)
            expected_rows = (official_rows or {}).get(language)
            where = f"--export xtreme: {name} {entry.split} {language}"
            if evaluation is not None and evaluation.max_examples:
                problems.add(f"{where}: eval.max_examples leaves rows out")
            elif part.left_out:
                reasons = ", ".join(
                    f"{count} × {reason}" for reason, count in part.left_out.items()
                )
                problems.add(f"{where}: rows were left out ({reasons})")
            elif official_rows is not None and expected_rows is None:
                problems.add(f"{where}: XTREME has no such file")
            elif expected_rows is not None and part.rows != expected_rows:
                problems.add(
                    f"{where}: the source has {part.rows} rows, XTREME's file {expected_rows}"
                )
            path = Path(folder) / f"{word}-{language}.{form.xtreme_suffix}"
            texts[path] = form.xtreme_text(predictions(run, name, language))
    problems.raise_if_any(RequestError)
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=directory, prefix=".export-"))
    try:
        for path, text in texts.items():
            (unfinished / path).parent.mkdir(exist_ok=True)
            (unfinished / path).write_text(text, encoding="utf-8")
        for path in texts:
            (directory / path).parent.mkdir(exist_ok=True)
            os.replace(unfinished / path, directory / path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return [directory / path for path in texts]
