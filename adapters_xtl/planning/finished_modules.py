"""Plans for modules that are trained already: for prediction, and for scoring on a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import MismatchError, Problems, RequestError, clipped, nearest
from adapters_xtl.base.numbers import parse_whole
from adapters_xtl.data.own_files import OwnFilesRequest
from adapters_xtl.planning.evaluations import (
    merged_modules,
    plan_evaluation,
    report_limit,
    scopes_of,
)
from adapters_xtl.planning.hardware import Machine, choose_machine
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.planning.own_rows import described_rows, scored_files
from adapters_xtl.planning.packages import check_packages
from adapters_xtl.planning.shots import reported_scopes
from adapters_xtl.runs.request import Evaluation, Module, Plan, Request
from adapters_xtl.runs.settings import EVALUATION_KEYS
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import module_lookup
from adapters_xtl.tasks import Task
from adapters_xtl.tasks._own_rows import known_task

__all__ = ["Served", "chosen_head", "head_for", "plan_scoring", "serve"]


@dataclass(frozen=True)
class Served:
    """A finished module ready to be used.

    plan   its plan, which scores nothing yet
    heads  the tasks that it has heads for
    """

    plan: Plan
    heads: tuple[str, ...]


def _module(name: str, store: Store, notify: module_lookup.Notify) -> Module:
    path = module_lookup.find(name, store, notify)
    if path is None:
        run_ids = [run.name for run in store.all()]
        raise RequestError(
            f"{clipped(name)}: no run or bundle directory, no run id and no hub"
            f" id{nearest(name, run_ids)}"
        )
    return module_lookup.read(path, notify)


def serve(
    request: Request,
    name: str,
    store: Store,
    lookups: Lookups | None = None,
    notify: module_lookup.Notify = module_lookup.silent,
    problems: Problems | None = None,
) -> Served:
    """The finished module `name` (a run, a bundle, a hub id), ready to be used.

    `request.task` "" stands for the module's own task, `request.backbone` None for the recorded
    one. RequestError with every problem, those that `problems` holds already included.
    """
    lookups, problems = lookups or Lookups(), problems or Problems()
    module = backbone = task = source = None
    with problems.catching():
        module = _module(name, store, notify)
    with problems.catching():
        recorded = module.task if module and tasks.exists(module.task) else "tatoeba"
        task = tasks.load(request.task or recorded)
        if module is not None and request.own_rows is not None:
            task = _task_of_own_rows(module, request.task, request.own_rows, task)
    if module is not None:
        with problems.catching():
            backbone = lookups.fingerprinted(module_lookup.backbone(module, request.backbone))
    machine: Machine = choose_machine(request, problems)
    with problems.catching():
        source = lookups.source(machine.data)
    if module is None or task is None or backbone is None or source is None:
        problems.raise_if_any()
    problems.raise_if_any()
    assert module is not None and task is not None and backbone is not None and source is not None
    if module.run.backbone != backbone.fingerprint and not request.allow_mismatch:
        raise MismatchError(
            f"{name}: trained on a backbone with fingerprint {module.run.backbone[:12]}, but"
            f" {backbone.name} has {backbone.fingerprint[:12]}\n--allow-mismatch loads it all the"
            " same"
        )
    idle = []
    if task.own is not None and request.data is not None:
        idle = ["--data means nothing here: the rows are own files"]
    note = f"backbone {backbone.name} · data {machine.data} · device {machine.device}"
    planned = Plan(
        request=replace(request, method=module.run.method, data=machine.data),
        task=task.name,
        backbone=backbone,
        source=source,
        bits=module.run.bits,
        dtype=module.run.dtype,
        device=machine.device,
        modules=(),
        target=module,
        evaluation=Evaluation("", {}, {}, {}, False),
        notes=(note, *([backbone.note] if backbone.note else []), *idle),
    )
    return Served(planned, tuple(trained for trained, _ in module.run.tasks))


def _task_of_own_rows(module: Module, named: str, own_rows: OwnFilesRequest, task: Task) -> Task:
    """The task on the rows that `--test-file` names. RequestError where the module has none."""
    if named and not tasks.load(named).own:
        raise RequestError(f"--task {named}: --test-file names own rows, of no other task")
    description = described_rows(module, own_rows)
    return task if description is None else known_task(description)


def plan_scoring(
    request: Request,
    name: str,
    store: Store,
    *,
    layer: str = "",
    lookups: Lookups | None = None,
    notify: module_lookup.Notify = module_lookup.silent,
    problems: Problems | None = None,
) -> Plan:
    """The plan that scores the finished module `name` on a task; nothing is trained. See `serve`.

    `layer`: the hidden state that retrieval pools, "all" for each of them; "" for the usual one.
    """
    lookups, problems = lookups or Lookups(), problems or Problems()
    for key, _ in request.overrides:
        if key.partition(".")[0] in ("train", "method", "speed"):
            problems.add(
                f"--set {clipped(key)}: a finished module is scored here, and evaluating takes"
                f" {' and '.join(EVALUATION_KEYS)} alone"
            )
        elif key not in EVALUATION_KEYS:
            suggestion = nearest(key, EVALUATION_KEYS)
            problems.add(f"--set: unknown key '{clipped(key)}'{suggestion}")
    with problems.catching():
        store.check_writable()
    served = serve(request, name, store, lookups, notify, problems)
    planned, heads = served.plan, served.heads
    task = tasks.load(planned.task)
    if task.own is not None and planned.target is not None:
        with problems.catching():
            own_files = scored_files(task, planned.target, request.own_rows, name)
            planned = replace(
                planned,
                own_files=own_files,
                request=replace(planned.request, own_rows=own_files.request),
                notes=(*planned.notes, *own_files.notes()),
            )
        problems.raise_if_any()
    limit = report_limit(request.overrides, task, problems)
    if task.members and len(heads) < 2:
        problems.add(
            f"--task {task.name}: {name} has one head, for '{heads[0]}', and '{task.name}' scores"
            " modules of several tasks"
            if heads
            else f"--task {task.name}: {name} was never trained and has no head"
        )
    elif not task.members and head_for(task, heads) is None:
        problems.add(
            f"{name}: has no head for '{task.name}'; `xtl recipe {task.name} --on {name}` trains"
            " one on it"
        )
    _check_layer(layer, task, lookups.shape(planned.backbone).layers, problems)
    names = heads if task.members else (task.name,)
    source = planned.source_of(task.name)
    scopes = scopes_of(names, source, request.languages, request.split, problems)
    scopes = reported_scopes(scopes, source, planned.target, request.split, problems)
    merged = merged_modules(request.overrides, planned.target, planned.bits, problems)
    evaluation = plan_evaluation(
        scopes,
        source,
        planned.target,
        {},
        lookups,
        problems,
        limit=limit,
        layer=layer,
        merged=merged,
    )
    problems.raise_if_any()
    planned = replace(planned, evaluation=evaluation)
    check_packages(planned)
    return planned


def _check_layer(layer: str, task: Task, layers: int, problems: Problems) -> None:
    if not layer:
        return
    if task.members or formats.load(task.format).has_head:
        problems.add(
            f"--layer: '{task.name}' is read off the last layer by its head; layers are for"
            " retrieval"
        )
    number = parse_whole(layer)
    if layer != "all" and (number is None or not 0 <= number <= layers):
        problems.add(f"--layer {clipped(layer)}: takes 0 (embeddings) to {layers}, or all")


def chosen_head(name: str, heads: tuple[str, ...], text: str) -> str:
    """The head of the module `text` that answers the task `name`; RequestError where none does."""
    head = head_for(tasks.load(name), heads)
    if head is not None:
        return head
    if tasks.load(name).members:
        raise RequestError(
            f"{text}: has several heads: --task says which one is asked ({', '.join(heads)})"
        )
    raise RequestError(f"{text}: has no head for '{name}'{nearest(name, heads)}")


def head_for(task: Task, heads: Iterable[str]) -> str | None:
    """Which of a module's heads answers a task: its own, the one it borrows, or one of the same
    format and labels.

    "" for retrieval, which needs none; None where no head fits.
    """
    head_names = list(heads)
    form = formats.load(task.format) if task.format else None
    if form is not None and not form.has_head:
        return ""
    for name in (task.name, task.train_from):
        if name in head_names:
            return name
    same_labels = [
        name
        for name in head_names
        if tasks.load(name).format == task.format
        and sorted(tasks.load(name).labels) == sorted(task.labels)
    ]
    known_head = form is not None and form.labels_known(task.labels)
    return same_labels[0] if len(same_labels) == 1 and known_head else None
