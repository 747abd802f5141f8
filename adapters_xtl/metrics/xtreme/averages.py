"""Averages over languages, tasks and groups: XTREME's, XTREME-R's, and those with and without
retrieval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xtl.base.errors import DataError, nearest

_XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
_TATOEBA = (
    "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh"
    " kk tr et fi hu"
)
_PANX = (
    "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th"
    " sw yo my zh kk tr et fi hu"
)
_UDPOS = (
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi"
    " yo zh"
)
_XQUAD = "en es de el ru tr ar vi th zh hi"
_MLQA = "en es de ar hi vi zh"
_TYDIQA = "en ar bn fi id ko ru sw te"

LANGUAGES: dict[str, dict[str, str]] = {
    "xtreme": {
        "pawsx": "de en es fr ja ko zh",
        "xnli": _XNLI,
        "panx": _PANX,
        "udpos": _UDPOS,
        "bucc2018": "de fr ru zh",
        "tatoeba": _TATOEBA,
        "xquad": _XQUAD,
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
    },
    "xtreme-r": {
        "xnli": _XNLI,
        "panx": f"{_PANX} qu pl uk az lt pa gu ro",
        "udpos": f"{_UDPOS} lt pl uk wo ro",
        "tatoeba": f"{_TATOEBA} az lt pl uk ro",
        "xcopa": "et ht id it qu sw ta th tr vi zh",
        "mewslix": "ar de en es fa ja pl ro ta tr uk",
        "xquad": f"{_XQUAD} ro",
        "mlqa": _MLQA,
        "tydiqa": _TYDIQA,
        "lareqa": "",
    },
}
# benchmark version -> official task name -> the languages that its evaluator demands

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "xtreme": {
        "classification": ("pawsx", "xnli"),
        "tagging": ("panx", "udpos"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
    "xtreme-r": {
        "classification": ("xnli", "xcopa"),
        "multi_choice": ("xcopa",),
        "tagging": ("panx", "udpos"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix"),
    },
}

RETRIEVAL = frozenset({"bucc", "bucc2018", "tatoeba", "mewslix", "lareqa"})

_MAIN = ("f1", "accuracy", "map@20")


def languages_of(version: str) -> dict[str, list[str]]:
    """Official task name → its languages, in the evaluator's order; DataError for an unknown
    version.
    """
    if version not in LANGUAGES:
        raise DataError(f"unknown benchmark version {version!r}{nearest(version, LANGUAGES)}")
    return {task: names.split() for task, names in LANGUAGES[version].items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def task_score(averages: Mapping[str, float]) -> float:
    """A task's number from its averages: (exact_match + f1) / 2 with both, else f1, accuracy or
    map@20.
    """
    if "exact_match" in averages and "f1" in averages:
        return (averages["exact_match"] + averages["f1"]) / 2
    for name in _MAIN:
        if name in averages:
            return averages[name]
    raise DataError(f"none of f1, accuracy, map@20 among {', '.join(averages) or 'no metrics'}")


def aggregate(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]], version: str = "xtreme"
) -> dict[str, dict[str, Any]]:
    """XTREME's `evaluate()` from task → language → metric → score (0-100).

    Returns `{"overall_scores": group → score, "detailed_scores": task → {metric: {language: score},
    "avg_<metric>": …, "avg_metric": …}}`. Languages are averaged unweighted; a group is the
    unweighted mean of its tasks' `avg_metric`, `all_task` that over all tasks (not groups), each
    only if all its tasks are there. Tasks carry their official names (`bucc` is taken for
    `bucc2018`); tasks and languages that the version does not have are ignored. Raises DataError
    when a task lacks one of its languages (the official FileNotFoundError). XTREME-R lists LAReQA
    without languages: without it there is no `all_task`, and with it beside all other tasks a
    DataError (there KeyError).
    """
    present = {
        "bucc2018" if task == "bucc" else task: by_language for task, by_language in scores.items()
    }
    languages = languages_of(version)
    detailed: dict[str, dict[str, Any]] = {}
    for task, needed in languages.items():
        if task in present:
            detailed[task] = _detail(task, present[task], needed) if needed else {}
    groups = {"all_task": tuple(languages), **GROUPS[version]}
    overall = {}
    for group, tasks in groups.items():
        if all(task in detailed for task in tasks):
            if empty := [task for task in tasks if not detailed[task]]:
                raise DataError(
                    f"{version} averages {empty[0]} but has no languages for it: leave it out"
                )
            overall[group] = _mean([detailed[task]["avg_metric"] for task in tasks])
    return {"overall_scores": overall, "detailed_scores": detailed}


def _detail(
    task: str, by_language: Mapping[str, Mapping[str, float]], needed: Sequence[str]
) -> dict[str, Any]:
    if missing := [language for language in needed if language not in by_language]:
        raise DataError(
            f"{task} lacks {len(missing)} of its {len(needed)} languages: {', '.join(missing)}"
        )
    table = {
        metric: {language: by_language[language][metric] for language in needed}
        for metric in by_language[needed[0]]
    }
    averages = {metric: _mean(list(values.values())) for metric, values in table.items()}
    named = {f"avg_{metric}": value for metric, value in averages.items()}
    return {**table, **named, "avg_metric": task_score(averages)}


def means(task_scores: Mapping[str, float]) -> dict[str, float]:
    """Unweighted means over tasks: "mean" of all, "mean_retrieval", "mean_without_retrieval".

    Retrieval tasks (RETRIEVAL) carry most of the differences between intermediate tasks, so both
    are always shown. A mean over no tasks has no entry.
    """
    parts = {
        "mean": list(task_scores.values()),
        "mean_retrieval": [value for task, value in task_scores.items() if task in RETRIEVAL],
        "mean_without_retrieval": [
            value for task, value in task_scores.items() if task not in RETRIEVAL
        ],
    }
    return {name: _mean(values) for name, values in parts.items() if values}
