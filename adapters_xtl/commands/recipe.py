"""`xtl recipe`: flags → a request → a plan → runs, or their answer from the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import methods, plan, tables, tasks
from adapters_xtl.data import Reader, read_training
from adapters_xtl.errors import Problems, RequestError
from adapters_xtl.request import Plan, Request
from adapters_xtl.sources import locate_training, open_source
from adapters_xtl.spec import PROTOCOLS, parse_override
from adapters_xtl.store import Store

__all__ = ["recipe", "request"]

Notify = Callable[[str], None]
Shown = list[Table | str]


def request(*, on: str, set_: Sequence[str], set_parents: Sequence[str], **options: Any) -> Request:
    """Flags → a request; every malformed override is reported at once."""
    problems = Problems()

    def overrides(texts: Sequence[str], flag: str) -> tuple[tuple[str, Any], ...]:
        found = []
        for text in texts:
            try:
                found.append(parse_override(text, flag))
            except RequestError as error:
                problems.catch(error)
        return tuple(found)

    own, parents = overrides(set_, "--set"), overrides(set_parents, "--set-parents")
    problems.raise_if_any()
    names = tuple(name.strip() for name in on.split(",") if name.strip())
    return Request(on=names, overrides=own, parent_overrides=parents, **options)


def recipe(asked: Request, *, baseline: bool, force: bool, dry_run: bool, notify: Notify) -> tuple[dict[str, Any], Shown]:
    """Runs a recipe. The payload is the contract's: id, path, reused, seconds, metrics."""
    store = Store(Path(asked.runs))
    declared = {name: methods.load(name) for name in methods.names()}
    try:
        planned = plan.make(asked, declared, store=store)
    except RequestError as error:
        raise RequestError("\n".join([str(error), *_data_problems(asked, str(error))])) from error
    bare = plan.make(replace(asked, on=(), compose=None), declared, store=store) if baseline and asked.on else None
    for note in planned.notes:
        notify(note)
    if dry_run:
        return _dry(planned, store)
    outcome = _execute(planned, store, notify, force)
    payload = {"id": outcome.id, "path": str(outcome.path), "reused": outcome.reused, "seconds": outcome.seconds,
               "metrics": outcome.metrics}  # fmt: skip
    other = None
    if bare is not None:
        notify("baseline: the same task without parents")
        other = _execute(bare, store, notify, force)
        payload["baseline"] = {"id": other.id, "path": str(other.path), "metrics": other.metrics}
    shown: Shown = [*tables.result(outcome.metrics, other.metrics if other else None)]
    trained = outcome.metrics["train"]
    if trained:
        shown.append(f"trained {trained['trainable_parameters']:,} of {trained['total_parameters']:,} parameters, "
                     f"{trained['steps']} steps, {trained['seconds']:.0f} s")  # fmt: skip
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def _data_problems(asked: Request, said: str) -> list[str]:
    """What is wrong with the rows of a request that is wrong already: all of it is said at once."""
    problems = Problems()
    try:
        task, source = tasks.load(asked.task), open_source(asked.data or "embedded")
        if task.train and asked.protocol in PROTOCOLS:
            files = locate_training(source, task, asked.protocol, tasks.load)
            read_training(Reader(strict=asked.strict), task, files, tasks.load)
    except RequestError as error:
        problems.catch(error)
    return [message for message in problems.messages if message not in said]


def _execute(planned: Plan, store: Store, notify: Notify, force: bool) -> Any:
    from adapters_xtl.answer import from_store

    started = time.monotonic()
    answered = None if force else from_store(planned, store)
    if answered is not None:
        return replace(answered, seconds=round(time.monotonic() - started, 3))
    if planned.backbone.source in ("embedded", "random"):
        from adapters_xtl import mini

        mini.prepare(notify)
    from adapters_xtl import experiment

    return experiment.execute(planned, store, notify=notify, force=force)


def _dry(planned: Plan, store: Store) -> tuple[dict[str, Any], Shown]:
    from adapters_xtl.answer import from_store, has

    have = {module.id: has(module, store) is not None for module in planned.modules}
    have[planned.evaluation.id] = from_store(planned, store) is not None
    answer = planned.target if planned.inline else None
    payload = {
        "id": answer.id if answer else planned.evaluation.id,
        "dry_run": True,
        "reused": have[planned.evaluation.id],
        "runs": [{"task": module.task, "id": module.id, "parents": list(module.run.parents), "in_store": have[module.id],
                  "spec": module.run.identity()} for module in planned.modules],
        "evaluation": planned.evaluation.record(),
        "notes": list(planned.notes),
    }  # fmt: skip
    return payload, [tables.planned(planned, have)]
