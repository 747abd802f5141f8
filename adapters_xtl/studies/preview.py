"""The runs that a comparison comes to, before any of them is run: `xtl compare --dry-run`."""

from __future__ import annotations

from typing import Any

from adapters_xtl.runs.outcome import finished_directory
from adapters_xtl.studies import cost_forecast
from adapters_xtl.studies.execute import Worker

__all__ = ["preview"]

IN_STORE = "in the store"


def preview(worker: Worker) -> dict[str, Any]:
    """Every run, each module once: whether the store has it, what its training will take.

    `planned_tensor_bytes` is the predicted peak of the tensors, not of the process. Nothing is run.
    """
    speeds = cost_forecast.speeds(worker.store, worker.comparison.base.device)
    runs: dict[str, dict[str, Any]] = {}
    for cell, kind, seed, values, plan in worker.ahead():
        entry_of_cell = {
            "task": cell.task,
            "method": cell.variant.method,
            "bits": cell.variant.bits,
            "parents": list(cell.chain),
            "kind": kind,
            "seed": seed,
            "values": dict(values),
            "settings": worker.settings(cell),
            "stack": ">".join([*cell.chain, cell.task]),
            "predicted_training_seconds": None,
            "planned_tensor_bytes": None,
        }
        if plan is None:
            runs[f"{cell} {kind} {seed}"] = {
                **entry_of_cell,
                "id": None,
                "state": "after the trials" if worker.comparison.tuning else "after its parents",
            }
            continue
        for module in plan.modules:
            path = finished_directory(module, worker.store)
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
                "settings": worker.settings(
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
            scored = worker.store.find(plan.task, plan.evaluation.id) is not None
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
        "left_out": dict(worker.left_out),
    }


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
