"""The runs that a study comes to, before any of them is run: `--dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters_xtl.grid import cost_forecast
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cost_forecast import Speeds
from adapters_xtl.grid.jobs import CellRun, cell_runs
from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.store import ANALYSES

__all__ = ["preview"]

NOT_TRAINED = ("evaluation", "analysis")  # kinds of runs
IN_STORE, DAMAGED = "in the store", "damaged in the store"


def preview(plans: CellPlans) -> dict[str, Any]:
    """Every run in the order of its carrying out, each module once: whether the store has it, what
    its training will take. Nothing is run.

    `planned_tensor_bytes` is the predicted peak of the tensors, not of the process;
    `predicted_training_seconds` comes from finished runs like it, or by the rule of
    `cost_forecast.estimated_seconds`, as `seconds_from` says; `predicted_stored_bytes` is the size
    of its module and heads.
    """
    speeds = cost_forecast.speeds(plans.store, plans.grid.base.device)
    runs: dict[str, dict[str, Any]] = {}
    for run in cell_runs(plans):
        if run.plan is None:
            _add_tuned(runs, run, plans, speeds)
        else:
            _add(runs, run, run.plan, plans, speeds)
    entries = list(runs.values())
    return {
        "dry_run": True,
        "cells": [dict(cell.point) for cell in plans.cells],
        "runs": entries,
        "total": {"cells": len(plans.cells), **_total(entries)},
        "left_out": dict(plans.left_out),
    }


def _entry(run: CellRun, plans: CellPlans) -> dict[str, Any]:
    cell = run.cell
    return {
        "task": cell.task,
        "method": cell.variant.method,
        "bits": cell.variant.bits,
        "parents": list(cell.chain),
        "kind": run.kind,
        "seed": run.seed,
        "values": dict(run.values),
        "settings": plans.settings_source(cell),
        "stack": ">".join([*cell.chain, cell.task]),
        "predicted_training_seconds": None,
        "seconds_from": "",
        "planned_tensor_bytes": None,
        "predicted_stored_bytes": None,
    }


def _add_tuned(
    runs: dict[str, dict[str, Any]], run: CellRun, plans: CellPlans, speeds: Speeds
) -> None:
    """A reported run whose settings its trials choose: its parents are known, its id is not."""
    plan = plans.plan(plans.request(run.cell, run.seed))
    for module in plan.modules:
        if module is not plan.target:
            _add_module(runs, run, plan, module, plans, speeds)
    entry = {**_entry(run, plans), "id": None, "state": "after the trials"}
    if plan.target is not None:
        entry |= _forecast(plan, plan.target, speeds)
    runs[str(run)] = entry


def _add(
    runs: dict[str, dict[str, Any]], run: CellRun, plan: Plan, plans: CellPlans, speeds: Speeds
) -> None:
    for module in plan.modules:
        _add_module(runs, run, plan, module, plans, speeds)
    if not plan.inline:
        scored = plans.store.find(plan.task, plan.evaluation.id)
        entry = {
            **_entry(run, plans),
            "id": plan.evaluation.id,
            "method": "none" if plan.target is None else run.cell.variant.method,
            "bits": plan.bits,
            "kind": "evaluation",
            "stack": f"{run.cell.task} by {plan.target or 'the bare backbone'}",
            "state": _state(scored, speeds) or "would score",
        }
        runs.setdefault(plan.evaluation.id, entry)
    if run.cell.analysis is not None and run.kind == "report":
        analysis_id = plans.analysis_id(run.cell.analysis, plan)
        analysed = plans.store.find(ANALYSES, analysis_id) is not None
        entry = {
            **_entry(run, plans),
            "id": analysis_id,
            "bits": plan.bits,
            "method": "none" if plan.target is None else run.cell.variant.method,
            "kind": "analysis",
            "stack": f"analysis of {plan.target or 'the bare backbone'}",
            "state": IN_STORE if analysed else "would analyse",
        }
        runs.setdefault(analysis_id, entry)


def _add_module(
    runs: dict[str, dict[str, Any]],
    run: CellRun,
    plan: Plan,
    module: Module,
    plans: CellPlans,
    speeds: Speeds,
) -> None:
    own = plan.inline and module is plan.target
    if module.id in runs:
        if own:
            runs[module.id]["kind"] = run.kind
        return
    state = _state(finished_directory(module, plans.store), speeds)
    parent = module is not plan.target
    entry = {
        **_entry(run, plans),
        "id": module.id,
        "task": module.task,
        "stack": str(module),
        "bits": module.run.bits,
        "parents": [below.task for below in module.parents],
        "kind": run.kind if own else "parent",
        "values": {} if parent else dict(run.values),
        "settings": plans.settings_source(run.cell, parent=parent),
        "state": state or "would train",
    }
    if not state:
        entry |= _forecast(plan, module, speeds)
    runs[module.id] = entry


def _state(path: Path | None, speeds: Speeds) -> str:
    """What the store has of a run, by its finished directory; "" where it has none."""
    if path is None:
        return ""
    return DAMAGED if path in speeds.damaged else IN_STORE


def _forecast(plan: Plan, module: Module, speeds: Speeds) -> dict[str, Any]:
    """What a training will take. An untrained module (the control `random`) is only drawn."""
    if not module.run.tasks:
        return {"predicted_training_seconds": 0.0, "seconds_from": "drawn, not trained"}
    seconds, origin = cost_forecast.predicted_seconds(plan, module, speeds)
    return {
        "predicted_training_seconds": seconds,
        "seconds_from": origin,
        "planned_tensor_bytes": cost_forecast.peak_bytes(plan, module),
        "predicted_stored_bytes": cost_forecast.stored_bytes(plan, module),
    }


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the trainings that the store lacks; `complete`: each has a predicted time."""
    missing = [
        entry
        for entry in entries
        if entry["state"] not in (IN_STORE, DAMAGED) and entry["kind"] not in NOT_TRAINED
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
        "damaged": sum(entry["state"] == DAMAGED for entry in entries),
        "predicted_training_seconds": sum(seconds) if seconds or not missing else None,
        "estimated": sum(entry["seconds_from"] == cost_forecast.BY_RULE for entry in missing),
        "complete": len(seconds) == len(missing),
        "planned_tensor_bytes": most_bytes or None,
        "predicted_stored_bytes": sum(entry["predicted_stored_bytes"] or 0 for entry in missing),
    }
