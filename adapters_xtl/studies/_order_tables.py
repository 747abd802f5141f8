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
            f"Targets after intermediate training of {group['steps']} steps in all,"
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
            names = [condition_name(name, group["pair"]) for name in (condition, against)]
            lines.append(Line(" − ".join(names), tuple(entries), difference=True))
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
        _own_head_line(finished, group, "before the other task", half),
        _own_head_line(finished, group, "after the other task", after),
        _own_head_line(finished, group, "after − before", after, half),
        _own_head_line(finished, group, "in the sum", dict.fromkeys(pair, SUM)),
        _own_head_line(finished, group, "in the sum − before", dict.fromkeys(pair, SUM), half),
    ]
    shown = [line for line in lines if line is not None]
    if not shown:
        return []
    return [
        Table(
            f"forgetting-{_slug(group)}",
            f"The pair's own tasks under their own heads, {group_name(group, finished)}",
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
        orders = [condition_name(condition, pair) for condition in (AB, BA)]
        if forest:
            figures.append(
                Figure(
                    f"order-{pair}",
                    "forest",
                    f"{orders[0]} − {orders[1]}",
                    "target",
                    "points",
                    series=tuple(forest),
                    caption=(
                        f"Means over {len(finished.grid.seeds)} seeds with 95% t-intervals,"
                        f" paired over the seeds; equivalent within ±{finished.margin:g}."
                    ),
                )
            )
        if before:
            figures.append(
                Figure(
                    f"forgetting-{pair}",
                    "dumbbell",
                    f"{pair_of(pair)[0]} and {pair_of(pair)[1]} before and after each other",
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


def text_of(entry: Entry) -> str:
    """`+0.31 points [-0.20, +0.82], inconclusive`."""
    if entry.value is None:
        return entry.note
    bounds = f" [{entry.low:+.2f}, {entry.high:+.2f}]" if entry.low is not None else ""
    verdict = f", {entry.verdict}" if entry.verdict else ""
    note = f" ({entry.note})" if entry.note else ""
    return f"{entry.value:+.2f} points{bounds}{verdict}{note}"


def text_of_forgetting(finished: FinishedCells, group: Mapping[str, str]) -> str:
    first, second = pair_of(group["pair"])
    after = place(group, first, AB, FORGETTING)
    entry = finished.difference(after, {**after, "condition": HALVES["A"]})
    return "" if entry.value is None else f"; {first} after {second}: {text_of(entry)}"


def _notes_of_differences(finished: FinishedCells) -> str:
    return (
        f"differences are paired over seeds {', '.join(map(str, finished.grid.seeds))}, with 95%"
        " t-intervals; inconclusive where the interval includes 0, equivalent where it lies within"
        f" ±{finished.margin:g} points; Holm's correction is over all contrasts of the study"
    )
