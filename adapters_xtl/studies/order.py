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
from adapters_xtl.grid.results import Entry, Figure, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.studies._order_conditions import (
    AB,
    AXES,
    BA,
    CONDITIONS,
    CONTRASTS,
    FORGETTING,
    HALVES,
    NONE,
    RANDOM_B,
    SUM,
    TARGET,
    condition_name,
    contrast_name,
    pair_of,
    phases,
    place,
    settings_of,
    target_settings,
)
from adapters_xtl.studies._order_tables import (
    group_name,
    groups,
    order_figures,
    order_tables,
    targets_of,
    text_of,
    text_of_forgetting,
)

__all__ = ["STUDY"]


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
        Axis("scored", (TARGET, FORGETTING)),
    )
    seeds = (1, 2, 3, 4, 5)
    reseed = True
    decides = frozenset(
        f"train.{name}"
        for name in ("max_steps", "epochs", "eval_every", "patience", "tasks", "cap")
    )
    evidence_for = (
        "the difference between two orders of this pair of tasks, on this backbone, at the same"
        " number of steps in all, every training drawn anew under every seed",
    )
    no_evidence = (
        "other pairs of tasks, other budgets, and more than two intermediate tasks",
        "equal amounts of text: the steps are equal, and the tasks' texts differ in length",
        "one long training: each warms up and decays its learning rate, so that A>A is two of them",
        "an order alone where modules are stacked: A>B has more parameters than A, and the sum of"
        " LoRA modules twice their rank (random>B is the control for parameters)",
        "the loss of what A taught: a fall of A's own score under A's own head says that head and"
        " network fit less well, and a new head might find it",
    )
    to_know = (
        "no checkpoint is chosen among the intermediate trainings: the weights after the last step"
        " count, which for a longer training need not be the best",
        "the target's checkpoint is chosen on its select rows, after equally many steps in every"
        " condition",
    )

    # ------------------------------------------------------------------ cells

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cells of a point, none where its method cannot meet parents so. The own-head scores
        of A and B do not depend on the target: for every target they are the same cells.
        """
        pair, condition = pair_of(point["pair"]), point["condition"]
        steps = self._steps(point, problems)
        variants = self.variants(point, bits, problems)
        if not self._is_sound(point, pair, problems) or not steps:
            return ()
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
            for task, shown in _scored(point, pair) if possible else ():
                chain = phases(shown, pair, steps)
                values = {**point, "task": task, "condition": shown, "method": str(variant)}
                cells.append(
                    Cell(
                        task,
                        variant,
                        tuple(phase.task for phase in chain),
                        tuple((name, values[name]) for name in AXES),
                        () if point["scored"] == FORGETTING else target_settings(task),
                        parent_overrides=settings_of(chain, pair),
                        compose=SUM if shown == SUM else point["compose"],
                        retained=point["scored"] == FORGETTING,
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
        """Adds what is wrong with a point, whatever its method; False where something is."""
        wrong = []
        for axis, values in (
            ("condition", (*CONDITIONS, NONE)),
            ("compose", ("init", "stack")),
            ("scored", (TARGET, FORGETTING)),
        ):
            if point[axis] not in values:
                wrong.append(
                    f"[axes] {axis}: '{clipped(point[axis])}' is none of"
                    f" {', '.join(values)}{nearest(point[axis], values)}"
                )
        trainable = [name for name in tasks.names() if tasks.load(name).train]
        unknown = [name for name in pair if name not in trainable]
        if unknown:
            hint = nearest(unknown[0], trainable)
            wrong.append(
                f"[axes] pair: {clipped(point['pair'])}: takes two tasks, A+B;"
                f" '{clipped(unknown[0])}' cannot be trained{hint}"
            )
        elif pair[0] == pair[1]:
            wrong.append(f"[axes] pair: {clipped(point['pair'])}: takes two different tasks")
        borrowed = tasks.load(point["task"]).train_from if point["task"] in tasks.names() else ""
        if borrowed and borrowed in pair:
            wrong.append(
                f"[axes] task: {point['task']} is scored with a module of {borrowed}, one of the"
                f" pair {point['pair']}: after it nothing would be trained, and after the other"
                " task something would"
            )
        for line in wrong:
            problems.add(line)
        return not wrong

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

    # ------------------------------------------------------------------ what is shown

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        return order_tables(finished)

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        return order_figures(finished)

    def answer(self, finished: FinishedCells) -> Answer | None:
        """The difference of the orders, a mean over the targets, for each group; and what A keeps.

        The exception is the largest difference of one target that says something else.
        """
        sentences, verdicts, single = [], set(), {}
        for group in groups(finished):
            targets = targets_of(finished, group)
            orders = [[place(group, task, condition) for task in targets] for condition in (AB, BA)]
            entry = finished.mean_difference(*orders) if targets else Entry()
            if entry.value is None:
                continue
            verdicts.add(entry.verdict or "inconclusive")
            names = [condition_name(condition, group["pair"]) for condition in (AB, BA)]
            sentences.append(
                f"{names[0]} − {names[1]} ({group_name(group, finished)}), mean of"
                f" {len(targets)} target{'s' * (len(targets) > 1)}: {text_of(entry)}"
                f"{text_of_forgetting(finished, group)}"
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
            exception = f"{name}: {text_of(others[name])}{after_holm}"
        return Answer("; ".join(sentences), verdict, exception, self.no_evidence)


def _scored(point: Mapping[str, str], pair: tuple[str, str]) -> list[tuple[str, str]]:
    """(task, condition) of the cells of a point: the target's one; where the pair's own tasks are
    scored, each task that the condition moves on from, after and before.
    """
    condition = point["condition"]
    if point["scored"] == TARGET:
        return [(point["task"], condition)]
    before = {pair[0]: HALVES["A"], pair[1]: HALVES["B"]}
    left = {AB: pair[:1], BA: pair[1:], SUM: pair}.get(condition, ())
    return [(task, shown) for task in left for shown in (condition, before[task])]


STUDY = Order()
