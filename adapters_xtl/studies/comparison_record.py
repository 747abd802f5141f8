"""A comparison executed and written down: the rows, averages, failures and notes of its JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters_xtl.base import machine
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.files import digest
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.runs.request import Plan
from adapters_xtl.studies import published
from adapters_xtl.studies.cell_plans import CellPlans
from adapters_xtl.studies.cells import Comparison, Overrides, Tuning
from adapters_xtl.studies.execute import Done, Worker
from adapters_xtl.studies.summary import averages, differences, row, unequal

__all__ = ["first_plan", "folder_name", "run"]

LEVEL = 0.95  # of every t-interval
# why the scores of such rows, or of such a backbone, say nothing about the field
NO_EVIDENCE = {
    "embedded": (
        "the embedded rows are samples: no evidence about a task, a method or an intermediate task"
    ),
    "mini": (
        "mini had labelled NLI, SQuAD and retrieval data in its own training, and its weights come"
        " from 4-bit files: no evidence about XLM-R, about intermediate training, or about what 8"
        " and 4 bits cost a larger model"
    ),
    "tiny": "tiny is random weights: its numbers only show that the machinery runs",
}
# fields of the shared request that each cell sets for itself, or that change no result
NOT_SHARED = ("task", "on", "method", "bits", "seed", "runs", "overrides", "parent_overrides")


def run(worker: Worker, *, command: str, notify: Callable[[str], None]) -> dict[str, Any]:
    """Runs every cell and returns the comparison's record. Runs that failed stand in it by name.

    Raises when no run succeeded: RequestError if each failed because the request was wrong.
    """
    started = time.monotonic()
    finished_cells = []
    for number, cell in enumerate(worker.plans.cells, start=1):
        notify(f"[{number}/{len(worker.plans.cells)}] {cell}")
        finished_cells.append(worker.run(cell))
    if not any(finished.runs for finished in finished_cells):
        failures = [failure for finished in finished_cells for failure in finished.failures]
        only_wrong_requests = all(failure["wrong_request"] for failure in failures)
        messages = "\n".join(dict.fromkeys(failure["error"] for failure in failures))
        raise (RequestError if only_wrong_requests else RunError)(messages)
    record = _record(worker.plans, finished_cells, command)
    record["seconds"] = round(time.monotonic() - started, 3)
    return record


def first_plan(plans: CellPlans) -> Plan:
    """The plan of the first cell's first run: backbone, data and device are the same in all."""
    return plans.plan(plans.steps(plans.cells[0], plans.comparison.seeds[0])[0])


def folder_name(comparison: Comparison) -> str:
    """`panx-1a2b3c4d5e6f`: the tasks, and the beginning of a digest of all that is asked."""
    return f"{_title(comparison)}-{_identity(comparison)[:12]}"


def _title(comparison: Comparison) -> str:
    return "all" if comparison.skip_lacking else "+".join(comparison.tasks)[:60]


def _identity(comparison: Comparison) -> str:
    """sha256 of what is compared; where the runs lie is no part of it."""
    shared = comparison.base
    return digest(
        {
            "tasks": list(comparison.tasks),
            "variants": [[variant.method, variant.bits] for variant in comparison.variants],
            "chains": [list(chain) for chain in comparison.chains],
            "seeds": list(comparison.seeds),
            "tuning": _tuning(comparison.tuning),
            "base": {
                name: value
                for name, value in vars(shared).items()
                if name not in NOT_SHARED and (name, value) != ("memory", None)
            },
            "overrides": _pairs(shared.overrides),
            "parent_overrides": _pairs(shared.parent_overrides),
            "own": {method: _pairs(pairs) for method, pairs in comparison.own.items()},
            "own_parents": {
                method: _pairs(pairs) for method, pairs in comparison.own_parents.items()
            },
        }
    )


def _pairs(overrides: Overrides) -> list[list[Any]]:
    return [[key, value] for key, value in overrides]


def _tuning(tuning: Tuning | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    return {
        "trials": {
            method: [dict(values) for values in trials] for method, trials in tuning.trials.items()
        },
        "seeds": list(tuning.seeds),
        "chosen_on": "select",
    }


def _record(plans: CellPlans, finished_cells: Sequence[Done], command: str) -> dict[str, Any]:
    comparison, plan = plans.comparison, first_plan(plans)
    row_of_cell: dict[tuple[str, str, str, tuple[str, ...]], dict[str, Any]] = {}
    # an untrained backbone is the same under every method: its run → its one row
    bare_rows: dict[str, dict[str, Any]] = {}
    for finished in finished_cells:
        if not finished.runs:
            continue
        cell = finished.cell
        cell_row = row(
            finished.runs,
            plans.store,
            method=cell.variant.method,
            chain=cell.chain,
            trains=cell.trains,
            level=LEVEL,
            settings=plans.settings_source(cell),
            trials=finished.trials,
            chosen=dict(finished.chosen) if finished.chosen is not None else None,
        )
        if cell.bare:
            cell_row = bare_rows.setdefault(cell_row["runs"][0]["run"], cell_row)
        row_of_cell[cell.task, cell.variant.method, cell.variant.bits, cell.chain] = cell_row
    rows = list({id(cell_row): cell_row for cell_row in row_of_cell.values()}.values())
    differences(row_of_cell, LEVEL)
    tasks = [task for task in comparison.tasks if task not in plans.left_out]
    seeds = comparison.seeds
    return {
        "kind": "comparison",
        "id": _identity(comparison)[:12],
        "command": command,
        "title": (
            f"{_title(comparison)} · {plan.backbone.name} · {_source(plan)} data · "
            f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        ),
        "tasks": tasks,
        "seeds": list(seeds),
        "level": LEVEL,
        "device": plan.device,
        "backbone": {"name": plan.backbone.name, "fingerprint": plan.backbone.fingerprint},
        "data": _source(plan),
        "protocol": comparison.base.protocol,
        "tuning": _tuning(comparison.tuning),
        "rows": rows,
        "averages": averages(row_of_cell, tasks, LEVEL),
        "failed": [failure for finished in finished_cells for failure in finished.failures],
        "left_out": dict(plans.left_out),
        "no_evidence": _no_evidence(plan),
        "notes": _notes(comparison, rows, plans.left_out, plan, plans.equal_settings.reference),
        "published": published.record(tasks),
        "provenance": to_json(machine.describe()),
    }


def _source(plan: Plan) -> str:
    return "mirror" if plan.source.kind == "mirror" else str(plan.source)


def _no_evidence(plan: Plan) -> list[str]:
    return [
        NO_EVIDENCE[key] for key in (plan.source.kind, plan.backbone.name) if key in NO_EVIDENCE
    ]


def _notes(
    comparison: Comparison,
    rows: Sequence[Mapping[str, Any]],
    left_out: Mapping[str, str],
    plan: Plan,
    reference: str,
) -> list[str]:
    """What to know before the table is read, one sentence each."""
    seeds = ", ".join(map(str, comparison.seeds))
    notes = [
        *_no_evidence(plan),
        f"scores: mean over seeds {seeds} and its {LEVEL:.0%} t-interval; gaps are paired over the"
        " seeds, and inconclusive when the interval includes 0 or there is one seed",
    ]
    for flag, shared, own in (
        ("--set", comparison.base.overrides, comparison.own),
        ("--set-parents", comparison.base.parent_overrides, comparison.own_parents),
    ):
        settings = [f"{key}={value}" for key, value in shared]
        settings += [
            f"{method}:{key}={value}" for method, pairs in own.items() for key, value in pairs
        ]
        if settings:
            notes.append(f"not the recipes' settings ({flag}): {', '.join(settings)}")
    if len({variant.method for variant in comparison.variants}) > 1:
        notes.append(
            f"epochs, lengths, batches and selection are those of {reference}'s recipe for every"
            " method, unless set by hand; the learning rate is each method's own"
        )
    if comparison.tuning:
        trials = len(next(iter(comparison.tuning.trials.values())))
        notes.append(
            f"tuned: {trials} trials a row, the same number for every method, chosen on the select"
            f" split with seed {', '.join(map(str, comparison.tuning.seeds))}; parents are not"
            " tuned"
        )
    if any(cell_row["compose"] == "stack" for cell_row in rows):
        notes.append(
            "a stack has more parameters than one module (bottlenecks run one after the other,"
            " LoRA modules are added up): only init, a copy of its parent that goes on training,"
            " has the single set of parameters of the paper"
        )
    if any(cell_row["selected_on"] for cell_row in rows):
        notes.append("rows that are reported also chose checkpoints: such scores are optimistic")
    if any(cell_row["trained_task"] not in (None, cell_row["task"]) for cell_row in rows):
        notes.append(
            "parameters, bytes, memory and seconds are those of the module that is scored, also"
            " where another task trained it"
        )
    if plan.device == "cpu":
        notes.append(
            "measured peak memory on the CPU is the resident size of a run's whole process,"
            " libraries included; planned bytes (xtl plan, --dry-run) are those of tensors alone"
        )
    if comparison.base.memory is not None:
        notes.append(
            f"--memory {comparison.base.memory:g}: smaller micro-batches and checkpointing cost"
            " seconds; a run's provenance.json says which it was given"
        )
    if any(cell_row["energy_joules"] is not None for cell_row in rows):
        notes.append(
            "energy is what the device reports for the time of the training, other processes on it"
            " included"
        )
    notes += unequal(rows)
    return [*notes, *(f"left out: {task}: {why}" for task, why in left_out.items())]
