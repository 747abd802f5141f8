"""`xtl evaluate`: a finished module is scored on a task, and its predictions are exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.evaluation import xtreme_export
from adapters_xtl.pages import tables
from adapters_xtl.planning.finished_modules import plan_scoring
from adapters_xtl.runs.outcome import Outcome, from_store
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store

__all__ = ["evaluate"]

Notify = Callable[[str], None]
Shown = list[Table | str]
EXPORTS = ("xtreme",)


def evaluate(
    request: Request,
    module: str,
    *,
    layer: str,
    export: tuple[str, str] | None,
    force: bool,
    notify: Notify,
    problems: Problems | None = None,
) -> tuple[dict[str, Any], Shown]:
    """Scores a module on a task's rows; `export` (form, directory) also writes its predictions as a
    benchmark reads them.

    The payload is the contract's (id, path, reused, seconds, metrics), and the exported files.
    RequestError with every problem, those that `problems` holds included.
    """
    store, planned = Store(Path(request.runs)), None
    problems = Problems() if problems is None else problems
    with problems.catching():
        planned = plan_scoring(request, module, store, layer=layer, notify=notify)
    if export is not None:
        _check_export(export, request, planned, problems)
    problems.raise_if_any()
    assert planned is not None
    for note in planned.notes:
        notify(note)
    outcome = None if force else from_store(planned, store)
    if outcome is None:
        outcome = _execute(planned, store, force, notify)
    metrics = to_json(outcome.metrics)
    payload: dict[str, Any] = {
        "id": outcome.id,
        "path": str(outcome.path),
        "reused": outcome.reused,
        "seconds": outcome.seconds,
        "metrics": metrics,
    }
    shown: Shown = [*tables.result(metrics), *tables.cost(outcome.path)]
    if export is not None:
        written = xtreme_export.export(outcome.path, Path(export[1]))
        payload["exported"] = [str(path) for path in written]
        shown.append(f"exported: {len(written)} files under {export[1]}")
    shown.append(f"run: {outcome.path}" + (" (from the store)" if outcome.reused else ""))
    return payload, shown


def _execute(planned: Plan, store: Store, force: bool, notify: Notify) -> Outcome:
    from adapters_xtl import experiment  # costs torch

    if planned.backbone.source in ("embedded", "random"):
        from adapters_xtl.backbones import embedded

        embedded.prepare(notify)
    return experiment.execute(planned, store, notify=notify, force=force)


def _check_export(
    export: tuple[str, str], request: Request, planned: Plan | None, problems: Problems
) -> None:
    """What is wrong with an export, whatever is predicted."""
    form, directory = export
    if form not in EXPORTS:
        problems.add(f"--export '{clipped(form)}': no such form{nearest(form, EXPORTS)}")
    elif not directory:
        problems.add(f"--export {form} '': no directory is named")
    else:
        names = list(planned.evaluation.files) if planned else []
        if planned is None and request.task in tasks.names():
            names = [request.task]
        with problems.catching():
            source = planned.source.kind if planned else ""
            xtreme_export.check(form, names, source, Path(directory))
