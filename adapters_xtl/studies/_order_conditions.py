"""The conditions of the study `order`: what each trains, in which order and on how many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters_xtl import tasks
from adapters_xtl.grid.cells import Overrides

__all__ = [
    "AB",
    "AXES",
    "BA",
    "CONDITIONS",
    "CONTRASTS",
    "GROUP",
    "HALVES",
    "MIXED",
    "NONE",
    "RANDOM_B",
    "FORGETTING",
    "SUM",
    "TARGET",
    "Phase",
    "condition_name",
    "contrast_name",
    "pair_of",
    "phases",
    "place",
    "settings_of",
    "target_settings",
]

AB, BA, MIXED, SUM, RANDOM_B = "A>B", "B>A", "multi", "sum", "random>B"
CONDITIONS = (AB, BA, MIXED, "A", "B", "A>A", "B>B", RANDOM_B, SUM)
NONE = "none"  # no intermediate task; on request
HALVES = {
    "A": "A, half of the steps",
    "B": "B, half of the steps",
}  # a task before the other: after half of the steps
TARGET, FORGETTING = "target", "forgetting"
GROUP = ("pair", "compose", "method", "steps")  # within which conditions are compared
AXES = ("task", "pair", "condition", "compose", "method", "steps", "scored")


# (condition, the one that it is held against)
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


@dataclass(frozen=True)
class Phase:
    """One training of a chain: its task and its steps."""

    task: str
    steps: int


def phases(condition: str, pair: tuple[str, str], steps: int) -> tuple[Phase, ...]:
    """What a condition trains, in order, on `steps` steps in all; an untrained module takes none of
    them.
    """
    task_of = {"A": pair[0], "B": pair[1]}
    if condition == NONE:
        return ()
    if condition == MIXED:
        return (Phase("multi", steps),)
    if condition == RANDOM_B:
        return (Phase("random", 0), Phase(pair[1], steps))
    if condition == SUM:
        return tuple(Phase(task, steps // 2) for task in pair)
    if condition in HALVES.values():
        return (Phase(task_of[condition[0]], steps // 2),)
    letters = condition.split(">")
    return tuple(Phase(task_of[letter], steps // len(letters)) for letter in letters)


def settings_of(chain: Sequence[Phase], pair: tuple[str, str]) -> Overrides:
    """The steps of every phase, whose last step's weights count; a mixture is half and half."""
    settings: list[tuple[str, object]] = []
    for position, phase in enumerate(chain, start=1):
        if phase.steps:
            settings += [
                (f"{position}:train.max_steps", phase.steps),
                (f"{position}:train.eval_every", phase.steps),
                (f"{position}:train.patience", 0),
            ]
        if phase.task == "multi":
            settings += [(f"{position}:train.tasks", pair), (f"{position}:train.cap", 1)]
    return tuple(settings)


def target_settings(task: str) -> Overrides:
    """The settings of a target's own training: it takes all of its steps, after every condition."""
    described_task = tasks.load(task)
    trains = described_task.trainable or described_task.train_from
    return (("train.patience", 0),) if trains else ()


def pair_of(text: str) -> tuple[str, str]:
    """`mnli+squad1` → ("mnli", "squad1")."""
    first, _, second = text.partition("+")
    return first.strip(), second.strip()


def condition_name(condition: str, pair: str) -> str:
    """A condition with its tasks' names: `A>B` of mnli+squad1 is `mnli → squad1`."""
    first, second = pair_of(pair)
    if condition == MIXED:
        return f"{first} and {second} at once"
    if condition == SUM:
        return f"{first} + {second}, trained apart"
    for half in HALVES.values():
        if condition == half:
            return f"{first if half[0] == 'A' else second}, half of the steps"
    names = {"A": first, "B": second}
    return " → ".join(names.get(part, part) for part in condition.split(">"))


def contrast_name(point: Mapping[str, str], condition: str) -> str:
    """`mnli → squad1 against squad1 → mnli, pawsx, init, lora, 2000 steps`."""
    names = [condition_name(name, point["pair"]) for name in (point["condition"], condition)]
    scored = (
        f"{point['task']} with its own head" if point["scored"] == FORGETTING else point["task"]
    )
    rest = ", ".join(point[name] for name in ("compose", "method", "steps"))
    return f"{names[0]} against {names[1]}, {scored}, {rest} steps"


def place(
    group: Mapping[str, str], task: str, condition: str, scored: str = TARGET
) -> dict[str, str]:
    """The point of a task and a condition within a group."""
    point = {**group, "task": task, "condition": condition, "scored": scored}
    return {name: point[name] for name in AXES}
