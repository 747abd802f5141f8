"""`xtl recipe`: flags → a request → a plan → runs, or their answer from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base import statistics
from adapters_xtl.base.errors import Problems, clipped
from adapters_xtl.base.numbers import parse_seeds
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.data.own_files import OwnFilesRequest
from adapters_xtl.pages import tables
from adapters_xtl.planning.finished_modules import plan_scoring
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.settings import EVALUATION_KEYS, parse_overrides
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.trackers import parse_trackers

__all__ = ["recipe", "request", "spread"]

Notify = Callable[[str], None]
Shown = list[Table | str]


def request(
    *,
    on: str | Sequence[str],
    set_: Sequence[str],
    set_parents: Sequence[str],
    report_to: str = "",
    data_file: Sequence[str] = (),
    select_file: Sequence[str] = (),
    test_file: Sequence[str] = (),
    text_columns: str | Sequence[str] = "",
    label: str = "",
    problems: Problems | None = None,
    **options: Any,
) -> Request:
    """The flags as a request.

    Malformed values are added to `problems`, to be reported with what planning finds wrong; without
    `problems` they are a RequestError.
    """
    collected = Problems() if problems is None else problems

    own = parse_overrides(set_, "--set", collected)
    parents = parse_overrides(set_parents, "--set-parents", collected)
    named = on.split(",") if isinstance(on, str) else on
    names = tuple(name.strip() for name in named)
    if on and not all(names):
        collected.add(
            f"--on {clipped(','.join(named))}: expected names separated by commas, e.g. mnli,squad1"
        )
    trackers = parse_trackers(report_to, collected)
    if problems is None:
        collected.raise_if_any()
    return Request(
        on=tuple(filter(None, names)),
        overrides=own,
        parent_overrides=parents,
        trackers=trackers,
        own_rows=_own_rows(data_file, select_file, test_file, text_columns, label),
        **options,
    )


def _own_rows(
    data_file: Sequence[str],
    select_file: Sequence[str],
    test_file: Sequence[str],
    text_columns: str | Sequence[str],
    label: str,
) -> OwnFilesRequest | None:
    """The flags about own rows; None where none is given."""
    columns = text_columns.split(",") if isinstance(text_columns, str) else text_columns
    own_rows = OwnFilesRequest(
        tuple(data_file),
        tuple(select_file),
        tuple(test_file),
        tuple(name.strip() for name in columns if name.strip()),
        label.strip(),
    )
    return own_rows if own_rows != OwnFilesRequest() else None


def recipe(
    requested: Request,
    *,
    baseline: bool,
    force: bool,
    dry_run: bool,
    notify: Notify,
    seeds: str = "",
    zero_shot: bool | None = None,
    problems: Problems | None = None,
) -> tuple[dict[str, Any], Shown]:
    """Runs a recipe. The payload is the contract's: id, path, reused, seconds, metrics (and
    `baseline`, `zero_shot`).

    `zero_shot`: whether the module is also scored, as it is, on the target that poses its task's
    question in other languages (`Task.zero_shot`). None: on the sample rows, where no languages,
    split or seeds are named.

    With `seeds` ("1,2,3") it runs once a seed, and the payload holds `runs`, one such object a
    seed, and `summary`. RequestError with every problem, those that `problems` holds included.
    """
    problems = Problems() if problems is None else problems
    numbers: tuple[int, ...] = (requested.seed,)
    if seeds:
        numbers = parse_seeds(seeds, "--seeds", problems) or numbers
        if requested.seed != Request.seed:
            problems.add(f"--seed {requested.seed}: --seeds names the seeds; leave one of them out")
    store = Store(Path(requested.runs))
    planner = Planner(store, notify)
    plans = []
    for number in numbers:
        planned, bare = planner.plan(replace(requested, seed=number), problems), None
        if baseline and requested.on:
            alone = replace(
                requested, seed=number, on=(), compose=None, parent_overrides=(), retained=False
            )
            bare = planner.plan(alone)
        plans.append((planned, bare))
    first, first_bare = plans[0]
    other_task = _zero_shot_task(requested, first, seeds, zero_shot, problems)
    problems.raise_if_any()
    for note in (*first.notes, *first.idle):
        notify(note)
    if baseline and first_bare is None:
        notify("--baseline means nothing here: this request has no parents (--on)")
    elif first_bare is not None and first_bare.evaluation.id == first.evaluation.id:
        notify("--baseline means nothing here: without parents it is the same run")
    if force and dry_run:
        notify("--force means nothing here: --dry-run makes no run")
    if dry_run:
        answers = [_dry(planned, store) for planned, _ in plans]
        if other_task:
            notify(f"the module is also scored on {other_task}, as it is (--zero-shot)")
        for (payload, lines), (_, bare) in zip(answers, plans, strict=True):
            if bare is not None:
                payload["baseline"], below = _dry(bare, store)
                lines += ["baseline: the same task without parents", *below]
        if not seeds:
            return answers[0]
        payloads = [payload for payload, _ in answers]
        return {"dry_run": True, "runs": payloads}, [
            entry for _, shown in answers for entry in shown
        ]
    host = _LazyHost()
    answers = []
    for number, (planned, bare) in zip(numbers, plans, strict=True):
        if seeds:
            notify(f"seed {number}")
        answers.append(_answered(planned, bare, store, host, notify, force))
    if other_task:
        answer, table = answers[0]
        from adapters_xtl.runs.outcome import finished_directory

        # the answer may be an evaluation of the module: of one that once scored fewer rows
        target = plans[0][0].target
        path = finished_directory(target, store) if target else None
        answer["zero_shot"], below = _scored_elsewhere(
            other_task, str(path or answer["path"]), requested, store, host, notify, force
        )
        return answer, [*table, *below]
    if not seeds:
        return answers[0]
    runs = {number: payload for number, (payload, _) in zip(numbers, answers, strict=True)}
    summary = spread(
        {number: payload["metrics"] for number, payload in runs.items()},
        {
            number: payload["baseline"]["metrics"]
            for number, payload in runs.items()
            if "baseline" in payload
        },
    )
    payload = {
        "task": requested.task,
        "runs": [{"seed": number, **payload} for number, payload in runs.items()],
        "summary": summary,
    }
    shown: Shown = [*tables.spread(summary)]
    shown += [f"run: {entry['path']} (seed {number})" for number, entry in runs.items()]
    return payload, shown


def _answered(
    planned: Plan,
    baseline_plan: Plan | None,
    store: Store,
    host: _LazyHost,
    notify: Notify,
    force: bool,
) -> tuple[dict[str, Any], Shown]:
    outcome = _execute(planned, store, host, notify, force)
    payload = {
        "id": outcome.id,
        "path": str(outcome.path),
        "reused": outcome.reused,
        "seconds": outcome.seconds,
        "metrics": to_json(outcome.metrics),
    }
    baseline = None
    if baseline_plan is not None:
        notify("baseline: the same task without parents")
        baseline = _execute(baseline_plan, store, host, notify, force)
        payload["baseline"] = {
            "id": baseline.id,
            "path": str(baseline.path),
            "metrics": to_json(baseline.metrics),
        }
    shown: Shown = [
        *tables.result(to_json(outcome.metrics), to_json(baseline.metrics) if baseline else None)
    ]
    shown += tables.cost(outcome.path)
    trained = outcome.metrics.train
    if trained is not None:
        shown.append(
            f"trained {trained.trainable_parameters:,} of {trained.total_parameters:,}"
            f" parameters, {trained.steps} steps, {trained.seconds:.0f} s"
        )
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def _zero_shot_task(
    requested: Request, planned: Plan, seeds: str, wanted: bool | None, problems: Problems
) -> str:
    """The target that the finished module is scored on besides; "" for none."""
    task = tasks.load(planned.task)
    if wanted is None:
        on_samples = planned.source_of(task.name).kind == "embedded"
        named = seeds or requested.languages is not None or requested.split is not None
        return task.zero_shot if on_samples and not named and not requested.retained else ""
    if not wanted:
        return ""
    if seeds:
        problems.add("--zero-shot scores one module: leave --seeds out")
    if requested.retained:
        problems.add("--zero-shot scores a module that is trained: leave --retained out")
    if not task.zero_shot:
        able = ", ".join(name for name in tasks.names() if tasks.load(name).zero_shot)
        problems.add(
            f"--zero-shot: no target poses the question of '{task.name}' in other languages ({able}"
            " have one)"
        )
    return task.zero_shot


def _scored_elsewhere(
    task: str,
    module: str,
    requested: Request,
    store: Store,
    host: _LazyHost,
    notify: Notify,
    force: bool,
) -> tuple[dict[str, Any], Shown]:
    """Scores the finished run in the directory `module` on another task."""
    limits = tuple(pair for pair in requested.overrides if pair[0] in EVALUATION_KEYS)
    request = replace(
        requested,
        task=task,
        on=(),
        compose=None,
        languages=None,
        split=None,
        overrides=limits,
        parent_overrides=(),
        trackers=(),
    )
    planned = plan_scoring(request, module, store, notify=notify)
    notify(f"the same module on {task}, which it was not trained on")
    outcome = _execute(planned, store, host, notify, force)
    metrics = to_json(outcome.metrics)
    payload = {"id": outcome.id, "path": str(outcome.path), "metrics": metrics}
    return payload, [*tables.result(metrics), f"run: {outcome.path}"]


def spread(
    by_seed: Mapping[int, Mapping[str, Any]], baseline: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Mean and t-interval, over seeds, of the score and of every language's headline metric.

    With a baseline each has a `difference`: paired over the seeds, with a verdict that is
    "inconclusive" where its interval includes 0.
    """

    def of(*keys: str) -> dict[str, Any]:
        values = {seed: float(_at(metrics, keys)) for seed, metrics in by_seed.items()}
        bounds = statistics.interval(list(values.values()))
        entry: dict[str, Any] = {
            "mean": sum(values.values()) / len(values),
            "seeds": {str(s): v for s, v in values.items()},
            "interval": bounds.record() if bounds else None,
        }
        if baseline:
            difference = statistics.paired(
                values, {seed: float(_at(metrics, keys)) for seed, metrics in baseline.items()}
            )
            entry["difference"] = difference.record() if difference else None
        return entry

    first = next(iter(by_seed.values()))
    summary: dict[str, Any] = {"score": of("score"), "tasks": {}}
    for name, entry in first["tasks"].items():
        summary["tasks"][name] = {
            "split": entry["split"],
            "metric": entry["metric"],
            "score": of("tasks", name, "score"),
            "languages": {
                language: of("tasks", name, "languages", language, entry["metric"])
                for language in entry["languages"]
            },
        }
    return summary


def _at(metrics: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = metrics
    for key in keys:
        value = value[key]
    return value


class _LazyHost:
    """Keeps one backbone in memory from plan to plan. Made when a plan is first executed: that
    imports torch.
    """

    host: Any = None


def _execute(planned: Plan, store: Store, lazy_host: _LazyHost, notify: Notify, force: bool) -> Any:
    from adapters_xtl.runs.outcome import from_store

    started = time.monotonic()
    stored = None if force else from_store(planned, store)
    if stored is not None:
        if planned.request.trackers:
            notify(f"--report-to has no effect: the store has run {stored.id}")
        return replace(stored, seconds=round(time.monotonic() - started, 3))
    if planned.backbone.source in ("embedded", "random"):
        from adapters_xtl.backbones import embedded

        embedded.prepare(notify)
    from adapters_xtl import experiment
    from adapters_xtl.models.network import Host

    lazy_host.host = lazy_host.host or Host()
    return experiment.execute(planned, store, notify=notify, force=force, host=lazy_host.host)


def _dry(planned: Plan, store: Store) -> tuple[dict[str, Any], Shown]:
    from adapters_xtl.runs.outcome import finished_directory, from_store

    stored = {
        module.id: finished_directory(module, store) is not None for module in planned.modules
    }
    stored[planned.evaluation.id] = from_store(planned, store) is not None
    answer = planned.target if planned.inline else None
    payload = {
        "id": answer.id if answer else planned.evaluation.id,
        "dry_run": True,
        "reused": stored[planned.evaluation.id],
        "runs": [
            {
                "task": module.task,
                "id": module.id,
                "parents": list(module.run.parents),
                "in_store": stored[module.id],
                "spec": module.run.identity(),
            }
            for module in planned.modules
        ],
        "evaluation": to_json(planned.evaluation.record()),
        "notes": list(planned.notes),
    }
    return payload, [tables.planned(planned, stored)]
