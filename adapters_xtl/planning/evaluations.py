"""What a run is scored on: languages, split and the files of the rows, before any is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import Problems, nearest
from adapters_xtl.base.files import digest
from adapters_xtl.data.locate import RowFiles, locate_report
from adapters_xtl.data.sources import Source
from adapters_xtl.runs.lookup import has
from adapters_xtl.runs.request import Evaluation, Module
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = ["own_evaluation", "plan_evaluation"]


def _languages(
    task: Task, asked: str | None, source: Source, problems: Problems
) -> tuple[tuple[str, ...], bool]:
    """(codes, whether they were named one by one)."""
    sets = {**task.languages, "all": task.all_languages}
    if asked is None:
        name = "all" if source.kind == "embedded" else next(iter(task.languages))
        return sets[name], False
    if asked in sets:
        return sets[asked], False
    codes = tuple(dict.fromkeys(code.strip() for code in asked.split(",") if code.strip()))
    for code in codes:
        if code not in task.all_languages:
            problems.add(
                f"--languages: task '{task.name}' has no language or set '{code}'"
                f"{nearest(code, (*task.all_languages, *sets))}"
            )
    if not codes:
        problems.add("--languages: expected codes separated by commas, e.g. de,zh")
    return codes, True


def plan_evaluation(
    task: Task,
    source: Source,
    module: Module | None,
    bare: Mapping[str, Any],
    *,
    languages: str | None,
    split: str | None,
    limit: int,
    members: Iterable[str],
    problems: Problems,
    layer: str = "",
) -> Evaluation:
    """What of `task` is scored by `module` (None: the backbone alone, `bare` being its identity).

    Nothing is read: files are located, and what the source lacks is noted in the evaluation, or
    added to `problems` where it was asked for by name or nothing is left. `members` are the tasks
    that a module of several tasks was trained on.
    """
    scored = [tasks.load(name) for name in members] if task.members else [task]
    files: dict[str, dict[str, tuple[RowFiles, ...]]] = {}
    lacking: dict[str, dict[str, str]] = {}
    splits: dict[str, str] = {}
    explicit = False
    if limit and not task.members and formats.load(task.format).needs_every_row(task):
        problems.add(
            f"--set eval.max_examples: '{task.name}' is scored whole; a part of its rows measures"
            " nothing"
        )
    for each in scored:
        codes, named = _languages(each, languages, source, problems)
        explicit = explicit or named
        known = list(each.report) if source.kind != "embedded" else list(each.report)[:1]
        if split is not None and split not in known:
            hint = " (the embedded rows have one)" if source.kind == "embedded" else ""
            problems.add(f"--split {split}: task '{each.name}' reports {', '.join(known)}{hint}")
            continue
        splits[each.name] = split or known[0]
        found, without = locate_report(
            source, each, splits[each.name], [c for c in codes if c in each.all_languages]
        )
        if without and (named or not found):
            for complaint in dict.fromkeys(without.values()):
                problems.add(complaint)
        files[each.name], lacking[each.name] = found, without
    shas = {
        name: {
            code: [sha for located in group for sha in located.digests]
            for code, group in by.items()
        }
        for name, by in files.items()
    }
    key = {
        "module": _weights(module) if module else None,
        "bare": None if module else dict(bare),
        "tasks": [[each.name, each.version] for each in scored],
        "splits": splits,
        "files": shas,
        "limit": limit,
        **({"layer": layer} if layer else {}),
    }
    return Evaluation(digest(key)[:12], splits, files, lacking, explicit, limit, layer)


def _weights(module: Module) -> str:
    """What names a module's weights: its run's digest, or the id under which they came from
    elsewhere.
    """
    return module.run.digest if module.id == module.run.id else module.id


def own_evaluation(module: Module, source: Source, store: Store, problems: Problems) -> Evaluation:
    """What a training scores on its own: its task's default split, in English where it has English.

    What the source lacks is a problem only where the module is still to be trained.
    """
    task = tasks.load(module.task)
    english = bool(task.members) or "en" in task.all_languages
    complaints = Problems()
    evaluation = plan_evaluation(
        task,
        source,
        module,
        {},
        languages="en" if english else None,
        split=None,
        limit=0,
        members=[name for name, _ in module.run.tasks],
        problems=complaints,
    )
    if has(module, store) is None:
        for message in complaints.messages:
            problems.add(message)
    return evaluation
