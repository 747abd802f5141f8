"""A request → the runs it needs, with their ids, before any model is loaded or any row is read.

All that is wrong with a request is found here (or in the data) and reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from adapters_xtl import formats, tasks
from adapters_xtl.backbones import BITS, registry
from adapters_xtl.base.errors import MismatchError, Problems, RequestError, XtlError, nearest
from adapters_xtl.base.machine import gpu, native_dtype
from adapters_xtl.data import PROTOCOLS
from adapters_xtl.data.sources import open_source
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import shape
from adapters_xtl.methods import COMPOSES
from adapters_xtl.planning.evaluations import plan_evaluation
from adapters_xtl.planning.jobs import job_of
from adapters_xtl.planning.stack import SELF, Stacks, attempt
from adapters_xtl.runs.request import Declared, Evaluation, Module, Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import lineage
from adapters_xtl.tasks import Task

__all__ = [
    "allowed_precisions",
    "chosen_head",
    "composed",
    "evaluate",
    "head_for",
    "make",
    "serve",
]
Notify = Callable[[str], None]


def allowed_precisions(request: Request, device: str, problems: Problems) -> dict[int, str]:
    """Bits that the frozen weights may have → compute type, the best first."""
    native = native_dtype(device)
    if request.bits != "auto" and (not request.bits.isdigit() or int(request.bits) not in BITS):
        problems.add(f"--bits {request.bits}: takes auto, {', '.join(map(str, BITS))}")
        return {32: native}
    if request.method == "full" and request.bits not in ("auto", "32"):
        problems.add(
            f"--bits {request.bits}: full fine-tuning trains the weights themselves, which stay at"
            " 32 bits"
        )
    return peak.precisions(request.bits, request.method, device, native)


def _budget(request: Request, device: str) -> tuple[int | None, str]:
    """(bytes that training may take or None, the flag that says so or "")."""
    if request.memory is not None:
        return peak.in_bytes(request.memory), f"--memory {request.memory:g}"
    found = gpu() if device == "cuda" else None
    return (found.memory_bytes - peak.CONTEXT, "") if found else (None, "")


def make(
    request: Request,
    methods: Mapping[str, Declared],
    *,
    store: Store,
    notify: Notify = lineage.silent,
) -> Plan:
    """The plan of a request. RequestError with every problem found, one a line."""
    problems = Problems()
    has_gpu = request.device == "cuda" or (request.device == "auto" and gpu() is not None)
    if request.device not in ("auto", "cpu", "cuda"):
        problems.add(f"--device {request.device}: takes auto, cpu or cuda")
    device = "cuda" if has_gpu else "cpu"
    backbone_name = request.backbone or ("xlmr-large" if has_gpu else "mini")
    data = request.data or ("hub" if has_gpu else "embedded")
    why = "a CUDA device is here" if has_gpu else "no CUDA device"
    defaulted = [
        name
        for name, asked in (("backbone", request.backbone), ("data", request.data))
        if asked is None
    ]
    notes = [
        f"backbone {backbone_name} · data {data} · method {request.method} · device {device}"
        + (f" ({' and '.join(defaulted)} by default: {why})" if defaulted else "")
    ]

    task = attempt(problems, lambda: tasks.load(request.task))
    if request.method not in methods:
        problems.add(
            f"--method: unknown method '{request.method}'{nearest(request.method, methods)}"
        )
    backbone = attempt(problems, lambda: registry.resolve(backbone_name))
    source = attempt(problems, lambda: open_source(data))
    attempt(problems, store.check_writable)
    if request.protocol not in PROTOCOLS:
        problems.add(f"--protocol {request.protocol}: takes {' or '.join(PROTOCOLS)}")
    if request.seed < 0 or request.seed >= 2**32:
        problems.add(f"--seed {request.seed}: takes a whole number from 0 to 4294967295")
    if request.memory is not None and not 0 < request.memory < float("inf"):
        problems.add(f"--memory {request.memory:g}: takes a number of GiB above 0")
    precisions = allowed_precisions(request, device, problems)
    compose = composed(request, methods, problems)
    if backbone is not None:
        named = backbone
        backbone = attempt(problems, lambda: registry.fingerprint(named))
    if backbone is not None:
        layers = int(registry.config(backbone)["num_hidden_layers"])
        if not 0 <= request.from_layer < layers:
            problems.add(
                f"--from-layer {request.from_layer}: {backbone.name} has layers 0 to {layers - 1}"
            )
    if task is None or request.method not in methods or backbone is None or source is None:
        if task is not None and source is not None:  # what is left can still be checked
            plan_evaluation(
                task,
                source,
                None,
                {},
                languages=request.languages,
                split=request.split,
                limit=0,
                members=task.members,
                problems=problems,
            )
        problems.raise_if_any()
    assert task is not None and backbone is not None and source is not None
    if backbone.note:
        notes.append(backbone.note)
    if source.kind == "embedded":
        notes.append("embedded sample rows: scores on them only show that the pipeline works")

    def assemble(bits: int, dtype: str, lean: frozenset[str]) -> Plan:
        stacks = Stacks(
            request, methods, problems, backbone, source, bits, dtype, store, notify, lean
        )
        return _assemble(stacks, task, device, compose, notes)

    return _fitted(assemble, precisions, *_budget(request, device))


def _fitted(
    assemble: Callable[[int, str, frozenset[str]], Plan],
    precisions: Mapping[int, str],
    budget: int | None,
    flag: str,
) -> Plan:
    """The plan with the bits, optimizers and ways that fit the budget."""
    bits, dtype = next(iter(precisions.items()))
    found = assemble(bits, dtype, frozenset())
    trained = [module for module in found.modules if module.stored is None and module.run.tasks]
    if budget is None or not trained:
        return found
    form = shape(registry.config(found.backbone), found.backbone.name)
    asked = {key for key, _ in (*found.request.overrides, *found.request.parent_overrides)}
    asked_jobs = {}
    for module in trained:
        keep = ("optimizer",) if "train.optimizer" in asked else ()
        job = job_of(module.run, found.device, len(module.below), keep)
        asked_jobs[f"{module} ({module.id})"] = replace(job, length=min(job.length, form.longest))
    fits = list(peak.settle(form, asked_jobs, budget, precisions, flag).values())
    lean = {
        module.task
        for module, fit in zip(trained, fits, strict=True)
        if fit.job.optimizer != module.run.hyper.optimizer
    }
    chosen = fits[0].job.bits
    if lean or chosen != bits:
        found = assemble(chosen, precisions[chosen], frozenset(lean))
        trained = [module for module in found.modules if module.stored is None and module.run.tasks]
    said = [
        f"memory for {module}: {fit}, predicted peak {peak.gib(fit.prediction.peak)} GiB of"
        f" {peak.gib(budget)}"
        for module, fit in zip(trained, fits, strict=True)
    ]
    return replace(
        found,
        notes=(*found.notes, *said),
        fits=dict(zip((each.id for each in trained), fits, strict=True)),
    )


def composed(request: Request, methods: Mapping[str, Declared], problems: Problems) -> str:
    """How a child meets its parents."""
    if request.compose is not None and request.compose not in COMPOSES:
        problems.add(f"--compose: unknown '{request.compose}'{nearest(request.compose, COMPOSES)}")
        return "stack"
    known = methods[request.method].COMPOSES if request.method in methods else {}
    compose = request.compose or ("stack" if "stack" in known else "init")
    if known and compose not in known:
        problems.add(
            f"--compose {compose}: not possible for method {request.method}; it takes"
            f" {', '.join(known)}"
        )
    if compose == "init" and len(request.on) > 1:
        problems.add(f"--compose init starts from exactly one parent, not {len(request.on)}")
    return compose


def _assemble(planner: Stacks, task: Task, device: str, compose: str, notes: list[str]) -> Plan:
    request, problems, backbone, source = (
        planner.request,
        planner.problems,
        planner.backbone,
        planner.source,
    )
    bits, dtype = planner.bits, planner.dtype
    chain = planner.chain(request.on, compose)
    target: Module | None = None
    if chain is not None:
        trains = task.trainable
        borrowed = chain and chain[-1].task == task.train_from and SELF not in request.on
        if trains or (task.train_from and not borrowed):
            target = planner.module(
                task.train_from or task.name, chain, request.overrides, "--set", compose
            )
        else:
            target = chain[-1] if chain else None
            _limit(
                request,
                f"'{task.name}' trains nothing here; --set-parents reaches what it evaluates",
                problems,
            )
    limit = next((value for key, value in request.overrides[::-1] if key == "eval.max_examples"), 0)
    members = [name for name, _ in target.run.tasks] if target else []
    bare = {"backbone": backbone.fingerprint, "bits": bits, "dtype": dtype}
    evaluation = plan_evaluation(
        task,
        source,
        target,
        bare,
        languages=request.languages,
        split=request.split,
        limit=limit if isinstance(limit, int) else 0,
        members=members,
        problems=problems,
    )
    problems.raise_if_any()
    if target is not None and target.task == task.name and target.stored is None:
        target = replace(target, evaluation=evaluation)
    wanted = [*(chain or ()), *([target] if target else [])]
    ordered = {module.id: module for module in wanted}.values()
    return Plan(
        request,
        task.name,
        backbone,
        source,
        bits,
        dtype,
        device,
        tuple(ordered),
        target,
        evaluation,
        tuple(notes),
    )


def _limit(request: Request, why: str, problems: Problems) -> int:
    """eval.max_examples of a request that trains nothing, which `why` says to whoever sets
    something of a training.
    """
    limit = 0
    for key, value in request.overrides:
        if key == "eval.max_examples":
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                limit = value
            else:
                problems.add(
                    f"--set: eval.max_examples takes a whole number from 0 on, not {value!r}"
                )
        elif key.partition(".")[0] in ("train", "method"):
            problems.add(f"--set {key}: {why}")
        else:
            problems.add(f"--set: unknown key '{key}'{nearest(key, ['eval.max_examples'])}")
    return limit


def _module(text: str, store: Store, notify: Notify) -> Module:
    path = lineage.find(text, store, notify)
    if path is None:
        known = [each.name for each in store.all()]
        raise RequestError(
            f"{text}: no run or bundle directory, no run id and no hub id{nearest(text, known)}"
        )
    return lineage.read(path, notify)


def serve(
    request: Request, text: str, store: Store, notify: Notify = lineage.silent
) -> tuple[Plan, tuple[str, ...]]:
    """The plan of a finished module (a run, a bundle, a hub id) that is to be used, and the tasks
    it has heads for.

    `request.task` "" stands for the module's own task, `request.backbone` None for the recorded
    one.
    """
    problems, kinds = Problems(), list[type[XtlError]]()
    module = attempt(problems, lambda: _module(text, store, notify), kinds)
    named = request.task or (module.task if module and module.task in tasks.names() else "tatoeba")
    task = attempt(problems, lambda: tasks.load(named))
    backbone = attempt(
        problems,
        lambda: (
            registry.fingerprint(lineage.backbone(module, request.backbone)) if module else None
        ),
    )
    if request.device not in ("auto", "cpu", "cuda"):
        problems.add(f"--device {request.device}: takes auto, cpu or cuda")
    has_gpu = request.device == "cuda" or (request.device == "auto" and gpu() is not None)
    data = request.data or ("hub" if has_gpu else "embedded")
    source = attempt(problems, lambda: open_source(data))
    problems.raise_if_any(*kinds)
    assert module is not None and task is not None and backbone is not None and source is not None
    if module.run.backbone != backbone.fingerprint and not request.allow_mismatch:
        problems.add(
            f"{text}: trained on a backbone with fingerprint {module.run.backbone[:12]}, but"
            f" {backbone.name} has {backbone.fingerprint[:12]}"
        )
        problems.add("--allow-mismatch loads it all the same")
    problems.raise_if_any(MismatchError)
    heads = tuple(name for name, _ in module.run.tasks)
    notes = [f"backbone {backbone.name} · data {data} · device {'cuda' if has_gpu else 'cpu'}"]
    asked = replace(request, method=module.run.method, data=data)
    nothing = Evaluation("", {}, {}, {}, False)
    return (
        Plan(
            asked,
            task.name,
            backbone,
            source,
            module.run.bits,
            module.run.dtype,
            "cuda" if has_gpu else "cpu",
            (),
            module,
            nothing,
            (*notes, *([backbone.note] if backbone.note else [])),
        ),
        heads,
    )


def evaluate(
    request: Request, text: str, store: Store, *, layer: str = "", notify: Notify = lineage.silent
) -> Plan:
    """The plan that scores a finished module on a task; nothing is trained. See `serve`."""
    problems, kinds = Problems(), list[type[XtlError]]()
    limit = _limit(
        request,
        "a finished module is scored here, and evaluating takes eval.max_examples alone",
        problems,
    )
    attempt(problems, store.check_writable)
    served = attempt(problems, lambda: serve(request, text, store, notify), kinds)
    if served is None:
        if (
            request.task in tasks.names() and (request.data or "embedded") != "hub"
        ):  # what is left can still be checked
            task, source = (
                tasks.load(request.task),
                attempt(problems, lambda: open_source(request.data or "embedded")),
            )
            if source is not None:
                plan_evaluation(
                    task,
                    source,
                    None,
                    {},
                    languages=request.languages,
                    split=request.split,
                    limit=limit,
                    members=task.members,
                    problems=problems,
                )
        problems.raise_if_any(*kinds)
    assert served is not None
    found, heads = served
    task = tasks.load(found.task)
    if not task.members and head_for(task, heads) is None:
        problems.add(
            f"{text}: has no head for '{task.name}'; `xtl recipe {task.name} --on {text}` trains"
            " one on it"
        )
    if layer and (task.members or formats.load(task.format).has_head):
        problems.add(
            f"--layer: '{task.name}' is read off the last layer by its head; layers are for"
            " retrieval"
        )
    layers = int(registry.config(found.backbone)["num_hidden_layers"])
    if layer and layer != "all" and not (layer.isdigit() and int(layer) <= layers):
        problems.add(f"--layer {layer}: takes 0 (embeddings) to {layers}, or all")
    scored = plan_evaluation(
        task,
        found.source,
        found.target,
        {},
        languages=request.languages,
        split=request.split,
        limit=limit,
        members=heads,
        problems=problems,
        layer=layer,
    )
    problems.raise_if_any()
    return replace(found, evaluation=scored)


def chosen_head(name: str, heads: tuple[str, ...], text: str) -> str:
    """The head of the module `text` that answers the task `name`; RequestError where none does."""
    found = head_for(tasks.load(name), heads)
    if found is not None:
        return found
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
    known = list(heads)
    form = formats.load(task.format) if task.format else None
    if form is not None and not form.has_head:
        return ""
    for name in (task.name, task.train_from):
        if name in known:
            return name
    alike = [
        name
        for name in known
        if (tasks.load(name).format, tasks.load(name).labels) == (task.format, task.labels)
    ]
    known_head = form is not None and form.labels_known(task.labels)
    return alike[0] if len(alike) == 1 and known_head else None
