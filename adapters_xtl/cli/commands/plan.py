"""`xtl plan`: the predicted memory of a training, line by line, and how to fit a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.table import Table

from adapters_xtl import methods
from adapters_xtl.backbones.prefix_files import BUDGET, GIB, budget_bytes
from adapters_xtl.base.errors import Problems
from adapters_xtl.memory import peak
from adapters_xtl.memory.prefix import PrefixPlan
from adapters_xtl.planning.memory_plan import MemoryPlan, plan_memory
from adapters_xtl.runs.request import Request

__all__ = ["plan"]

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


def plan(
    request: Request, budget_gib: float | None, problems: Problems | None = None
) -> tuple[dict[str, Any], list[Table | str]]:
    """The memory plan of `request`, for JSON and to be shown. Nothing is loaded.

    RequestError with every problem, those that `problems` holds included, and naming the smallest
    budget where `budget_gib` is too small.
    """
    planned = plan_memory(replace(request, memory=budget_gib), problems)
    job, fit, smallest = (
        planned.jobs[planned.target],
        planned.fits[planned.target],
        planned.smallest,
    )
    notes = list(planned.notes)
    if job.sequences > 1:
        notes.append(f"{job.sequences} sequences an example")
    notes.append(f"{job.length} tokens an input: shorter inputs take less")
    method = methods.load(request.method)
    uncounted = sorted(set(job.options) - method.options_counted)
    if not method.memory_counted:
        notes.append(
            f"an upper estimate: method {request.method} does not describe what its backward pass"
            " keeps, so every linear layer is counted as one that trains"
        )
    elif uncounted:
        notes.append(
            f"not counted: what {', '.join(f'method.{option}' for option in uncounted)} may add"
        )
    if job.compiled:
        notes.append("not counted: what compiled layers keep otherwise than the layers as they are")
    others = {name: other_fit for name, other_fit in planned.fits.items() if name != planned.target}
    payload = {
        "task": request.task,
        "trains": planned.target,
        "backbone": planned.backbone,
        "method": request.method,
        "device": planned.device,
        "parents": job.parents,
        "length": job.length,
        "budget_bytes": planned.budget,
        "fits": planned.budget is None or fit.needs <= planned.budget,
        **fit.record(),
        "smallest_budget_bytes": smallest.needs,
        "smallest": str(smallest),
        "prefix": _prefix_record(planned.prefix),
        "others": {name: other_fit.record() for name, other_fit in others.items()},
        "notes": notes,
    }
    return payload, _shown(planned, notes)


def _prefix_record(prefix: PrefixPlan | None) -> dict[str, Any] | None:
    if prefix is None:
        return None
    budget = budget_bytes()
    return {
        "layer": prefix.layer,
        "text_bytes": prefix.text_bytes,
        "texts": prefix.texts or None,
        "bytes": prefix.bytes or None,
        "budget_bytes": budget,
        "texts_in_budget": budget // prefix.text_bytes,
        "relative_step": round(prefix.step, 3),
        "relative_computing": round(prefix.computing, 3),
    }


def _prefix_lines(prefix: PrefixPlan, length: int) -> list[str]:
    """What keeping states takes and saves, in three lines."""
    mib, budget = 2**20, budget_bytes()
    texts, size = (prefix.texts, prefix.bytes) if prefix.texts else (1000, 1000 * prefix.text_bytes)
    number = f"{'at most ' if prefix.texts else ''}{texts:,} texts"
    return [
        f"states at layer {prefix.layer}: {size / mib:,.1f} MiB for {number} of {length} tokens",
        f"{BUDGET}={budget / GIB:g} holds those of {budget // prefix.text_bytes:,} such texts; of"
        " further ones they are computed at every step",
        f"a step then takes {prefix.step:.0%} of the work of one that runs the layers below with"
        f" dropout; computing the states takes {prefix.computing:.0%} of it, once for each text",
    ]


def _shown(planned: MemoryPlan, notes: list[str]) -> list[Table | str]:
    target, fits, budget = planned.target, planned.fits, planned.budget
    fit, smallest = fits[target], planned.smallest
    table = Table(title=f"{target}: {fit}", title_justify="left", min_width=64)
    table.add_column("taken at the peak by")
    for column in ("MiB", "bytes"):
        table.add_column(column, justify="right")

    def line(text: str, size: int) -> None:
        table.add_row(text, f"{size / 2**20:,.1f}", f"{size:,}")

    prediction = fit.prediction
    for key, text in LINES.items():
        if prediction.lines[key]:
            line(text, prediction.lines[key])
    table.add_section()
    line(f"peak ({prediction.moment})", prediction.peak)
    line("reserve for what the allocator cannot reuse", fit.needs - prediction.peak)
    line("needed", fit.needs)
    if budget is not None:
        line("budget", budget)
    if prediction.host:
        line("embedding tables, on the CPU", prediction.host)
    shown: list[Table | str] = [*notes, table]
    shown += [
        f"{name}, trained before it: {other}, {peak.gib(other.needs)} GiB"
        for name, other in fits.items()
        if name != target
    ]
    by_layer = prediction.layers
    lowest, highest = min(by_layer), max(by_layer)
    kept = (
        f"{lowest / 2**20:,.1f}"
        if lowest == highest
        else f"{lowest / 2**20:,.1f} to {highest / 2**20:,.1f}"
    )
    if planned.prefix is not None:
        shown += _prefix_lines(planned.prefix, fit.job.length)
    shown.append(
        f"a layer keeps {kept} MiB of activations; {fit.cost:.2f} times the seconds of the plainest"
        " way (a rule of thumb)"
    )
    shown.append(f"smallest budget: {peak.gib(smallest.needs)} GiB ({smallest})")
    return shown
