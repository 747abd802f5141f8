"""The spec and provenance of a planned run, as far as they are known before it begins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from adapters_xtl import methods, tasks
from adapters_xtl.base import machine
from adapters_xtl.runs.lineage import stored_module
from adapters_xtl.runs.records import (
    MEASURED,
    BackboneRecord,
    Lineage,
    ModuleReference,
    ParentRecord,
    Provenance,
    RowsRecord,
    Spec,
)
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.runs.store import Store

__all__ = ["planned_provenance", "planned_spec"]


def planned_spec(
    plan: Plan,
    kind: Literal["training", "evaluation"],
    module: Module | None,
    evaluation: Evaluation | None,
) -> Spec:
    """spec.json of the training or an evaluation of `module`; None: of the bare backbone."""
    request = asdict(plan.request)
    for name in ("runs", "trackers"):  # where it lies and who follows it: neither makes the run
        request.pop(name)
    if plan.request.own_rows is None:
        request.pop("own_rows")
    for name in ("reseed", "retained"):
        if not request[name]:
            request.pop(name)
    backbone = plan.backbone
    if kind == "training" and module is not None:
        task, run_id = module.task, module.id
    else:
        task, run_id = plan.task, plan.evaluation.id
    return Spec(
        id=run_id,
        kind=kind,
        task=task,
        request=request,
        backbone=BackboneRecord(
            backbone.name, backbone.location, backbone.fingerprint, backbone.revision
        ),
        data=plan.source_of(task).kind,
        bits=plan.bits,
        dtype=module.run.dtype if module else plan.dtype,
        run=module.run if module else None,
        module=ModuleReference(module.task, module.id) if module else None,
        parents=tuple(
            ModuleReference(parent.task, parent.id) for parent in (module.parents if module else ())
        ),
        evaluation=evaluation.record() if evaluation else None,
        own_rows=tasks.load(task).own if tasks.exists(task) else None,
    )


def _lineage(plan: Plan, module: Module | None, store: Store) -> Lineage:
    """The backbone's fingerprint and the digest of every parent's weights, in order."""
    parents = tuple(
        ParentRecord(parent.task, parent.id, stored_module(parent, store).module_sha256)
        for parent in (module.parents if module else ())
    )
    return Lineage(plan.backbone.fingerprint, parents)


def planned_provenance(
    plan: Plan, module: Module | None, store: Store, data: RowsRecord, threads: int
) -> Provenance:
    """provenance.json without what predicting will cost. `threads`: how many torch uses."""
    here = machine.describe()
    composition, fit = "", None
    if module is not None:
        composition = methods.load(module.run.method).compositions.get(module.run.compose, "")
        fit = plan.fits.get(module.id)
    return Provenance(
        versions=here.versions,
        git=here.git,
        hardware=here.hardware,
        device=plan.device,
        threads=threads,
        data=data,
        lineage=_lineage(plan, module, store),
        notes=plan.notes,
        composition=composition,
        memory_measured=MEASURED[plan.device],
        memory_plan=fit.record() if fit else None,
    )
