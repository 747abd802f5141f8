"""`xtl plan`: what a training will take of the memory, line by line, and the way to run it that
fits a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.base.errors import Problems, RequestError, XtlError, nearest
from adapters_xtl.base.machine import gpu
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.data.sources import open_source
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job, shape
from adapters_xtl.memory.peak import Fit
from adapters_xtl.planning.jobs import config as backbone_config
from adapters_xtl.planning.jobs import job_of
from adapters_xtl.planning.plan import allowed_precisions, composed
from adapters_xtl.planning.stack import attempt
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import read_recipe, resolve_settings
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored import is_run, read_run_module
from adapters_xtl.sharing import hub

__all__ = ["plan"]

# options whose bytes are counted, or that have none; of others the library is asked whether it
# knows them
COUNTED: Mapping[str, tuple[str, ...]] = {
    "bottleneck": ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"),
    "lora": (
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "use_rslora",
        "init_lora_weights",
    ),
    "full": (),
}
LINES: Mapping[str, str] = {
    "embeddings": "embedding tables",
    "layers": "encoder layers, as stored",
    "parents": "parents' modules",
    "module": "module that trains",
    "head": "head",
    "optimizer": "optimizer state",
    "gradients": "gradients",
    "activations": "activations kept",
    "workspace": "passing tensors and workspace",
}


def plan(asked: Request, budget_gib: float | None) -> tuple[dict[str, Any], list[Table | str]]:
    """The plan of `asked`; RequestError naming the smallest budget when `budget_gib` is too small.
    Nothing is loaded.
    """
    problems = Problems()
    device = asked.device if asked.device != "auto" else "cuda" if gpu() else "cpu"
    if device not in ("cpu", "cuda"):
        problems.add(f"--device {asked.device}: takes auto, cpu or cuda")
    if asked.method not in methods.names():
        problems.add(
            f"--method: unknown method '{asked.method}'{nearest(asked.method, methods.names())}"
        )
    bits = allowed_precisions(asked, device, problems)
    if budget_gib is not None and not 0 < budget_gib < float("inf"):
        problems.add(f"--memory {budget_gib:g}: takes a number of GiB above 0")
    try:
        tasks.load(asked.task)
    except RequestError as error:
        problems.catch(error)
    problems.raise_if_any()
    name = asked.backbone or ("xlmr-large" if device == "cuda" else "mini")
    config = backbone_config(name)
    form = shape(config, f"--backbone {name}")
    if not 0 <= asked.from_layer < form.layers:
        raise RequestError(
            f"--from-layer {asked.from_layer}: {name} has layers 0 to {form.layers - 1}"
        )
    notes = [
        f"{name} · {asked.method} · {device}: {form.layers} layers, hidden size {form.hidden},"
        f" {form.vocab:,} tokens, {form.parameters / 1e6:.0f} M parameters"
    ]
    if config.get("model_type") not in registry.MODEL_TYPES:
        notes.append(
            f"model_type {config.get('model_type')!r} cannot be trained here: this is the plan of"
            " its sizes"
        )
    jobs = _jobs(asked, name, device, form.longest, bits, problems)
    problems.raise_if_any()
    budget = peak.in_bytes(budget_gib) if budget_gib is not None else None
    cuda_device = gpu() if device == "cuda" else None
    implied = budget is None and cuda_device is not None
    if budget is None and cuda_device is not None:
        budget = cuda_device.memory_bytes - peak.CONTEXT
        notes.append(
            f"budget: {cuda_device.name}'s memory less {peak.gib(peak.CONTEXT)} GiB for CUDA itself"
        )
    fits = peak.settle(form, jobs, budget, bits, "" if implied else f"--memory {budget_gib or 0:g}")
    target = next(reversed(fits))
    fit = fits[target]
    smallest = peak.least(form, jobs[target], bits)
    if jobs[target].sequences > 1:
        notes.append(f"{jobs[target].sequences} sequences an example")
    notes.append(f"{jobs[target].length} tokens an input: shorter inputs take less")
    if more := sorted(set(jobs[target].options) - set(COUNTED[asked.method])):
        notes.append(
            f"not counted: what {', '.join(f'method.{option}' for option in more)} may add"
        )
    payload = {
        "task": asked.task,
        "trains": target,
        "backbone": name,
        "method": asked.method,
        "device": device,
        "parents": jobs[target].parents,
        "length": jobs[target].length,
        "budget_bytes": budget,
        "fits": budget is None or fit.needs <= budget,
        **fit.record(),
        "smallest_budget_bytes": smallest.needs,
        "smallest": str(smallest),
        "others": {each: other.record() for each, other in fits.items() if each != target},
        "notes": notes,
    }
    return payload, _shown(target, fit, fits, budget, smallest, notes)


def _jobs(
    asked: Request,
    name: str,
    device: str,
    longest: int,
    bits: Mapping[int, str],
    problems: Problems,
) -> dict[str, Job]:
    """A job for everything the request trains: parents that are tasks, then the requested task."""
    compose = composed(asked, {asked.method: methods.load(asked.method)}, problems)
    if compose == "fuse" and len(set(asked.on)) < max(2, len(asked.on)):
        problems.add("--compose fuse joins two or more different parents: --on A,B")
    known = registry.NAMED.get(name)
    backbone = Backbone(name, "directory", name, lr=known.lr if known else {})
    data = asked.data or ("hub" if device == "cuda" else "embedded")
    source = attempt(problems, lambda: open_source(data).kind) or ""
    jobs: dict[str, Job] = {}
    height = 0  # modules that the next one stands on
    wanted = tasks.load(asked.task)
    top = asked.on[-1] if asked.on and asked.on[-1] in tasks.names() else ""
    borrowed = (
        bool(top) and (tasks.load(top).train_from or top) == wanted.train_from
    )  # that module is what is asked for
    chain = [*asked.on, *([] if borrowed else [asked.task])]
    for place, each in enumerate(chain):
        last = place == len(chain) - 1
        if each not in tasks.names() and each != "self":
            found = 1 if each == "random" else _existing(each, asked, problems)
            height = found if compose != "fuse" else height
            continue
        each = asked.task if each == "self" else each
        task = tasks.load(tasks.load(each).train_from or each)
        if not task.trainable:
            problems.add(
                f"'{each}' trains nothing: there is nothing to plan"
                if last and not borrowed
                else f"--on {each}: '{each}' trains nothing, so nothing can stand on it"
            )
            continue
        own = last and not borrowed
        recipe, path = read_recipe(task.name)
        method = methods.load(asked.method)
        fused = compose == "fuse" and own and bool(asked.on) and "fuse" in method.COMPOSES
        overrides, flag = (
            (asked.overrides, "--set") if own else (asked.parent_overrides, "--set-parents")
        )
        settings = resolve_settings(
            recipe=recipe,
            path=path,
            method=asked.method,
            methods=methods.names(),
            method_defaults={} if fused else method.DEFAULTS,
            method_lr=method.LR,
            backbone=backbone,
            source=source,
            flag=flag,
            overrides=overrides,
            problems=problems,
        )
        if (
            set(settings.method) - set(COUNTED[asked.method]) or fused
        ):  # others than usual: the library is asked
            for problem in method.check(settings.method, **({"fuse": True} if fused else {})):
                problems.add(problem)
        if settings.hyper.max_length > longest:
            problems.add(
                f"train.max_length={settings.hyper.max_length} for '{task.name}': {name} reads at"
                f" most {longest} tokens"
            )
        members = settings.hyper.tasks or (task.members or (task.name,))
        if settings.hyper.tasks and not task.members:
            problems.add(f"{flag}: train.tasks is for the task 'multi', not for '{task.name}'")
        trained = [member for member in tasks.names() if tasks.load(member).train]
        if unfit := [member for member in members if member not in trained]:
            for member in unfit:
                problems.add(
                    f"{flag}: train.tasks: '{member}' cannot be trained{nearest(member, trained)}"
                )
            continue
        first, dtype = next(iter(bits.items()))
        run = Run(
            tasks=tuple((member, 1) for member in members),
            data={},
            backbone="",
            method=asked.method,
            options=settings.method,
            compose="fuse" if fused else "",
            bits=first,
            dtype=dtype,
            from_layer=asked.from_layer,
            hyper=settings.hyper,
            seed=asked.seed,
            protocol=asked.protocol,
        )
        below = {"init": max(0, height - 1), "fuse": len(asked.on) if own else 0}.get(
            compose, height
        )
        keep = ("optimizer",) * any(key == "train.optimizer" for key, _ in overrides)
        made = attempt(
            problems,
            lambda run=run, below=below, keep=keep: job_of(  # type: ignore[misc]
                run, device, 0 if asked.method == "full" else below, keep
            ),
        )
        height += 1
        if made is not None:
            jobs[task.name if task.name not in jobs else f"{each} (again)"] = made
    return jobs


def _existing(name: str, asked: Request, problems: Problems) -> int:
    """Modules of the stack that a run, a bundle or a hub id is the top of; its descriptions are
    read and no weights.
    """
    store = Store(Path(asked.runs))
    path = Path(name) if is_run(Path(name)) else next(iter(store.by_id(name)), None)
    try:
        run = (
            read_run_module(path).run
            if path is not None
            else from_json(Run, hub.describe(name, lambda text: None)[1]["run"])
        )
    except XtlError as error:
        where = "no task, no run or bundle directory, no run id and no hub id"
        problems.add(
            f"--on {name}: {where}{nearest(name, tasks.names())}"
            if "no bundle directory" in str(error)
            else str(error).splitlines()[0]
        )
        return 1
    if run.method != asked.method:
        problems.add(f"--on {name}: a {run.method} module, but this request is {asked.method}")
    if run.compose == "fuse":
        problems.add(
            f"--on {name}: a fused module cannot be a parent; stack on one of its own parents"
            " instead"
        )
    return len(run.parents) + int(run.compose != "init")


def _shown(
    target: str,
    fit: Fit,
    fits: Mapping[str, Fit],
    budget: int | None,
    smallest: Fit,
    notes: list[str],
) -> list[Table | str]:
    table = Table(title=f"{target}: {fit}", title_justify="left", min_width=64)
    table.add_column("taken at the peak by")
    for column in ("MiB", "bytes"):
        table.add_column(column, justify="right")

    def line(text: str, size: int) -> None:
        table.add_row(text, f"{size / 2**20:,.1f}", f"{size:,}")

    found = fit.prediction
    for key, text in LINES.items():
        if found.lines[key]:
            line(text, found.lines[key])
    table.add_section()
    line(f"peak ({found.moment})", found.peak)
    line("reserve for what the allocator cannot reuse", fit.needs - found.peak)
    line("needed", fit.needs)
    if budget is not None:
        line("budget", budget)
    if found.host:
        line("embedding tables, on the CPU", found.host)
    shown: list[Table | str] = [*notes, table]
    shown += [
        f"{name}, trained before it: {other}, {peak.gib(other.needs)} GiB"
        for name, other in fits.items()
        if name != target
    ]
    by_layer = found.layers
    lowest, highest = min(by_layer), max(by_layer)
    kept = (
        f"{lowest / 2**20:,.1f}"
        if lowest == highest
        else f"{lowest / 2**20:,.1f} to {highest / 2**20:,.1f}"
    )
    shown.append(
        f"a layer keeps {kept} MiB of activations; {fit.cost:.2f} times the seconds of the plainest"
        " way (a rule of thumb)"
    )
    shown.append(f"smallest budget: {peak.gib(smallest.needs)} GiB ({smallest})")
    return shown
