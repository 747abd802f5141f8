"""A request → its plan: the runs it needs, with their ids, before a model is loaded or a row read.

`Planner` plans requests; a process that plans several shares one, so that sources, fingerprints
and files are looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import Backbone
from adapters_xtl.backbones.shape import Shape, retrieval_layer
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.data import PROTOCOLS
from adapters_xtl.data.own_files import OwnFiles
from adapters_xtl.data.sources import Source
from adapters_xtl.memory import peak
from adapters_xtl.planning.compositions import composition
from adapters_xtl.planning.evaluations import (
    Scope,
    merged_modules,
    plan_evaluation,
    report_limit,
    scopes_of,
)
from adapters_xtl.planning.hardware import (
    Machine,
    allowed_precisions,
    check_memory,
    choose_machine,
    memory_budget,
)
from adapters_xtl.planning.ineffective_settings import (
    check_effects,
    check_techniques,
    idle_flags,
)
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.planning.memory_jobs import job_of
from adapters_xtl.planning.modules import ModulePlanner
from adapters_xtl.planning.own_rows import named_as_task, requested_task
from adapters_xtl.planning.packages import check_packages
from adapters_xtl.planning.shots import reported_scopes
from adapters_xtl.runs.hyper import COMPILED_FROM
from adapters_xtl.runs.parent_settings import address_of
from adapters_xtl.runs.request import Module, Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import module_lookup
from adapters_xtl.tasks import Task

__all__ = ["Planner", "check_from_layer", "check_request", "layer_notes"]

SEEDS = 2**32


@dataclass(frozen=True)
class _Resolved:
    """What the names in a request stand for."""

    task: Task
    source: Source
    backbone: Backbone
    shape: Shape
    machine: Machine
    compose: str
    precisions: Mapping[int, str]
    scopes: Mapping[str, Scope]  # of a task of several, known only with its module
    notes: tuple[str, ...]
    own_files: OwnFiles | None = None


def check_request(request: Request, problems: Problems) -> None:
    """What is wrong with a request whatever the backbone and the rows."""
    if request.method not in methods.names():
        problems.add(
            f"--method: unknown method '{clipped(request.method)}'"
            f"{nearest(request.method, methods.names())}"
        )
    if request.protocol not in PROTOCOLS:
        problems.add(f"--protocol {clipped(request.protocol)}: takes {' or '.join(PROTOCOLS)}")
    if not 0 <= request.seed < SEEDS:
        problems.add(f"--seed {request.seed}: takes a whole number from 0 to {SEEDS - 1}")
    check_memory(request, problems)


class Planner:
    """Plans requests against one store."""

    def __init__(self, store: Store, notify: module_lookup.Notify = module_lookup.silent) -> None:
        self.store, self.notify = store, notify
        self.lookups = Lookups()
        self._plans: dict[str, Plan] = {}

    def plan(self, request: Request, problems: Problems | None = None) -> Plan:
        """The plan of a request. RequestError with every problem found, one a line, those that
        `problems` holds already included.

        A request that was planned before has the same plan: the store does not change it.
        """
        if (key := repr(request)) in self._plans and not (problems and problems.messages):
            return self._plans[key]
        problems = problems or Problems()
        resolved = self._resolve(request, problems)
        request = named_as_task(request, resolved.own_files)
        if request.from_layer not in range(resolved.shape.layers):
            request = replace(request, from_layer=0)  # is said already: nothing follows from it
        budget, flag = memory_budget(request, resolved.machine.device)
        bits, dtype = next(iter(resolved.precisions.items()))
        planned = self._assemble(request, resolved, bits, dtype, frozenset(), problems)
        if budget is not None:
            planned = self._fit(planned, resolved, budget, flag)
        check_packages(planned)
        self._plans[key] = planned
        return planned

    def _resolve(self, request: Request, problems: Problems) -> _Resolved:
        """Looks up what the request names; RequestError where something is not to be had."""
        machine = choose_machine(request, problems)
        task = backbone = source = shape = own_files = None
        scopes: dict[str, Scope] = {}
        with problems.catching():
            task, own_files = requested_task(request, self.lookups)
        check_request(request, problems)
        with problems.catching():
            backbone = self.lookups.backbone(machine.backbone)
            shape = self.lookups.shape(backbone)
        with problems.catching():
            source = self.lookups.source(machine.data)
        with problems.catching():
            self.store.check_writable()
        precisions = allowed_precisions(request, machine.device, problems)
        compose = composition(request, problems)
        if backbone is not None and shape is not None:
            check_from_layer(request, backbone.name, shape, problems)
        if task is not None and source is not None and not task.members:
            own_source = own_files or source
            scopes = scopes_of([task.name], own_source, request.languages, request.split, problems)
        if (
            task is None
            or backbone is None
            or shape is None
            or source is None
            or request.method not in methods.names()
        ):
            problems.raise_if_any()
        assert task is not None and backbone is not None
        assert shape is not None and source is not None
        notes = [machine.note, *([backbone.note] if backbone.note else [])]
        notes += layer_notes(request, shape)
        if own_files is not None:
            notes += own_files.notes()
        if source.kind == "embedded" and (
            own_files is None or any(tasks.exists(name) for name in request.on)
        ):
            notes.append("embedded sample rows: scores on them only show that the pipeline works")
        return _Resolved(
            task,
            source,
            backbone,
            shape,
            machine,
            compose,
            precisions,
            scopes,
            tuple(notes),
            own_files,
        )

    def _assemble(
        self,
        request: Request,
        resolved: _Resolved,
        bits: int,
        dtype: str,
        lean: frozenset[str],
        problems: Problems,
    ) -> Plan:
        """The plan at this precision. `lean`: tasks whose training takes the 8-bit optimizer."""
        planner = ModulePlanner(
            request,
            resolved.compose,
            problems,
            resolved.backbone,
            resolved.shape,
            resolved.source,
            resolved.machine.device,
            bits,
            dtype,
            self.store,
            self.lookups,
            self.notify,
            lean,
            own_files=resolved.own_files,
        )
        task, source = resolved.task, resolved.own_files or resolved.source
        limit = report_limit(request.overrides, task, problems)
        requested = planner.requested()
        if requested is None:
            problems.raise_if_any()
        assert requested is not None
        parents, target = requested
        own = target if all(target is not parent for parent in parents) else None
        check_effects(request, planner.named_parents, own, problems)
        to_train = [parent.module for parent in planner.named_parents if parent.trained]
        trainings = [*to_train, *([own] if own else [])]
        check_techniques(resolved.machine.device, trainings, problems)
        scopes = resolved.scopes
        if task.members and target is not None:
            names = [name for name, _ in target.run.tasks]
            scopes = scopes_of(names, source, request.languages, request.split, problems)
        scopes = reported_scopes(scopes, source, target, request.split, problems)
        bare = {"backbone": resolved.backbone.fingerprint, "bits": bits, "dtype": dtype}
        merged = merged_modules(request.overrides, target, bits, problems)
        evaluation = plan_evaluation(
            scopes,
            source,
            target,
            bare,
            self.lookups,
            problems,
            limit=limit,
            head=planner.head,
            merged=merged,
        )
        problems.raise_if_any()
        if own is not None and own.task == task.name:
            target = replace(own, evaluation=evaluation)
        modules = {module.id: module for module in (*parents, *([target] if target else []))}
        existing = [module for module in modules.values() if module.stored is not None]
        return Plan(
            request=request,
            task=task.name,
            backbone=resolved.backbone,
            source=resolved.source,
            own_files=resolved.own_files,
            bits=bits,
            dtype=dtype,
            device=resolved.machine.device,
            modules=tuple(modules.values()),
            target=target,
            evaluation=evaluation,
            notes=(*resolved.notes, *_compiling(modules.values(), resolved.machine.device)),
            idle=idle_flags(request, planner.named_parents, own, existing),
        )

    def _fit(self, planned: Plan, resolved: _Resolved, budget: int, flag: str) -> Plan:
        """The plan with the bits, optimizers and ways of running that fit the budget."""
        trained = _trained(planned)
        if not trained:
            # on CUDA a budget also caps what an evaluation may take
            if planned.request.memory is None or planned.device == "cuda":
                return planned
            idle = "--memory means nothing here: nothing is trained"
            return replace(planned, idle=(*planned.idle, idle))
        request, shape = planned.request, resolved.shape
        keys = {address_of(key)[1] for key, _ in (*request.overrides, *request.parent_overrides)}
        keep = ("optimizer",) if "train.optimizer" in keys else ()
        jobs = {}
        for module in trained:
            job = job_of(module.run, planned.device, len(module.below), keep)
            job = replace(job, length=min(job.length, shape.longest))
            jobs[f"{module} ({module.id})"] = job
        fits = list(peak.settle(shape, jobs, budget, resolved.precisions, flag).values())
        lean = frozenset(
            module.task
            for module, fit in zip(trained, fits, strict=True)
            if fit.job.optimizer != module.run.hyper.optimizer
        )
        bits = fits[0].job.bits
        if lean or bits != planned.bits:  # bits and optimizer are identity: other runs
            planned = self._assemble(
                request, resolved, bits, resolved.precisions[bits], lean, Problems()
            )
            trained = _trained(planned)
        notes = [
            f"memory for {module}: {fit}, predicted peak {peak.gib(fit.prediction.peak)} GiB of"
            f" {peak.gib(budget)}{', without what compiling adds' if fit.job.compiled else ''}"
            for module, fit in zip(trained, fits, strict=True)
        ]
        return replace(
            planned,
            notes=(*planned.notes, *notes),
            fits=dict(zip((module.id for module in trained), fits, strict=True)),
        )


def _trained(planned: Plan) -> list[Module]:
    """The modules of a plan that are trained, or were under the same id."""
    return [module for module in planned.modules if module.stored is None and module.run.tasks]


def _compiling(modules: Iterable[Module], device: str) -> list[str]:
    """A line for each training whose layers are compiled, or may be."""
    lines = []
    for module in modules:
        hyper = module.run.hyper
        if module.stored is not None or not module.run.tasks or hyper.compiled == "off":
            continue
        reason = hyper.against_compiling(device, hyper.max_steps or COMPILED_FROM)
        decision = f"no, {reason}" if reason else "yes"
        if not reason and hyper.compiled == "auto" and not hyper.max_steps:
            decision = f"if its rows make {COMPILED_FROM:,} steps or more"
        lines.append(f"layers compiled for {module}: {decision}")
    return lines


def check_from_layer(request: Request, backbone: str, shape: Shape, problems: Problems) -> None:
    """`--from-layer` names one of the backbone's layers."""
    if not 0 <= request.from_layer < shape.layers:
        problems.add(
            f"--from-layer {request.from_layer}: {backbone} has layers 0 to {shape.layers - 1}"
        )


def layer_notes(request: Request, shape: Shape) -> list[str]:
    """A warning where modules begin near the hidden state that retrieval reads, or above it."""
    lowest, read = request.from_layer, retrieval_layer(shape.layers)
    if not lowest or not methods.load(request.method).takes_from_layer:
        return []
    below = read - lowest  # layers with a module of which the state is a function
    if below > max(1, shape.layers // 8):
        return []
    what = (
        f"{below} layer{'s' if below > 1 else ''} with a module"
        if below > 0
        else "no layer with a module: embeddings are the backbone's own"
    )
    return [
        f"--from-layer {lowest}: retrieval and embed() read hidden state {read} of {shape.layers},"
        f" below which there is {what}"
    ]
