"""Does the order of two intermediate tasks matter? A then B, B then A, both at once, either alone.

A condition says what is trained before the target. All conditions have the same total number of
optimizer steps: A>B and B>A give half to each task; `multi` alternates batches of A and batches of
B, equally many of each. For stacked LoRA modules, `sum` adds separately trained modules of A and B
with weight 1 (task arithmetic): a control without an order.

How well A is still solved after B (forgetting) is measured without further training: A's own head
is put on the network before and after the training of B, and A's usual evaluation rows are scored
(for an intermediate task, its select rows). Under `init` B has overwritten A's module (with `full`,
the encoder); under `stack` A's module is unchanged and B's is active beside it (LoRA) or above it
(bottleneck); under `sum` both are added.
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
    contrast_name,
    pair_of,
    phases,
    place,
    settings_of,
    target_settings,
)
from adapters_xtl.studies._order_tables import (
    difference_label,
    group_name,
    groups,
    order_figures,
    order_tables,
    targets_of,
    text_of,
    text_of_forgetting,
)
from adapters_xtl.studies._shift_pairs import train_repos

__all__ = ["STUDY"]


class Order(Study):
    title = "Order of two intermediate tasks"
    question = "Does it matter for a target task which of two intermediate tasks is trained first?"
    axes = (
        Axis("task", ("pawsx", "panx", "udpos", "tydiqa", "tatoeba")),
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
        " number of optimizer steps in all",
    )
    no_evidence = (
        "other pairs of tasks, other budgets, and more than two intermediate tasks",
        "whether intermediate training helps at all: no contrast is against one task alone in one"
        " training, or against none (the table of scores has such conditions)",
        "equal amounts of text or equal numbers of epochs: the steps are equal, and the tasks'"
        " texts differ in length and their rows in number",
        "training without a restart: in a chain every training starts a new optimizer, warms up and"
        " decays its own learning rate, so A>A differs from A in this restart",
        "order apart from recency: the task that is trained last is the one nearest to the target,"
        " by construction",
        "sequential against joint training under `stack`: A>B and B>A have two modules, `multi` has"
        " one, so their difference also holds a difference in parameters. random>B has as many"
        " parameters as A>B but trains B for all steps; under `init` it is B from another starting"
        " point, and B>A has no such control",
        "forgetting of A's knowledge: a lower score with A's old head may only mean that head and"
        " network no longer match; a newly trained head might recover it",
    )
    to_know = (
        "intermediate trainings keep the weights of their last step",
        "every target training runs the same number of steps and keeps its best checkpoint on the"
        " select rows, so the kept step may differ between conditions",
        "the composition holds for the target's training too: under `init` it goes on training the"
        " module that the pair leaves, under `stack` it adds a module to the frozen ones",
        "the sum adds LoRA modules with weight 1 each, at the rank of both together, and none of"
        " its weights is tuned",
        "the means over targets are the main result and are not corrected for multiple testing;"
        " Holm's correction applies to the single contrasts",
        "with few seeds and many contrasts Holm's correction leaves only effects of several"
        " standard deviations: that none remains significant does not mean that there is no effect",
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
        if not all(pair):  # also of `pair=A,B`, which is two values: one line for both
            wrong.append("[axes] pair: takes two tasks joined by +, such as mnli+squad1")
        elif unknown:
            hint = nearest(unknown[0], trainable)
            wrong.append(
                f"[axes] pair: {clipped(point['pair'])}: takes two tasks, A+B;"
                f" '{clipped(unknown[0])}' cannot be trained{hint}"
            )
        elif pair[0] == pair[1]:
            wrong.append(f"[axes] pair: {clipped(point['pair'])}: takes two different tasks")
        else:
            wrong += [
                f"[axes] task: {point['task']} is trained on rows of {name}, a task of the pair"
                f" {point['pair']}: an order would decide when the target's own rows are read"
                for name in pair
                if train_repos(point["task"]) & train_repos(name)
            ]
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
        """The difference of the orders, a mean over the targets, for each group; and the change of
        each task's own score by the training of the other.

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
            first = pair_of(group["pair"])[0]
            sentences.append(
                f"{difference_label(AB, BA, group['pair'])} ({group_name(group, finished)}), mean"
                f" of {len(targets)} target{'s' * (len(targets) > 1)}:"
                f" {text_of(entry, f' for {first} first')}{text_of_forgetting(finished, group)}"
            )
            for task, of, against in zip(targets, *orders, strict=True):
                name = f"{task} ({group_name(group, finished)})"
                single[name] = finished.difference(of, against), first
        if not sentences:
            return None
        verdict = verdicts.pop() if len(verdicts) == 1 else "mixed"
        others = {
            name: (entry, first)
            for name, (entry, first) in single.items()
            if entry.value is not None and entry.verdict in {"higher", "lower"} - {verdict}
        }
        exception = ""
        if others:
            name = max(others, key=lambda name: abs(others[name][0].value or 0.0))
            entry, first = others[name]
            significant = entry.holm in ("higher", "lower")
            after_holm = "" if significant else ", not significant after Holm's correction"
            exception = f"{name}: {text_of(entry, f' for {first} first')}{after_holm}"
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
