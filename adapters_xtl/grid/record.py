"""A study's record: settings, rows, contrasts, tables, figures, failures and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters_xtl.base import machine
from adapters_xtl.base.files import digest
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.grid import published
from adapters_xtl.grid.cell_plans import CellPlans
from adapters_xtl.grid.cells import Grid, Overrides, Tuning
from adapters_xtl.grid.finished_cells import LEVEL, FinishedCell, FinishedCells
from adapters_xtl.grid.item_contrasts import over_items
from adapters_xtl.grid.study import Study
from adapters_xtl.grid.summary import averages, differences, row, unequal
from adapters_xtl.runs.request import Plan

__all__ = ["first_plan", "grid_id", "make_record", "title"]

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

# what was added to requests since the first studies were recorded, where nothing sets it
UNSET = (("memory", None), ("reseed", False), ("retained", False))


def first_plan(plans: CellPlans) -> Plan:
    """The plan of the first cell's first run: backbone, data and device are the same in all."""
    return plans.plan(plans.request(plans.cells[0], plans.grid.seeds[0]))


def title(grid: Grid) -> str:
    """The tasks of a grid, for titles and for the names of directories."""
    return "all" if grid.skip_lacking else "+".join(grid.tasks)[:60]


def grid_id(grid: Grid) -> str:
    """12 hex digits of the sha256 of the grid's content; where the runs lie, and which trackers
    follow them, is no part of it.
    """
    shared = replace(grid.base, trackers=())
    identity = {
        "study": grid.study,
        "axes": {axis.name: list(axis.values) for axis in grid.axes},
        "cells": [[list(pair) for pair in cell.point] for cell in grid.cells],
        "seeds": list(grid.seeds),
        "tuning": _tuning(grid.tuning),
        "base": {
            name: value
            for name, value in vars(shared).items()
            if name not in NOT_SHARED and (name, value) not in UNSET
        },
        "overrides": _pairs(shared.overrides),
        "parent_overrides": _pairs(shared.parent_overrides),
        "own": {method: _pairs(pairs) for method, pairs in grid.own.items()},
        "own_parents": {method: _pairs(pairs) for method, pairs in grid.own_parents.items()},
        "of_task": {task: _pairs(pairs) for task, pairs in grid.of_task.items()},
    }
    return digest(identity)[:12]


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


def make_record(
    study: Study, plans: CellPlans, cells: Sequence[FinishedCell], *, command: str, heading: str
) -> dict[str, Any]:
    """The record of a study as JSON.

    heading  the title of the study file; "" for one made of the tasks
    """
    grid, plan = plans.grid, first_plan(plans)
    rows = _rows(plans, cells)
    finished = FinishedCells(grid, cells, study.contrasts(plans.cells), study.margin)
    tasks = [task for task in grid.tasks if task not in plans.left_out]
    answer = study.answer(finished)
    count = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"
    parts = (heading or title(grid), plan.backbone.name, f"{_source(plan)} data", count)
    left_out = [f"left out: {task}: {reason}" for task, reason in plans.left_out.items()]
    context = [*_context(plan, rows), *left_out]
    sentences = [f"{note[0].upper()}{note[1:]}." for note in context]
    return {
        "kind": "comparison" if study.name == "methods" else "study",
        "study": study.name,
        "id": grid_id(grid),
        "command": command,
        "title": " · ".join(parts),
        "question": study.question,
        "axes": [to_json(axis) for axis in grid.axes],
        "tasks": tasks,
        "seeds": list(grid.seeds),
        "level": LEVEL,
        "margin": study.margin,
        "device": plan.device,
        "backbone": {"name": plan.backbone.name, "fingerprint": plan.backbone.fingerprint},
        "data": _source(plan),
        "protocol": grid.base.protocol,
        "tuning": _tuning(grid.tuning),
        "cells": [
            {
                "point": dict(cell.cell.point),
                "state": cell.state,
                "runs": len(cell.runs),
                "expected": cell.expected,
                "failures": cell.failures,
            }
            for cell in cells
        ],
        "rows": rows,
        "averages": averages({cell.cell: cell.row for cell in cells if cell.row}, tasks, LEVEL),
        "contrasts": [
            {**result.record(), "items": over_items(finished, result.contrast)}
            for result in finished.contrasts
        ],
        "tables": [
            to_json(replace(table, notes=(*context, *table.notes)))
            for table in study.tables(finished)
        ],
        "figures": [
            to_json(replace(figure, caption="\n".join([figure.caption, *sentences]).strip()))
            for figure in study.figures(finished)
        ],
        "answer": to_json(answer) if answer else None,
        "evidence": {
            "for": list(study.evidence_for),
            "not_for": [*_no_evidence(plan), *study.no_evidence],
        },
        "failed": [failure for cell in cells for failure in cell.failures],
        "left_out": dict(plans.left_out),
        "no_evidence": _no_evidence(plan),
        "notes": [
            *_notes(grid, rows, plans.left_out, plan, plans.equal_settings.reference),
            *study.to_know,
        ],
        "published": published.record(tasks),
        "provenance": to_json(machine.describe()),
    }


def _rows(plans: CellPlans, cells: Sequence[FinishedCell]) -> list[dict[str, Any]]:
    """One line for each cell with a finished run, the differences between them filled in."""
    # an untrained backbone is the same under every method: its run → its one row
    bare_rows: dict[str, dict[str, Any]] = {}
    for finished in cells:
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
        cell_row["point"] = dict(cell.point)
        if cell.bare:
            cell_row = bare_rows.setdefault(cell_row["runs"][0]["run"], cell_row)
        finished.row = cell_row
    row_of_cell = {cell.cell: cell.row for cell in cells if cell.row is not None}
    differences(row_of_cell, LEVEL)
    return list({id(cell_row): cell_row for cell_row in row_of_cell.values()}.values())


def _source(plan: Plan) -> str:
    return "mirror" if plan.source.kind == "mirror" else str(plan.source)


def _no_evidence(plan: Plan) -> list[str]:
    return [
        NO_EVIDENCE[key] for key in (plan.source.kind, plan.backbone.name) if key in NO_EVIDENCE
    ]


def _context(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a table or a figure must say where it stands without the record: backbone, rows, metrics
    and splits, and what such numbers are no evidence for.
    """
    tasks_of: dict[tuple[str, str], list[str]] = {}
    for cell_row in rows:
        names = tasks_of.setdefault((cell_row["metric"], cell_row["split"]), [])
        if cell_row["task"] not in names:
            names.append(cell_row["task"])
    scored = "; ".join(
        f"{metric} of {', '.join(names)} ({split})" for (metric, split), names in tasks_of.items()
    )
    notes = [f"backbone {plan.backbone.name}, {_source(plan)} data", scored, *_no_evidence(plan)]
    return [note for note in notes if note]


def _notes(
    grid: Grid,
    rows: Sequence[Mapping[str, Any]],
    left_out: Mapping[str, str],
    plan: Plan,
    reference: str,
) -> list[str]:
    """What to know before the table is read, one sentence each."""
    seeds = ", ".join(map(str, grid.seeds))
    notes = [
        *_no_evidence(plan),
        f"scores: mean over seeds {seeds} and its {LEVEL:.0%} t-interval; gaps are paired over the"
        " seeds, and inconclusive when the interval includes 0 or there is one seed",
    ]
    for flag, shared, own in (
        ("--set", grid.base.overrides, grid.own),
        ("--set-parents", grid.base.parent_overrides, grid.own_parents),
    ):
        settings = [f"{key}={value}" for key, value in shared]
        settings += [
            f"{method}:{key}={value}" for method, pairs in own.items() for key, value in pairs
        ]
        if settings:
            notes.append(f"not the recipes' settings ({flag}): {', '.join(settings)}")
    for task, pairs in grid.of_task.items():
        settings = [f"{key}={value}" for key, value in pairs]
        notes.append(f"not the recipe's settings for {task} alone: {', '.join(settings)}")
    if len(grid.methods) > 1:
        notes.append(
            f"epochs, lengths, batches and selection are those of {reference}'s recipe for every"
            " method, unless set by hand; the learning rate is each method's own"
        )
    if grid.tuning:
        trials = len(next(iter(grid.tuning.trials.values())))
        notes.append(
            f"tuned: {trials} trials a row, the same number for every method, chosen on the select"
            f" split with seed {', '.join(map(str, grid.tuning.seeds))}; parents are not"
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
    if plan.device != "cuda":
        notes.append(
            "measured peak memory outside CUDA is the resident size of a run's whole process,"
            " libraries included; planned bytes (xtl plan, --dry-run) are those of tensors alone"
        )
    if grid.base.memory is not None:
        notes.append(
            f"--memory {grid.base.memory:g}: smaller micro-batches and checkpointing cost"
            " seconds; a run's provenance.json says which it was given"
        )
    if any(cell_row["energy_joules"] is not None for cell_row in rows):
        notes.append(
            "energy is what the device reports for the time of the training, other processes on it"
            " included"
        )
    notes += unequal(rows)
    return [*notes, *(f"left out: {task}: {why}" for task, why in left_out.items())]
