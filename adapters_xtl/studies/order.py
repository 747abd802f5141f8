"""Does the order of two intermediate tasks matter? A then B, B then A, both at once, either alone.

A condition says what is trained, on as many steps as every other, before the target is: A>B and B>A
take half of them for each task, `multi` mixes batches of both, half and half. Where a method can
(LoRA, stacked), `sum` adds up modules of A and B that were trained apart: a control without order.

What training B leaves of A is measured without training anything: A's own head is put on the
network after B, and A's usual rows are scored (of an intermediate task, its select rows), before
and after. Under `init` that network is A's module as B has gone on training it (with full
fine-tuning, the encoder), under `stack` A's frozen module with B's beside or above it, and under
`sum` the sum of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.studies._order_conditions import (
    AB,
    AXES,
    BA,
    CONDITIONS,
    GROUP,
    HALVES,
    MIXED,
    NONE,
    RANDOM_B,
    RETAINED,
    SUM,
    TARGET,
    condition_name,
    contrast_name,
    pair_of,
    phases,
    place,
    settings_of,
)

__all__ = ["STUDY"]

CONTRASTS = (
    (AB, BA),
    (AB, MIXED),
    (BA, MIXED),
    (AB, SUM),
    (BA, SUM),
    (AB, "B>B"),
    (BA, "A>A"),
    (AB, RANDOM_B),
)


def group_name(point: Mapping[str, str], finished: FinishedCells) -> str:
    """What tells a group from the others of the study: `init, lora`."""
    varying = [name for name in GROUP if len(finished.axis(name)) > 1]
    return ", ".join(point[name] for name in varying) or f"{point['compose']}, {point['method']}"


class Order(Study):
    title = "Order of two intermediate tasks"
    question = (
        "Does it matter for a target task which of two intermediate tasks is trained first, and is"
        " either order better than training both at once?"
    )
    axes = (
        Axis("task", ("xnli", "pawsx", "panx", "udpos", "tatoeba")),
        Axis("pair", ("mnli+squad1",)),
        Axis("condition", CONDITIONS),
        Axis("compose", ("init", "stack")),
        Axis("method", ("lora",)),
        Axis("steps", ("2000",)),
        Axis("scored", (TARGET, RETAINED)),
    )
    seeds = (1, 2, 3, 4, 5)
    reseed = True
    settings = (("train.patience", 0),)
    decides = frozenset(
        f"train.{name}"
        for name in ("max_steps", "epochs", "eval_every", "patience", "tasks", "cap")
    )
    evidence_for = (
        "the difference between two orders of this pair, at the same number of steps in all, with"
        " every training drawn anew under every seed",
    )
    no_evidence = (
        "other pairs, other budgets, and more than two intermediate tasks",
        "equal steps are not equal tokens: the tasks' texts differ in length",
        "each training warms up and decays its learning rate: A>A is two such trainings of A, not"
        " one that is twice as long",
        "no checkpoint is chosen among the intermediate trainings: the weights after the last step"
        " count, which for a longer training need not be the best",
        "under stack A>B has more parameters than A alone, and the sum of LoRA modules twice their"
        " rank: random>B is the control for parameters",
        "a fall of A's own score under A's own head says that head and network fit less well, not"
        " that what A taught is gone: a new head might find it",
    )

    # ------------------------------------------------------------------ cells

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cells of a point, none where its method cannot meet parents so. What is retained of A
        and B is no matter of the target: for every target they are the same cells.
        """
        pair, condition = pair_of(point["pair"]), point["condition"]
        steps = self._steps(point, problems)
        variants = self.variants(point, bits, problems)
        if not self._is_sound(point, pair, problems) or not steps:
            return ()
        if point["scored"] == TARGET:
            asked = [(point["task"], condition)]
        else:
            of_a, of_b = [(pair[0], AB), (pair[0], HALVES["A"])], [(pair[1], BA)]
            of_b.append((pair[1], HALVES["B"]))
            of_sum = [(pair[0], SUM), (pair[1], SUM), (pair[0], HALVES["A"]), of_b[1]]
            asked = {AB: of_a, BA: of_b, SUM: of_sum}.get(condition, [])
        cells = []
        for variant in variants:
            if variant.method not in methods.names():
                continue
            method = methods.load(variant.method)
            possible = point["compose"] in method.compositions
            if condition == SUM:
                possible = point["compose"] == "stack" and SUM in method.compositions
            if condition == RANDOM_B:
                possible = possible and method.has_random_modules
            for task, shown in asked if possible else ():
                chain = phases(shown, pair, steps)
                values = {**point, "task": task, "condition": shown, "method": str(variant)}
                cells.append(
                    Cell(
                        task,
                        variant,
                        tuple(phase.task for phase in chain),
                        tuple((name, values[name]) for name in AXES),
                        parent_overrides=settings_of(chain, pair),
                        compose=SUM if shown == SUM else point["compose"],
                        retained=point["scored"] == RETAINED,
                    )
                )
        return tuple(cells)

    def _steps(self, point: Mapping[str, str], problems: Problems) -> int:
        steps = parse_whole(point["steps"])
        if steps is None or steps < 2 or steps % 2:
            problems.add(
                f"[axes] steps: {clipped(point['steps'])}: takes an even number of optimizer steps,"
                " of which each task of a pair gets half"
            )
            return 0
        return steps

    def _is_sound(
        self, point: Mapping[str, str], pair: tuple[str, str], problems: Problems
    ) -> bool:
        """Adds what is wrong with a point, whatever its method."""
        before = len(problems.messages)
        for axis, values in (
            ("condition", (*CONDITIONS, NONE)),
            ("compose", ("init", "stack")),
            ("scored", (TARGET, RETAINED)),
        ):
            if point[axis] not in values:
                problems.add(
                    f"[axes] {axis}: '{clipped(point[axis])}' is none of"
                    f" {', '.join(values)}{nearest(point[axis], values)}"
                )
        trainable = [name for name in tasks.names() if tasks.load(name).train]
        for name in pair:
            if name not in trainable:
                problems.add(
                    f"[axes] pair: {clipped(point['pair'])}: takes two tasks, A+B;"
                    f" '{clipped(name)}' cannot be trained{nearest(name, trainable)}"
                )
        if pair[0] == pair[1]:
            problems.add(f"[axes] pair: {clipped(point['pair'])}: takes two different tasks")
        borrowed = tasks.load(point["task"]).train_from if point["task"] in tasks.names() else ""
        if borrowed and borrowed in pair:
            problems.add(
                f"[axes] task: {point['task']} is scored with a module of {borrowed}, one of the"
                f" pair {point['pair']}: after it nothing would be trained, and after the other"
                " task something would"
            )
        return len(problems.messages) == before

    # ------------------------------------------------------------------ contrasts

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """The orders against each other and against their controls, target by target; and each
        task's own score after the other task, and in the sum, against before. All are one family.
        """
        points = {cell.point for cell in cells}
        contrasts = []
        for cell in cells:
            point = dict(cell.point)
            if point["scored"] == TARGET:
                others = [against for of, against in CONTRASTS if of == point["condition"]]
            else:
                own = "A" if point["task"] == pair_of(point["pair"])[0] else "B"
                is_before = point["condition"] in HALVES.values()
                others = [] if is_before else [HALVES[own]]
            for condition in others:
                against = {**point, "condition": condition}
                if tuple(against.items()) in points:
                    contrasts.append(Contrast(contrast_name(point, condition), point, against))
        return tuple(contrasts)

    # ------------------------------------------------------------------ tables

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """For each pair, composition, method and budget: the targets' scores by condition, the
        differences of conditions, and what is retained of the pair's own tasks.
        """
        tables: list[Table] = []
        for group in _groups(finished):
            targets = _targets(finished, group)
            if targets:
                tables += [self._scores(finished, group, targets)]
                tables += self._differences(finished, group, targets)
            tables += self._retained(finished, group)
        return tuple(tables)

    def _scores(
        self, finished: FinishedCells, group: Mapping[str, str], targets: Sequence[str]
    ) -> Table:
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
        self, finished: FinishedCells, group: Mapping[str, str], targets: Sequence[str]
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

    def _retained(self, finished: FinishedCells, group: Mapping[str, str]) -> list[Table]:
        pair = pair_of(group["pair"])
        after = {pair[0]: AB, pair[1]: BA}
        half = {pair[0]: HALVES["A"], pair[1]: HALVES["B"]}
        lines = [
            self._retained_line(finished, group, "before the other task", half),
            self._retained_line(finished, group, "after the other task", after),
            self._retained_line(finished, group, "after − before", after, half),
            self._retained_line(finished, group, "in the sum", dict.fromkeys(pair, SUM)),
            self._retained_line(
                finished, group, "in the sum − before", dict.fromkeys(pair, SUM), half
            ),
        ]
        shown = [line for line in lines if line is not None]
        if not shown:
            return []
        return [
            Table(
                f"retained-{_slug(group)}",
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

    def _retained_line(
        self,
        finished: FinishedCells,
        group: Mapping[str, str],
        label: str,
        of: Mapping[str, str],
        against: Mapping[str, str] | None = None,
    ) -> Line | None:
        """A line of what is retained: task → condition, less another; None where no cell is."""
        entries = []
        points = [place(group, task, condition, RETAINED) for task, condition in of.items()]
        if not any(finished.at(point) for point in points):
            return None
        for point in points:
            if against is None:
                entries.append(finished.score(point))
            else:
                other = {**point, "condition": against[point["task"]]}
                entries.append(finished.difference(point, other))
        return Line(label, tuple(entries), difference=against is not None)

    # ------------------------------------------------------------------ figures

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """A forest plot of the orders' difference for each pair and budget, and dumbbells of what
        is retained.
        """
        figures: list[Figure] = []
        for pair in finished.axis("pair"):
            forest, before, after = [], [], []
            for group in _groups(finished, pair):
                name = group_name(group, finished)
                points = self._forest_points(finished, group)
                forest += [Series(name, points)] if points else []
                for task, letter, condition in zip(pair_of(pair), "AB", (AB, BA), strict=True):
                    trained_on = place(group, task, condition, RETAINED)
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
                        f"retained-{pair}",
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

    def _forest_points(
        self, finished: FinishedCells, group: Mapping[str, str]
    ) -> tuple[Point, ...]:
        targets = _targets(finished, group)
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

    # ------------------------------------------------------------------ answer

    def answer(self, finished: FinishedCells) -> Answer | None:
        """The difference of the orders, a mean over the targets, for each group; and what A keeps.

        The exception is the largest difference of one target that says something else.
        """
        sentences, verdicts, single = [], set(), {}
        for group in _groups(finished):
            targets = _targets(finished, group)
            orders = [[place(group, task, condition) for task in targets] for condition in (AB, BA)]
            entry = finished.mean_difference(*orders) if targets else Entry()
            if entry.value is None:
                continue
            verdicts.add(entry.verdict or "inconclusive")
            names = [condition_name(condition, group["pair"]) for condition in (AB, BA)]
            sentences.append(
                f"{names[0]} − {names[1]} ({group_name(group, finished)}), mean of"
                f" {len(targets)} target{'s' * (len(targets) > 1)}: {_text(entry)}"
                f"{_text_of_retained(finished, group)}"
            )
            for task, of, against in zip(targets, *orders, strict=True):
                single[f"{task} ({group_name(group, finished)})"] = finished.difference(of, against)
        if not sentences:
            return None
        verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
        others = {
            name: entry
            for name, entry in single.items()
            if entry.value is not None and entry.verdict in {"higher", "lower"} - {verdict}
        }
        exception = ""
        if others:
            name = max(others, key=lambda name: abs(others[name].value or 0.0))
            after_holm = "" if others[name].holm in ("higher", "lower") else ", not after Holm"
            exception = f"{name}: {_text(others[name])}{after_holm}"
        return Answer("; ".join(sentences), verdict, exception, self.no_evidence)


def _groups(finished: FinishedCells, pair: str = "") -> list[dict[str, str]]:
    """The combinations of pair, composition, method and budget that have cells."""
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in finished.cells:
        point = dict(cell.cell.point)
        if pair in ("", point["pair"]):
            group = {name: point[name] for name in GROUP}
            kept.setdefault(tuple(group.values()), group)
    return list(kept.values())


def _targets(finished: FinishedCells, group: Mapping[str, str]) -> tuple[str, ...]:
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


def _text(entry: Entry) -> str:
    """`+0.31 points [-0.20, +0.82], inconclusive`."""
    if entry.value is None:
        return entry.note
    bounds = f" [{entry.low:+.2f}, {entry.high:+.2f}]" if entry.low is not None else ""
    verdict = f", {entry.verdict}" if entry.verdict else ""
    note = f" ({entry.note})" if entry.note else ""
    return f"{entry.value:+.2f} points{bounds}{verdict}{note}"


def _text_of_retained(finished: FinishedCells, group: Mapping[str, str]) -> str:
    first, second = pair_of(group["pair"])
    after = place(group, first, AB, RETAINED)
    entry = finished.difference(after, {**after, "condition": HALVES["A"]})
    return "" if entry.value is None else f"; {first} after {second}: {_text(entry)}"


def _notes_of_differences(finished: FinishedCells) -> str:
    return (
        f"differences are paired over seeds {', '.join(map(str, finished.grid.seeds))}, with 95%"
        " t-intervals; inconclusive where the interval includes 0, equivalent where it lies within"
        f" ±{finished.margin:g} points; Holm's correction is over all contrasts of the study"
    )


STUDY = Order()
