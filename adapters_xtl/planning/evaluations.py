"""What a run is scored on: languages, split and the files of the rows, before any is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters_xtl import formats, methods, tasks
from adapters_xtl.base.cache_budget import TOKENIZED, cache_budget
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.files import digest
from adapters_xtl.base.numbers import whole
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.shot_pool import shot_pool
from adapters_xtl.data.sources import Source
from adapters_xtl.planning.lookups import Lookups, ReportFiles
from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Evaluation, Module
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = [
    "BESIDE_SHOTS",
    "Scope",
    "merged_modules",
    "own_evaluation",
    "plan_evaluation",
    "report_limit",
    "scope_of",
    "scopes_of",
]

# as --split: the report split that shots of the one language of --languages are not drawn from
BESIDE_SHOTS = "beside-shots"
FEW = 3  # languages that a source lacks and that are complained of one by one


@dataclass(frozen=True)
class Scope:
    """What of a task's report rows is scored.

    named  whether the languages were named one by one: then each of them must be there
    """

    split: str
    languages: tuple[str, ...]
    named: bool


def scope_of(
    task: Task, source: Source, languages: str | None, split: str | None, problems: Problems
) -> Scope | None:
    """The scope that `--languages` and `--split` mean for a task; None where there is none."""
    splits = report_splits(task, source)
    if not splits:
        problems.add(f"'{task.name}': no rows to score are there")
        return None
    if split == BESIDE_SHOTS:
        split = None
        with problems.catching():
            split = shot_pool(source, task, languages or "").reported or None
    codes, named = _languages(
        task, source, split if split in splits else splits[0], languages, problems
    )
    if split is not None and split not in splits and not task.reports(split):
        hint = " (the embedded rows have one)" if source.kind == "embedded" else ""
        problems.add(
            f"--split {clipped(split)}: task '{task.name}' reports {', '.join(splits)}{hint}"
        )
        return None
    return Scope(split or splits[0], codes, named)


def report_splits(task: Task, source: Source) -> list[str]:
    """The report splits of a task that a source can have; the first is the default."""
    if isinstance(source, OwnFiles):
        return list(source.splits)
    # the embedded rows are of one split, whatever a task calls it, but where splits are domains
    one_split = source.kind == "embedded" and not task.in_domain_task
    return list(task.report)[:1] if one_split else list(task.report)


def _language_sets(task: Task, source: Source, split: str) -> Mapping[str, tuple[str, ...]]:
    """Language set → codes. The languages of own files are those of their names."""
    if isinstance(source, OwnFiles):
        return {"all": source.languages(split)}
    return {**task.languages, "all": task.all_languages}


def _languages(
    task: Task, source: Source, split: str, text: str | None, problems: Problems
) -> tuple[tuple[str, ...], bool]:
    """(codes of the languages that are scored, whether they were named one by one)."""
    sets = _language_sets(task, source, split)
    every = sets["all"]
    if text is None:
        name = "all" if source.kind == "embedded" else next(iter(sets))
        return sets[name], False
    if text in sets:
        return sets[text], False
    codes = tuple(dict.fromkeys(code.strip() for code in text.split(",") if code.strip()))
    for code in codes:
        if code in sets:
            problems.add(
                f"--languages {clipped(text)}: the set '{code}' stands alone, without other"
                " languages"
            )
        elif code not in every:
            problems.add(
                f"--languages: task '{task.name}' has no language or set '{clipped(code)}'"
                f"{nearest(code, (*every, *sets))}"
            )
    if not codes:
        problems.add("--languages: expected codes separated by commas, e.g. de,zh")
    return tuple(code for code in codes if code in every), True


def scopes_of(
    names: Iterable[str],
    source: Source,
    languages: str | None,
    split: str | None,
    problems: Problems,
) -> dict[str, Scope]:
    """Task → its scope, of those that have one."""
    scopes = {
        name: scope_of(tasks.load(name), source, languages, split, problems) for name in names
    }
    return {name: scope for name, scope in scopes.items() if scope is not None}


def report_limit(
    overrides: Iterable[tuple[str, Any]], task: Task, problems: Problems, flag: str = "--set"
) -> int:
    """The number of rows of a language that are scored at most, `eval.max_examples`; 0: all."""
    limit = 0
    for key, value in overrides:
        if key != "eval.max_examples":
            continue
        number = whole(value)
        if number is None or number < 0:
            problems.add(
                f"{flag}: eval.max_examples takes a whole number from 0 on, not"
                f" {clipped(repr(value))}"
            )
        else:
            limit = number
    if limit and not task.members and formats.load(task.format).needs_every_row(task):
        problems.add(
            f"--set eval.max_examples: '{task.name}' is scored whole; a part of its rows measures"
            " nothing"
        )
    return limit


def merged_modules(
    overrides: Iterable[tuple[str, Any]],
    module: Module | None,
    bits: int,
    problems: Problems,
    flag: str = "--set",
) -> bool:
    """Whether the modules of the stack are to be part of the encoder's weights while it is scored,
    `eval.merged`.
    """
    merged = False
    for key, value in overrides:
        if key == "eval.merged":
            merged = value is True
            if not isinstance(value, bool):
                shown = clipped(repr(value))
                problems.add(f"{flag}: eval.merged takes true or false, not {shown}")
    if not merged:
        return False
    if module is None:
        problems.add(f"{flag} eval.merged: the bare backbone is scored, which has no modules")
    elif not methods.load(module.run.method).merges:
        reason = methods.load(module.run.method).not_folded or "its weights are the encoder's own"
        problems.add(f"{flag} eval.merged: not for method {module.run.method}: {reason}")
    elif bits not in (32, 16):
        problems.add(
            f"{flag} eval.merged: weights of {bits} bits cannot be merged with LoRA; give --bits 32"
            " or 16"
        )
    return merged


def plan_evaluation(
    scopes: Mapping[str, Scope],
    source: Source,
    module: Module | None,
    bare: Mapping[str, Any],
    lookups: Lookups,
    problems: Problems,
    *,
    limit: int = 0,
    layer: str = "",
    head: Module | None = None,
    merged: bool = False,
) -> Evaluation:
    """What is scored of the tasks of `scopes` by `module`, or by the backbone alone, whose
    identity `bare` then is. `head`: the module whose head is used, where it is not its own.

    Nothing is read: files are located. What the source lacks is noted in the evaluation; where it
    was asked for by name, or nothing is left of a task, it is added to `problems`.
    """
    if module is None or module.settings.speed.keep_tokenized:
        with problems.catching():
            cache_budget(TOKENIZED)
    located: dict[str, ReportFiles] = {}
    for name, scope in scopes.items():
        files = ReportFiles({}, {}, {})
        with problems.catching():
            files = lookups.report(source, tasks.load(name), scope.split, scope.languages)
        if files.lacking and (scope.named or not files.files):
            for complaint in _of_lacking(files):
                problems.add(complaint)
        located[name] = files
    splits = {name: scope.split for name, scope in scopes.items()}
    key = {
        "module": _weights(module) if module else None,
        "bare": None if module else dict(bare),
        "tasks": [[name, tasks.load(name).version] for name in scopes],
        "splits": splits,
        "files": {name: dict(files.digests) for name, files in located.items()},
        "limit": limit,
        **({"layer": layer} if layer else {}),
        **({"head": _weights(head)} if head else {}),
        **({"merged": True} if merged else {}),
    }
    return Evaluation(
        digest(key)[:12],
        splits,
        {name: files.files for name, files in located.items()},
        {name: files.lacking for name, files in located.items()},
        any(scope.named for scope in scopes.values()),
        limit,
        layer,
        head.id if head else "",
        merged,
    )


def _of_lacking(files: ReportFiles) -> list[str]:
    """What a source lacks, a line each; of many languages one line, with those that it has."""
    complaints = list(dict.fromkeys(files.lacking.values()))
    if len(complaints) <= FEW:
        return complaints
    others = ", ".join(list(files.lacking)[1:])
    having = f"; there are of {', '.join(files.files)}" if files.files else ""
    return [f"{complaints[0]}; nor are there rows of {others}{having}"]


def _weights(module: Module) -> str:
    """What names a module's weights: its run's digest, or the id under which they came from
    elsewhere.
    """
    return module.run.digest if module.id == module.run.id else module.id


def _has_english(task: Task, source: Source) -> bool:
    splits = report_splits(task, source)
    return bool(splits) and "en" in _language_sets(task, source, splits[0])["all"]


def own_evaluation(
    module: Module,
    source: Source,
    store: Store,
    lookups: Lookups,
    problems: Problems,
    split: str | None = None,
    limit: int = 0,
) -> Evaluation:
    """What a training scores on its own: its task's default split, or `split`, in English where it
    has English; at most `limit` rows (0: all).

    What the source lacks is a problem only where the module is still to be trained.
    """
    complaints = Problems()
    english = all(_has_english(tasks.load(name), source) for name, _ in module.run.tasks)
    scopes = scopes_of(
        [name for name, _ in module.run.tasks], source, "en" if english else None, split, complaints
    )
    evaluation = plan_evaluation(scopes, source, module, {}, lookups, complaints, limit=limit)
    if complaints.messages and finished_directory(module, store) is None:
        for message in complaints.messages:
            problems.add(message)
    return evaluation
