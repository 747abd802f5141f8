"""The runs that a comparison comes to, before any of them is run: `xtl compare --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Plan
from adapters_xtl.studies import cost_forecast
from adapters_xtl.studies.cell_plans import CellPlans
from adapters_xtl.studies.cells import Cell, Overrides
from adapters_xtl.studies.tuning import best, select_score

__all__ = ["preview"]

IN_STORE = "in the store"


def preview(plans: CellPlans) -> dict[str, Any]:
    """Every run, each module once: whether the store has it, what its training will take.

    `planned_tensor_bytes` is the predicted peak of the tensors, not of the process. Nothing is run.
    """
    speeds = cost_forecast.speeds(plans.store, plans.comparison.base.device)
    runs: dict[str, dict[str, Any]] = {}
    for cell, kind, seed, values, plan in runs_to_come(plans):
        entry_of_cell = {
            "task": cell.task,
            "method": cell.variant.method,
            "bits": cell.variant.bits,
            "parents": list(cell.chain),
            "kind": kind,
            "seed": seed,
            "values": dict(values),
            "settings": plans.settings_source(cell),
            "stack": ">".join([*cell.chain, cell.task]),
            "predicted_training_seconds": None,
            "planned_tensor_bytes": None,
        }
        if plan is None:
            runs[f"{cell} {kind} {seed}"] = {
                **entry_of_cell,
                "id": None,
                "state": "after the trials" if plans.comparison.tuning else "after its parents",
            }
            continue
        for module in plan.modules:
            path = finished_directory(module, plans.store)
            own = plan.inline and module is plan.target
            entry = {
                **entry_of_cell,
                "id": module.id,
                "task": module.task,
                "stack": str(module),
                "bits": module.run.bits,
                "parents": [parent.task for parent in module.parents],
                "kind": kind if own else "parent",
                "values": dict(values) if module is plan.target else {},
                "settings": plans.settings_source(
                    cell, parent=kind == "parent" or module is not plan.target
                ),
                "state": IN_STORE if path else "would train",
            }
            if not path and module.run.tasks:
                entry["predicted_training_seconds"] = cost_forecast.seconds(
                    module, speeds, remote=plan.source.kind == "hub"
                )
                entry["planned_tensor_bytes"] = cost_forecast.peak_bytes(plan, module)
            elif not path:  # the control `random`: drawn, not trained
                entry["predicted_training_seconds"] = 0.0
            runs.setdefault(module.id, entry)
            if own:
                runs[module.id]["kind"] = kind
        if not plan.inline:
            scored = plans.store.find(plan.task, plan.evaluation.id) is not None
            runs.setdefault(
                plan.evaluation.id,
                {
                    **entry_of_cell,
                    "id": plan.evaluation.id,
                    "method": "none" if plan.target is None else cell.variant.method,
                    "bits": plan.bits,
                    "kind": "evaluation",
                    "stack": f"{cell.task} by {plan.target or 'the bare backbone'}",
                    "state": IN_STORE if scored else "would score",
                },
            )
    entries = list(runs.values())
    return {
        "dry_run": True,
        "runs": entries,
        "total": _total(entries),
        "left_out": dict(plans.left_out),
    }


def runs_to_come(plans: CellPlans) -> Iterator[tuple[Cell, str, int, Overrides, Plan | None]]:
    """Every run to come: (cell, "parent", "trial" or "report", seed, tuned values, plan).
    Nothing is run.

    The plan is None where it depends on what a run before it decides: a tuned value, a parent's id.
    """
    tuning = plans.comparison.tuning
    for cell in plans.cells:
        chosen: Overrides | None = ()
        if tuning and cell.trains:
            means: dict[int, list[float]] = {}
            for number, values in enumerate(tuning.trials[cell.variant.method]):
                for seed in tuning.seeds:
                    yield from _before(plans, cell, seed)
                    request = plans.trial(cell, seed, values)
                    planned = None if request.on == ("",) else plans.plan(request)
                    yield cell, "trial", seed, values, planned
                    if (
                        planned
                        and planned.target
                        and finished_directory(planned.target, plans.store)
                    ):
                        means.setdefault(number, []).append(select_score(planned, plans.store))
            whole = sum(map(len, means.values())) == len(tuning.seeds) * len(
                tuning.trials[cell.variant.method]
            )
            chosen = best(tuning, cell.variant.method, means) if whole else None
        for seed in plans.seeds(cell):
            yield from _before(plans, cell, seed)
            request = plans.steps(cell, seed, chosen or ())[-1]
            waits = chosen is None or request.on == ("",)
            yield cell, "report", seed, chosen or (), None if waits else plans.plan(request)


def _before(
    plans: CellPlans, cell: Cell, seed: int
) -> Iterator[tuple[Cell, str, int, Overrides, Plan | None]]:
    """The steps before a cell's own run."""
    for step in plans.steps(cell, seed)[:-1]:
        if step.on != ("",):
            yield cell, "parent", seed, (), plans.plan(step)


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the trainings that the store lacks; `complete`: each has a predicted time."""
    missing = [
        entry for entry in entries if entry["state"] != IN_STORE and entry["kind"] != "evaluation"
    ]
    seconds = [
        entry["predicted_training_seconds"]
        for entry in missing
        if entry["predicted_training_seconds"] is not None
    ]
    most_bytes = max((entry["planned_tensor_bytes"] or 0 for entry in missing), default=0)
    return {
        "runs": len(entries),
        "in_store": sum(entry["state"] == IN_STORE for entry in entries),
        "predicted_training_seconds": sum(seconds) if seconds or not missing else None,
        "complete": len(seconds) == len(missing),
        "planned_tensor_bytes": most_bytes or None,
    }
