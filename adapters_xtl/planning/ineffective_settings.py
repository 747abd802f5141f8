"""Settings that would change nothing: refused where they would change a run's id, else reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapters_xtl import formats, methods, tasks
from adapters_xtl.base.errors import Problems
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.settings import Hyper

__all__ = ["check_effects", "idle_flags", "without_effect"]

EVALUATIONS = 10  # of a training whose train.eval_every is 0


def without_effect(key: str, members: Sequence[str]) -> str:
    """Why a setting changes nothing in a training of the tasks `members`; "" where it does."""
    if key == "train.cap" and len(members) == 1:
        return "it weighs several tasks against each other, and this is a single one"
    if key == "train.stride" and not any(_reads_windows(member) for member in members):
        return "its inputs are cut at train.max_length, and not read in windows"
    return ""


def check_effects(
    request: Request, parents: Sequence[Module], own: Module | None, problems: Problems
) -> None:
    """Adds to `problems` what `--set` and `--set-parents` set without any effect.

    `parents` and `own`: the modules that these flags reach, those that are trained for the request.
    """
    for flag, overrides, reached in (
        ("--set", request.overrides, [own] if own else []),
        ("--set-parents", request.parent_overrides, parents),
    ):
        for key in dict.fromkeys(key for key, _ in overrides):
            reasons = [without_effect(key, tuple(module.members)) for module in reached]
            if reasons and all(reasons):
                names = ", ".join(dict.fromkeys(module.task for module in reached))
                problems.add(f"{flag} {key}: means nothing for {names}: {reasons[0]}")
    if any(key == "eval.max_examples" for key, _ in request.parent_overrides):
        problems.add("--set-parents eval.max_examples: reaches the requested run alone; use --set")


def idle_flags(
    request: Request, parents: Sequence[Module], own: Module | None, named: Iterable[Module]
) -> tuple[str, ...]:
    """Flags of the request that change nothing, one line each.

    `named`: modules of the request that exist already, given by their run, bundle or hub id.
    """
    lines: list[str] = []
    trained = [*parents, *([own] if own else [])]
    no_parents = "this request has no parents (--on)"
    none_trained = "every parent exists already, or is untrained"
    reached = parents or (request.parent_overrides and _reaches_untrained(request))
    if request.compose and not (request.on and any(module.run.compose for module in trained)):
        why = "nothing is trained on them here" if request.on else no_parents
        lines.append(f"--compose means nothing here: {why}")
    if request.parent_overrides and not reached:
        lines.append(
            f"--set-parents means nothing here: {none_trained if request.on else no_parents}"
        )
    if request.allow_mismatch and not list(named):
        lines.append("--allow-mismatch means nothing here: no module is given that exists already")
    if not trained:
        for flag, value in (
            ("--seed", request.seed != 1),
            ("--from-layer", request.from_layer),
            ("--protocol", request.protocol != "clean"),
        ):
            if value:
                lines.append(f"{flag} means nothing here: nothing is trained")
        if request.bits != "auto" and list(named):
            lines.append("--bits means nothing here: the module is loaded as it was trained")
    elif request.from_layer and not methods.load(request.method).takes_from_layer:
        lines.append(f"--from-layer means nothing here: {request.method} trains every layer")
    if request.own_rows is not None and request.data is not None and not parents:
        lines.append("--data means nothing here: the rows are own files, and no parent is trained")
    for flag, overrides, modules in (
        ("--set", request.overrides, [own] if own else []),
        ("--set-parents", request.parent_overrides, parents),
    ):
        keys = {key for key, _ in overrides}
        for module in modules:
            lines += [f"{flag} {line}" for line in _idle_settings(keys, module.run.hyper)]
    return tuple(dict.fromkeys(lines))


def _idle_settings(keys: set[str], hyper: Hyper) -> list[str]:
    """Hyper-parameters among `keys` that the others leave without a say."""
    lines = []
    steps = hyper.max_steps
    if steps and "train.epochs" in keys:
        lines.append(f"train.epochs means nothing here: train.max_steps={steps} ends the training")
    if steps and hyper.eval_every > steps and "train.eval_every" in keys:
        lines.append(
            f"train.eval_every={hyper.eval_every} means nothing here: the training has"
            f" {steps} steps, and its last one is evaluated"
        )
    evaluations = -(-steps // hyper.eval_every) if steps and hyper.eval_every else EVALUATIONS
    is_decided = steps or not hyper.eval_every
    if is_decided and hyper.patience >= evaluations and "train.patience" in keys:
        lines.append(
            f"train.patience={hyper.patience} means nothing here: the training has"
            f" {evaluations} evaluations, so that it never stops early"
        )
    return lines


def _reaches_untrained(request: Request) -> bool:
    return "random" in request.on and any(
        key.startswith("method.") for key, _ in request.parent_overrides
    )


def _reads_windows(task: str) -> bool:
    return tasks.known(task) and formats.load(tasks.load(task).format).reads_windows
