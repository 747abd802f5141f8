"""What a request's trainings take of the memory, and the way to run them that fits a budget.

The modules are planned as for `xtl recipe`, from the backbone's config alone: no rows are looked
for, no bundle is fetched, nothing is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.base.machine import gpu
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job
from adapters_xtl.memory.peak import Fit
from adapters_xtl.memory.prefix import PrefixPlan, plan_prefix
from adapters_xtl.planning.compositions import composition
from adapters_xtl.planning.evaluations import report_limit
from adapters_xtl.planning.hardware import allowed_precisions, choose_machine, memory_budget
from adapters_xtl.planning.ineffective_settings import (
    check_effects,
    check_techniques,
)
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.planning.memory_jobs import config, job_of
from adapters_xtl.planning.modules import ModulePlanner
from adapters_xtl.planning.own_rows import named_as_task, requested_task
from adapters_xtl.planning.plan import check_from_layer, check_request, layer_notes
from adapters_xtl.runs.parent_settings import of_parent
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.settings import EVALUATION_KEYS
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import is_run
from adapters_xtl.sharing import addresses, module_lookup

__all__ = ["MemoryPlan", "plan_memory"]


@dataclass(frozen=True)
class MemoryPlan:
    """The trainings of a request and how each is run.

    jobs      name → the training, the requested one last
    fits      name → how it is run, with what it then takes
    smallest  how the requested one is run in the least memory
    budget    bytes; None for no limit
    prefix    what the requested one takes and saves where its lower layers are fixed
    """

    backbone: str
    device: str
    jobs: dict[str, Job]
    fits: dict[str, Fit]
    smallest: Fit
    budget: int | None
    notes: tuple[str, ...]
    prefix: PrefixPlan | None = None

    @property
    def target(self) -> str:
        """The name of the requested training."""
        return next(reversed(self.jobs))


def plan_memory(request: Request, problems: Problems | None = None) -> MemoryPlan:
    """The memory plan of a request. RequestError with every problem, those that `problems` holds
    already included, and naming the smallest budget where the given one is too small.
    """
    problems = problems or Problems()
    machine = choose_machine(request, problems, absent_ok=True)
    check_request(request, problems)
    precisions = allowed_precisions(request, machine.device, problems)
    lookups, name = Lookups(), machine.backbone
    task = settings = sizes = own_files = None
    with problems.catching():
        task, own_files = requested_task(request, lookups)
        request = named_as_task(request, own_files)
    with problems.catching():
        settings = config(name)
        sizes = shape(settings, f"--backbone {name}")
        check_from_layer(request, name, sizes, problems)
        if request.from_layer not in range(sizes.layers):
            request = replace(request, from_layer=0)  # is said already: nothing follows from it
    if task is None or sizes is None or request.method not in methods.names():
        problems.raise_if_any()
    assert settings is not None and sizes is not None
    source = lookups.source("embedded")
    with problems.catching():
        source = lookups.source(machine.data)
    notes = [
        f"{name} · {request.method} · {machine.device}: {sizes.layers} layers, hidden size"
        f" {sizes.hidden}, {sizes.vocab:,} tokens, {sizes.parameters / 1e6:.0f} M parameters"
    ]
    if settings.get("model_type") not in registry.MODEL_TYPES:
        notes.append(
            f"model_type {settings.get('model_type')!r} cannot be trained here: this is the plan of"
            " its sizes"
        )
    bits, dtype = next(iter(precisions.items()))
    store = Store(Path(request.runs))
    planner = ModulePlanner(
        request,
        composition(request, problems),
        problems,
        Backbone(name, "directory", name),
        sizes,
        source,
        machine.device,
        bits,
        dtype,
        store,
        lookups,
        described=lambda parent: _described(parent, store),
        own_files=own_files,
    )
    jobs = _jobs(planner, machine.device)
    problems.raise_if_any()
    budget, flag = memory_budget(request, machine.device)
    device = gpu()
    if budget is not None and not flag and device:
        notes.append(
            f"budget: {device.name}'s memory less {peak.gib(peak.CONTEXT)} GiB for CUDA itself"
        )
    fits = peak.settle(sizes, jobs, budget, precisions, flag)
    target = next(reversed(jobs))
    smallest = peak.least(sizes, jobs[target], precisions)
    notes += layer_notes(request, sizes)
    prefix = plan_prefix(sizes, fits[target].job)
    return MemoryPlan(name, machine.device, jobs, fits, smallest, budget, tuple(notes), prefix)


def _jobs(planner: ModulePlanner, device: str) -> dict[str, Job]:
    """Name → job of every module that the request trains, in order."""
    request, problems = planner.request, planner.problems
    task = tasks.load(request.task)
    report_limit(request.overrides, task, problems)
    for key in dict.fromkeys(key for key, _ in request.overrides):
        if key in EVALUATION_KEYS:
            problems.add(f"--set {key}: means nothing for the memory of a training")
    requested = planner.requested()
    if requested is None:
        return {}
    parents, target = requested
    own = target if all(target is not parent for parent in parents) else None
    check_effects(request, planner.named_parents, own, problems)
    trained = [
        (parent.module, of_parent(request.parent_overrides, parent.position, parent.name))
        for parent in planner.named_parents
        if parent.trained
    ]
    modules = [module for module, _ in trained]
    trainings = [*modules, *([own] if own else [])]
    check_techniques(device, trainings, problems)
    jobs: dict[str, Job] = {}
    for module, overrides in (*trained, *([(own, request.overrides)] if own else [])):
        keep = ("optimizer",) if any(key == "train.optimizer" for key, _ in overrides) else ()
        name = module.task if module.task not in jobs else f"{module.task} (again)"
        with problems.catching():
            jobs[name] = job_of(module.run, device, len(module.below), keep)
    if not jobs and not problems.messages:
        problems.add(f"'{request.task}' trains nothing: there is nothing to plan")
    return jobs


def _described(name: str, store: Store) -> Module | None:
    """A parent as its description has it, without its weights; None where there is none."""
    path = Path(name)
    runs = [path] if is_run(path) else store.by_id(name)
    if runs:
        return module_lookup.read(runs[0])
    try:
        run = addresses.describe(name, module_lookup.silent)[1].run
    except RequestError as error:
        if "no bundle directory" in str(error):
            return None
        raise
    below: tuple[Module, ...] = ()
    for number, parent in enumerate(run.parents):  # of which only the ids are known
        below = (*below, Module(parent, replace(run, compose="stack" if number else ""), below))
    return Module(name, run, below)
