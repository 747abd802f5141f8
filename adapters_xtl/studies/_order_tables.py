"""Tables and figures of the study `order`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.studies._order_conditions import (
    AB,
    BA,
    CONDITIONS,
    CONTRASTS,
    FORGETTING,
    GROUP,
    HALVES,
    NONE,
    SUM,
    condition_name,
    pair_of,
    place,
)

__all__ = [
    "difference_label",
    "group_name",
    "groups",
    "order_figures",
    "order_tables",
    "targets_of",
    "text_of",
    "text_of_forgetting",
]


def group_name(point: Mapping[str, str], finished: FinishedCells) -> str:
    """What tells a group from the others of the study: `init, lora`."""
    varying = [name for name in GROUP if len(finished.axis(name)) > 1]
    return ", ".join(point[name] for name in varying) or f"{point['compose']}, {point['method']}"


def order_tables(finished: FinishedCells) -> tuple[Table, ...]:
    """For each pair, composition, method and budget: the targets' scores by condition, the
    differences of conditions, and the scores of the pair's own tasks, each with its own
    head.
    """
    tables: list[Table] = []
    for group in groups(finished):
        targets = targets_of(finished, group)
        if targets:
            tables += [_scores(finished, group, targets)]
            tables += _differences(finished, group, targets)
        tables += _forgetting(finished, group)
    return tuple(tables)


def _scores(finished: FinishedCells, group: Mapping[str, str], targets: Sequence[str]) -> Table:
    lines = []
    for condition in (*CONDITIONS, NONE):
        points = [place(group, task, condition) for task in targets]
        if any(finished.at(point) for point in points):
            entries = [finished.score(point) for point in points]
            if len(targets) > 1:
                entries.append(finished.mean_score(points))
            lines.append(Line(condition_name(condition, group["pair"]), tuple(entries)))
    return finished.finish_table(
        Table(
            f"scores-{_slug(group)}",
            f"Target scores by intermediate condition, {group['steps']} intermediate steps each,"
            f" {group_name(group, finished)}",
            "intermediate \\ target",
            (*targets, "mean") if len(targets) > 1 else tuple(targets),
            tuple(lines),
        )
    )


def _differences(
    finished: FinishedCells, group: Mapping[str, str], targets: Sequence[str]
) -> list[Table]:
    lines = []
    for condition, against in CONTRASTS:
        points = [place(group, task, condition) for task in targets]
        others = [place(group, task, against) for task in targets]
        if any(map(finished.at, points)) and any(map(finished.at, others)):
            pairs = zip(points, others, strict=True)
            entries = [finished.difference(point, other) for point, other in pairs]
            if len(targets) > 1:
                entries.append(finished.mean_difference(points, others))
            label = difference_label(condition, against, group["pair"])
            lines.append(Line(label, tuple(entries), difference=True))
    if not lines:
        return []
    return [
        Table(
            f"differences-{_slug(group)}",
            f"Differences of conditions, {group_name(group, finished)}",
            "difference \\ target",
            (*targets, "mean") if len(targets) > 1 else tuple(targets),
            tuple(lines),
            (_notes_of_differences(finished),),
        )
    ]


def _forgetting(finished: FinishedCells, group: Mapping[str, str]) -> list[Table]:
    pair = pair_of(group["pair"])
    after = {pair[0]: AB, pair[1]: BA}
    half = {pair[0]: HALVES["A"], pair[1]: HALVES["B"]}
    lines = [
        _own_head_line(finished, group, "after its own training (half of the steps)", half),
        _own_head_line(finished, group, "after the other task", after),
        _own_head_line(finished, group, "change by training the other task", after, half),
        _own_head_line(finished, group, "summed with the other task", dict.fromkeys(pair, SUM)),
        _own_head_line(
            finished, group, "change by adding the other module", dict.fromkeys(pair, SUM), half
        ),
    ]
    shown = [line for line in lines if line is not None]
    if not shown:
        return []
    return [
        Table(
            f"forgetting-{_slug(group)}",
            "Each intermediate task scored with its own head, before and after the other"
            f" (left column A>B, right column B>A), {group_name(group, finished)}",
            "score \\ task",
            pair,
            tuple(shown),
            (
                "scored on each task's usual rows, of an intermediate task its select rows, by"
                " the head that was trained with it; no checkpoint was chosen on them",
                _notes_of_differences(finished),
            ),
        )
    ]


def _own_head_line(
    finished: FinishedCells,
    group: Mapping[str, str],
    label: str,
    of: Mapping[str, str],
    against: Mapping[str, str] | None = None,
) -> Line | None:
    """A line of own-head scores: task → condition, less another; None where no cell is."""
    entries = []
    points = [place(group, task, condition, FORGETTING) for task, condition in of.items()]
    if not any(finished.at(point) for point in points):
        return None
    for point in points:
        if against is None:
            entries.append(finished.score(point))
        else:
            other = {**point, "condition": against[point["task"]]}
            entries.append(finished.difference(point, other))
    return Line(label, tuple(entries), difference=against is not None)


def order_figures(finished: FinishedCells) -> tuple[Figure, ...]:
    """A forest plot of the orders' difference for each pair and budget, and dumbbells of the
    pair's own tasks before and after each other.
    """
    figures: list[Figure] = []
    for pair in finished.axis("pair"):
        forest, before, after = [], [], []
        for group in groups(finished, pair):
            name = group_name(group, finished)
            points = _forest_points(finished, group)
            forest += [Series(name, points)] if points else []
            for task, letter, condition in zip(pair_of(pair), "AB", (AB, BA), strict=True):
                trained_on = place(group, task, condition, FORGETTING)
                if finished.at(trained_on) is not None:
                    half = {**trained_on, "condition": HALVES[letter]}
                    before.append(_point(f"{task}, {name}", finished.score(half)))
                    after.append(_point(f"{task}, {name}", finished.score(trained_on)))
        first, second = pair_of(pair)
        if forest:
            figures.append(
                Figure(
                    f"order-{pair}",
                    "forest",
                    difference_label(AB, BA, pair),
                    "target",
                    "points",
                    series=tuple(forest),
                    caption=(
                        f"Above 0: {first} before {second} is better. Means over"
                        f" {len(finished.grid.seeds)} seeds with uncorrected 95% t-intervals;"
                        f" equivalent if the interval lies within ±{finished.margin:g}."
                    ),
                )
            )
        if before:
            figures.append(
                Figure(
                    f"forgetting-{pair}",
                    "dumbbell",
                    f"Own-head scores of {first} and {second} before and after training the other"
                    " task",
                    "task",
                    "score",
                    series=(
                        Series("before", tuple(before)),
                        Series("after", tuple(after)),
                    ),
                    caption=(
                        "Each task's usual rows (an intermediate task's select rows), scored"
                        " by the head that was trained with it."
                    ),
                )
            )
    return tuple(figures)


def _forest_points(finished: FinishedCells, group: Mapping[str, str]) -> tuple[Point, ...]:
    targets = targets_of(finished, group)
    orders = [[place(group, task, condition) for task in targets] for condition in (AB, BA)]
    if not targets or not all(finished.at(points[0]) for points in orders):
        return ()
    points = [
        _point(task, finished.difference(of, against))
        for task, of, against in zip(targets, *orders, strict=True)
    ]
    if len(targets) > 1:
        points.append(_point("mean", finished.mean_difference(*orders)))
    return tuple(points)


def groups(finished: FinishedCells, pair: str = "") -> list[dict[str, str]]:
    """The combinations of pair, composition, method and budget that have cells."""
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in finished.cells:
        point = dict(cell.cell.point)
        if pair in ("", point["pair"]):
            group = {name: point[name] for name in GROUP}
            kept.setdefault(tuple(group.values()), group)
    return list(kept.values())


def targets_of(finished: FinishedCells, group: Mapping[str, str]) -> tuple[str, ...]:
    """The targets of a group, in the study's order."""
    return tuple(
        task
        for task in finished.axis("task")
        if any(finished.at(place(group, task, condition)) for condition in (*CONDITIONS, NONE))
    )


def _slug(group: Mapping[str, str]) -> str:
    return "-".join(group.values()).replace("@", "-")


def _point(category: str, entry: Entry) -> Point:
    return Point(category, entry.value, entry.low, entry.high, entry.verdict, entry.note)


def difference_label(condition: str, against: str, pair: str) -> str:
    """`(mnli → squad1) − (squad1 → mnli)`."""
    names = [condition_name(name, pair) for name in (condition, against)]
    return " − ".join(f"({name})" if " " in name else name for name in names)


def text_of(entry: Entry, whose: str = "") -> str:
    """`+0.31 points [+0.20, +0.42], higher for mnli first`: `whose` follows a direction."""
    if entry.value is None:
        return entry.note
    bounds = f" [{entry.low:+.2f}, {entry.high:+.2f}]" if entry.low is not None else ""
    direction = whose if entry.verdict in ("higher", "lower") else ""
    verdict = f", {entry.verdict}{direction}" if entry.verdict else ""
    note = f" ({entry.note})" if entry.note else ""
    return f"{entry.value:+.2f} points{bounds}{verdict}{note}"


def text_of_forgetting(finished: FinishedCells, group: Mapping[str, str]) -> str:
    """How training the other task changes each task's score with its own head; "" without cells."""
    first, second = pair_of(group["pair"])
    text = ""
    for task, other, letter, order in ((first, second, "A", AB), (second, first, "B", BA)):
        after = place(group, task, order, FORGETTING)
        entry = finished.difference(after, {**after, "condition": HALVES[letter]})
        if entry.value is not None:
            text += (
                f"; change of {task}'s own score, with its own head, when {other} is trained after"
                f" it: {text_of(entry)}"
            )
    return text


def _notes_of_differences(finished: FinishedCells) -> str:
    seeds = ", ".join(map(str, finished.grid.seeds))
    pairing = f"differences are paired over the seeds {seeds}"
    if finished.grid.base.reseed:
        pairing = (
            f"differences are taken within the seed number ({seeds}); since every training has a"
            " seed of its own, two conditions share no random draws except a first phase that is"
            " the same run, so this is a one-sample t-test over"
            f" {len(finished.grid.seeds)} independent repetitions"
        )
    return f"{pairing}; 95% t-intervals; {finished.verdict_rule()}; {finished.holm_rule()}"
