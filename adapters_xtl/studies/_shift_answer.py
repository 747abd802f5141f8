"""What the study of domain shift says: a mean for each intermediate task, the controls apart."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from adapters_xtl.base.statistics import Difference, paired
from adapters_xtl.grid.finished_cells import LEVEL, ContrastResult, FinishedCells
from adapters_xtl.grid.study import Answer
from adapters_xtl.planning.compositions import RANDOM, SELF
from adapters_xtl.studies._shift_pairs import Shift, changes_by_seed, shift_at

__all__ = ["answer_of"]

CONTROLS = (RANDOM, SELF)  # parents that are no intermediate tasks
# what the answer has means of
DOMAIN = "change of the drop under a shift of domain"
LANGUAGE = "change of the drop under a shift of language"
CONTROL = "control under a shift of domain"
KINDS = (DOMAIN, LANGUAGE, CONTROL)
VERDICTS = {
    "lower": "smaller drop with the intermediate task",
    "higher": "larger drop with the intermediate task",
}


def answer_of(finished: FinishedCells, limits: Sequence[str]) -> Answer | None:
    """For each intermediate task the mean change of the drops under a shift of domain, and
    apart from it those under a shift of language and of the controls.

    The exception is the largest change of one pair that has another sign than the mean of its
    intermediate task.
    """
    summary = finished.summary_of_contrasts(limits)
    if summary is None:
        return None
    parts, verdicts, exceptions = [], set(), {}
    for (kind, on, method), results in _groups(finished).items():
        shifts = [shift_at(result.contrast.of) for result in results]
        difference = _mean_change(finished, shifts)
        if difference is None:
            continue
        parts.append(_mean_text(kind, on, method, shifts, difference, finished))
        if kind != DOMAIN:
            continue
        verdicts.add(difference.verdict)
        for result in results:
            change = result.difference.mean if result.difference else 0.0
            if change * difference.mean < 0:
                exceptions[result.contrast.name] = change
    verdict = summary.verdict
    if verdicts:
        verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
    exception = ""
    if exceptions:
        name = max(exceptions, key=lambda name: abs(exceptions[name]))
        exception = f"{name}: {exceptions[name]:+.2f} points"
    parts.append(
        "single contrasts, controls and shifts of language among them (lower: a smaller drop):"
        f" {finished.counts_of_contrasts()}"
    )
    return Answer("; ".join(parts), verdict, exception, summary.limits)


def _mean_change(finished: FinishedCells, shifts: Sequence[Shift]) -> Difference | None:
    """The mean over tasks, each the mean over its pairs, seed by seed."""
    by_task: dict[str, list[dict[int, float]]] = {}
    for shift in shifts:
        by_task.setdefault(shift.place["task"], []).append(changes_by_seed(finished, shift))
    every = [by_seed for changes in by_task.values() for by_seed in changes]
    seeds = set.intersection(*map(set, every)) if every else set()
    means = {
        seed: fmean(fmean(by[seed] for by in changes) for changes in by_task.values())
        for seed in sorted(seeds)
    }
    return paired(means, dict.fromkeys(means, 0.0), LEVEL, margin=finished.margin)


def _groups(finished: FinishedCells) -> dict[tuple[str, str, str], list[ContrastResult]]:
    """(kind of shift, intermediate task, method) → the finished contrasts that a mean is of. New
    rows of the training's own domain are in none, nor are shifts of language under a control.
    """
    groups: dict[tuple[str, str, str], list[ContrastResult]] = {}
    for result in finished.contrasts:
        shift = shift_at(result.contrast.of)
        on, is_control = shift.place["on"], shift.place["on"] in CONTROLS
        if result.difference is None or shift.of_same_domain or (shift.of_language and is_control):
            continue
        kind = CONTROL if is_control else LANGUAGE if shift.of_language else DOMAIN
        groups.setdefault((kind, on, shift.place["method"]), []).append(result)
    return dict(sorted(groups.items(), key=lambda item: KINDS.index(item[0][0])))


def _mean_text(
    kind: str,
    on: str,
    method: str,
    shifts: Sequence[Shift],
    difference: Difference,
    finished: FinishedCells,
) -> str:
    """`change of the drop under a shift of domain, on mnli, mean of 2 tasks (3 test sets), each
    task weighted alike: -1.20 points [-2.00, -0.40], smaller drop with the intermediate task`.
    """
    tasks_of = dict.fromkeys(shift.place["task"] for shift in shifts)
    with_method = f", {method}" if len(finished.axis("method")) > 1 else ""
    sets = f"{len(shifts)} test set{'s' * (len(shifts) > 1)}"
    mean = f"mean of {sets}"
    if len(tasks_of) > 1:
        mean = f"mean of {len(tasks_of)} tasks ({sets}), each task weighted alike"
    bounds = difference.interval
    shown = f" [{bounds.low:+.2f}, {bounds.high:+.2f}]" if bounds else " (one seed)"
    verdict = f", {VERDICTS.get(difference.verdict, difference.verdict)}" if bounds else ""
    return f"{kind}, on {on}{with_method}, {mean}: {difference.mean:+.2f} points{shown}{verdict}"
