"""Figures made from runs alone: learning curves, scores by language, score against memory.

Runs that differ in nothing but the seed are one series: its mean, and a band or an interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from adapters_xtl.base import statistics
from adapters_xtl.base.errors import MismatchError
from adapters_xtl.base.files import digest
from adapters_xtl.grid.results import Figure, Point, Series
from adapters_xtl.runs.records import Spec
from adapters_xtl.runs.stored_runs import StoredRun

__all__ = [
    "LOG",
    "LogLine",
    "RunGroup",
    "groups",
    "language_bars",
    "learning_curves",
    "read_log",
    "score_against_memory",
]

LOG = "train_log.jsonl"
ENGLISH = "en"
_GIB = 2**30
Quantity = Literal["loss", "eval_score"]


@dataclass(frozen=True)
class LogLine:
    """A line of train_log.jsonl; None where the line does not have the quantity.

    loss        mean over the steps since the last line
    eval_score  on the select rows, 0 to 100
    """

    step: int
    epoch: float
    loss: float | None = None
    eval_score: float | None = None


def read_log(run: Path) -> list[LogLine]:
    """The lines of a run's train_log.jsonl; [] where it has none (an evaluation, an import).

    MismatchError names the file and the line that cannot be read.
    """
    path = run / LOG
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text:
            continue
        try:
            entry = json.loads(text)
            loss, score = entry.get("loss"), entry.get("eval_score")
            lines.append(
                LogLine(
                    step=int(entry["step"]),
                    epoch=float(entry["epoch"]),
                    loss=None if loss is None else float(loss),
                    eval_score=None if score is None else float(score),
                )
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MismatchError(f"{path}, line {number}: cannot be read ({error})") from error
    return lines


# ---------------------------------------------------------------------------- runs and their seeds


@dataclass(frozen=True)
class RunGroup:
    """Runs of one setting under several seeds. `name` tells it from the other groups."""

    name: str
    method: str
    runs: tuple[StoredRun, ...]


def groups(runs: Iterable[StoredRun]) -> list[RunGroup]:
    """The runs by setting, in the order in which the settings come up. Where a setting has a seed
    twice, each of its runs is a group of its own, after all others.
    """
    by_setting: dict[str, list[StoredRun]] = {}
    for run in runs:
        by_setting.setdefault(_setting(run), []).append(run)
    for setting, members in list(by_setting.items()):
        # a seed twice: the runs differ in what `_setting` leaves out, as in how their parents were
        # trained, and their records do not say which of them belong together
        if len({_seed(run) for run in members}) < len(members):
            del by_setting[setting]
            by_setting |= {f"{setting} {run.spec.id}": [run] for run in members}
    names = [_name(members[0]) for members in by_setting.values()]
    return [
        RunGroup(
            # settings that the name does not tell: the id of the first run does
            name if names.count(name) == 1 else f"{name} [{members[0].spec.id}]",
            members[0].spec.run.method if members[0].spec.run else "none",
            tuple(members),
        )
        for name, members in zip(names, by_setting.values(), strict=True)
    ]


def _setting(run: StoredRun) -> str:
    """Digest of a run's settings without its seed. Parents count by their tasks alone, as their
    ids hold the seed; of the scored rows only splits, languages and number count.
    """
    spec = run.spec
    identity = spec.run.identity() if spec.run else {}
    without_seed = {key: value for key, value in identity.items() if key not in ("seed", "parents")}
    return digest(
        {
            "run": without_seed,
            "backbone": spec.backbone.fingerprint,
            "bits": spec.bits,
            "stack": spec.stack,
            "scored": _scoring_without_ids(spec),
        }
    )


def _scoring_without_ids(spec: Spec) -> dict[str, Any]:
    """What was scored and how. Ids differ by seed and are left out: of a parent's head only whether
    one was used.
    """
    scored = {} if spec.evaluation is None else asdict(spec.evaluation)
    return {**scored, "id": "", "head": bool(scored.get("head"))}


def _seed(run: StoredRun) -> int | None:
    return run.spec.run.seed if run.spec.run else None


def _name(run: StoredRun) -> str:
    spec = run.spec
    if spec.run is None:
        return "no module"
    bits = f", {spec.bits} bits" if spec.bits != 32 else ""
    compose = f", {spec.run.compose}" if spec.run.compose else ""
    return f"{spec.stack}, {spec.run.method}{compose}{bits}"


def _seeds_note(numbers: Sequence[int]) -> str:
    """Of how many seeds the series are, as part of a caption."""
    fewest, most = min(numbers), max(numbers)
    return f"{fewest} to {most} seeds" if fewest != most else f"{most} seed{'s' * (most > 1)}"


# ---------------------------------------------------------------------------- figures


def learning_curves(
    runs: Sequence[StoredRun],
    logs: Mapping[str, Sequence[LogLine]],
    quantity: Quantity = "loss",
    *,
    name: str = "learning-curves",
    title: str = "Learning curves",
) -> Figure | None:
    """The loss, or the score on the select rows, over the steps; None without such a line.

    `logs`: run id → its log. Several seeds are shown at the steps that all of them logged: the
    mean, with a band from the lowest to the highest.
    """
    series, numbers = [], []
    for group in groups(run for run in runs if logs.get(run.spec.id)):
        curves = [
            {
                line.step: value
                for line in logs[run.spec.id]
                if (value := getattr(line, quantity)) is not None
            }
            for run in group.runs
        ]
        curves = [curve for curve in curves if curve]
        common = set.intersection(*map(set, curves)) if curves else set()
        if not common:
            continue
        numbers.append(len(curves))
        series.append(
            Series(group.name, tuple(_curve_point(step, curves) for step in sorted(common)))
        )
    if not series:
        return None
    several, by_loss = max(numbers) > 1, quantity == "loss"
    return Figure(
        name=name,
        kind="curve",
        title=title,
        x_label="step",
        y_label=("training loss" if by_loss else "score on the select rows (0-100)"),
        series=tuple(series),
        caption=_seeds_note(numbers)
        + (": mean, band from the lowest to the highest." if several else ".")
        + (" A loss is the mean of the steps since the last line of the log." if by_loss else ""),
    )


def _curve_point(step: int, curves: Sequence[Mapping[int, float]]) -> Point:
    values = [curve[step] for curve in curves]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Point(float(step), mean)
    return Point(float(step), mean, min(values), max(values))


def _scored(runs: Iterable[StoredRun], task: str, split: str) -> list[StoredRun]:
    return [
        run for run in runs if task in run.metrics.tasks and run.metrics.tasks[task].split == split
    ]


def language_bars(
    runs: Sequence[StoredRun], task: str, split: str, *, name: str = "languages"
) -> Figure | None:
    """Scores by language, sorted by their gap to English, a bar for each setting; None without one.

    The gap is the mean over the settings of English minus the language. Without English, languages
    are sorted by their score. Intervals are 95 % t-intervals over seeds.
    """
    scored = groups(_scored(runs, task, split))
    if not scored:
        return None
    metric = scored[0].runs[0].metrics.tasks[task].metric
    # setting → language → one score a run
    scores: dict[str, dict[str, list[float]]] = {}
    for group in scored:
        for run in group.runs:
            for language, values in run.metrics.tasks[task].languages.items():
                of_group = scores.setdefault(group.name, {})
                of_group.setdefault(language, []).append(float(values[metric]))
    means = {
        group: {language: sum(values) / len(values) for language, values in of_group.items()}
        for group, of_group in scores.items()
    }
    english = any(ENGLISH in of_group for of_group in means.values())
    languages = sorted(
        dict.fromkeys(language for of_group in means.values() for language in of_group),
        key=lambda language: (_gap(language, means, english), language != ENGLISH, language),
    )
    numbers = [len(group.runs) for group in scored]
    intervals = "; lines: 95 % t-intervals over seeds" if max(numbers) > 1 else ""
    selected = any(run.metrics.tasks[task].selected_on for group in scored for run in group.runs)
    return Figure(
        name=name,
        kind="bars",
        title=f"{task}: score by language",
        x_label="language, by its gap to English" if english else "language, by its score",
        y_label=f"{metric}, {split} (0-100)",
        series=tuple(
            Series(group, tuple(_bar(language, of_group.get(language)) for language in languages))
            for group, of_group in scores.items()
        ),
        caption=f"Mean of {_seeds_note(numbers)}{intervals}."
        + (" These rows also chose the checkpoint." if selected else ""),
    )


def _gap(language: str, means: Mapping[str, Mapping[str, float]], english: bool) -> float:
    """English minus the language, or minus its score where nothing was scored in English."""
    gaps = [
        (of_group[ENGLISH] if english else 0.0) - of_group[language]
        for of_group in means.values()
        if language in of_group and (ENGLISH in of_group or not english)
    ]
    return sum(gaps) / len(gaps) if gaps else float("inf")


def _bar(language: str, values: Sequence[float] | None) -> Point:
    if not values:
        return Point(language, None, note="not scored")
    bounds = statistics.interval(values)
    mean = sum(values) / len(values)
    return Point(language, mean, bounds.low, bounds.high) if bounds else Point(language, mean)


def score_against_memory(
    runs: Sequence[StoredRun], task: str, split: str, *, name: str = "memory"
) -> Figure | None:
    """A dot for each setting: its score against the measured peak memory of its training, the area
    its files' bytes, a series for each method; None where no run has both.

    The cost of a module that an evaluation scored is that of its training, if `runs` have it.
    """
    trained = {run.spec.id: run for run in runs if run.metrics.train}
    points: dict[str, list[Point]] = {}
    numbers, metrics, devices = [], set(), set()
    for group in groups(_scored(runs, task, split)):
        pairs = []
        for run in group.runs:
            module = run.spec.module.id if run.spec.module else run.spec.id
            training = trained.get(run.spec.id) or trained.get(module)
            if training is not None and training.metrics.train is not None:
                entry = run.metrics.tasks[task]
                pairs.append((entry.score, training.metrics.train))
                metrics.add(entry.metric)
                devices.add(training.provenance.memory_measured)
        if not pairs:
            continue
        values = [score for score, _ in pairs]
        bounds = statistics.interval(values)
        numbers.append(len(values))
        points.setdefault(group.method, []).append(
            Point(
                x=sum(cost.measured_peak_bytes for _, cost in pairs) / len(pairs) / _GIB,
                y=sum(values) / len(values),
                low=bounds.low if bounds else None,
                high=bounds.high if bounds else None,
                note=group.name,
                area=float(max(cost.stored_bytes for _, cost in pairs)),
            )
        )
    if not points:
        return None
    measured = ", ".join(sorted(device for device in devices if device))
    return Figure(
        name=name,
        kind="scatter",
        title=f"{task}: score against memory",
        x_label="measured peak memory in training (GiB)",
        y_label=f"{', '.join(sorted(metrics))}, {split} (0-100)",
        series=tuple(Series(method, tuple(dots)) for method, dots in points.items()),
        caption=f"Mean of {_seeds_note(numbers)}; vertical lines: 95 % t-intervals over seeds."
        + (f"\nMemory: {measured}." if measured else ""),
    )
