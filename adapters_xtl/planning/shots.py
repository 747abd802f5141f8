"""Settings of a training on shots (`train.shots`): what they come to, and what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.shot_pool import pool_drawn_from, shot_pool
from adapters_xtl.data.shots import JOINT, SEQUENTIAL
from adapters_xtl.data.sources import Source
from adapters_xtl.planning.evaluations import Scope
from adapters_xtl.runs.hyper import HYPER_FIELDS, Hyper
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.run import Run
from adapters_xtl.tasks import Task

__all__ = [
    "check_shots",
    "reported_scopes",
    "shot_hyper",
    "usual_split",
    "without_shots",
]

SHOT_FIELDS = tuple(name for name in HYPER_FIELDS if name.startswith("shot"))
PLAIN = Hyper()
AT_THE_END = HYPER_FIELDS["eval_every"].metadata["high"]  # no training has as many steps


def without_shots(hyper: Hyper) -> Hyper:
    """The settings of the English training, before the shots."""
    return replace(
        hyper,
        shots=PLAIN.shots,
        shot_language=PLAIN.shot_language,
        shot_bucket=PLAIN.shot_bucket,
        shot_regime=PLAIN.shot_regime,
        shot_steps=PLAIN.shot_steps,
    )


def shot_hyper(hyper: Hyper) -> Hyper:
    """The settings of the training on shots itself.

    Its steps are fixed and its last checkpoint is kept, since a choice would take rows of the
    target language: the select rows are scored once, after the last step. What cannot change it has
    one value, so that equal trainings have one id.
    """
    kept = replace(hyper, eval_every=hyper.max_steps or AT_THE_END, patience=0)
    if hyper.shot_regime == JOINT:
        return replace(kept, shot_steps=PLAIN.shot_steps)
    return replace(
        kept,
        max_steps=hyper.shot_steps,
        eval_every=hyper.shot_steps,
        shot_steps=PLAIN.shot_steps,
        epochs=PLAIN.epochs,
        max_examples=0,
    )


def check_shots(
    task: Task, hyper: Hyper, compose: str, keys: Collection[str], flag: str, problems: Problems
) -> None:
    """Adds what is wrong with the shots of a training of `task`. `keys`: those set by `flag`."""
    if not hyper.shots:
        for name in SHOT_FIELDS:
            if f"train.{name}" in keys and name != "shots":
                problems.add(f"{flag} train.{name}: means nothing without train.shots")
        return
    language = hyper.shot_language
    if task.members or not task.train or task.kind != "target":
        problems.add(
            f"{flag} train.shots: '{task.name}' has no rows in other languages to draw shots from"
        )
    elif not language:
        problems.add(
            f"{flag} train.shots={hyper.shots}: train.shot_language says of which language"
        )
    elif language == "en" or language not in task.all_languages:
        others = [code for code in task.all_languages if code != "en"]
        why = "trains in English anyway" if language == "en" else "has no such language"
        problems.add(
            f"{flag} train.shot_language={clipped(language)}: '{task.name}'"
            f" {why}{nearest(language, others)}"
        )
    if hyper.shot_regime == SEQUENTIAL and compose == "fuse":
        problems.add(
            f"{flag} train.shots: a fused module cannot go on training on shots"
            " (train.shot_regime=sequential); joint and target-only can"
        )
    if hyper.shot_regime == JOINT and "train.shot_steps" in keys:
        problems.add(
            f"{flag} train.shot_steps: means nothing for train.shot_regime=joint, whose steps are"
            " those of train.max_steps or train.epochs"
        )


def usual_split(task: Task, source: Source, hyper: Hyper) -> str | None:
    """The report split that a training scores by default: one that its shots were not drawn from;
    None for the task's usual one.
    """
    with contextlib.suppress(MissingRows):  # that there are no shots, their files' place says
        if hyper.shots:
            return shot_pool(source, task, hyper.shot_language).reported or None
    return None


def _trained_on_shots(task: Task, module: Module) -> Run | None:
    """The training on shots of `task` that a module, or one that it was trained on, had; None
    without one.
    """
    for trained in (module, *module.parents):
        if trained.run.hyper.shots and task.name in dict(trained.run.tasks):
            return trained.run
    return None


def reported_scopes(
    scopes: Mapping[str, Scope],
    source: Source,
    module: Module | None,
    split: str | None,
    problems: Problems,
) -> dict[str, Scope]:
    """The scopes with another split where shots of the module were drawn from the usual one.

    A split that was named is kept, and added to `problems` where shots were drawn from it.
    """
    checked = dict(scopes)
    for name, scope in scopes.items():
        task = tasks.load(name)
        run = _trained_on_shots(task, module) if module is not None else None
        if run is None or source.kind == "embedded":
            continue
        pool = pool_drawn_from(source, task, run.hyper.shot_language, run.data["train"])
        if scope.split != pool.split:
            continue
        if split is not None:
            problems.add(
                f"--split {split}: the shots of {module} were drawn from these rows of '{name}'; it"
                f" reports {pool.reported}"
            )
        else:
            checked[name] = replace(scope, split=pool.reported)
    return checked
