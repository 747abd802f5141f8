"""Predicts what a training will cost: its memory from sizes, its time from finished runs like it.

No time is guessed: without a finished run of the same backbone, method, precision and hardware, or
without the number of rows (a hub's rows are not fetched to be counted), the answer is None.
"""

from __future__ import annotations

from dataclasses import replace

from adapters_xtl import tasks
from adapters_xtl.backbones import registry
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base import machine
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.machine import Hardware
from adapters_xtl.data.reading import count_language_rows
from adapters_xtl.memory import peak
from adapters_xtl.planning import memory_jobs
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import list_runs

__all__ = ["Speeds", "examples", "peak_bytes", "seconds", "speeds"]

# (backbone fingerprint, method, bits, task) → [examples, seconds]; task "" holds all tasks together
Speeds = dict[tuple[str, str, int, str], list[float]]


def speeds(store: Store, device: str) -> Speeds:
    """Examples and seconds of every finished training of the store that was made on a device like
    this machine's.
    """
    here = _processor(machine.describe().hardware, device)
    totals: Speeds = {}
    for run in list_runs(store)[0]:
        trained, made_on = run.metrics.train, run.provenance.hardware
        if run.spec.run is None or trained is None or made_on is None:
            continue
        if _processor(made_on, run.provenance.device) != here:
            continue
        identity = run.spec.run
        for task in (run.spec.task, ""):
            key = (identity.backbone, identity.method, identity.bits, task)
            sums = totals.setdefault(key, [0.0, 0.0])
            sums[0] += trained.examples
            sums[1] += trained.seconds
    return totals


def _processor(hardware: Hardware, device: str) -> tuple[str | int, ...]:
    """What decides the speed: the GPU, or the processor and how many of its cores may be used."""
    if device != "cpu" and hardware.gpu is not None:
        return (hardware.gpu.name,)
    return hardware.cpu.name, hardware.cpu.cores


def examples(module: Module) -> int | None:
    """Examples that a training goes through at most (early stopping may end it sooner); None for
    unreadable files.

    Counts rows, so the files are opened; those of a hub would be fetched for it.
    """
    hyper = module.run.hyper
    if hyper.max_steps:
        return hyper.max_steps * hyper.batch_size
    total = 0
    for name, files in module.members.items():
        try:
            rows = count_language_rows(files.train, tasks.load(name).code("en"))
        except XtlError:
            return None
        total += min(
            rows, hyper.max_examples or rows, hyper.cap if len(module.members) > 1 else rows
        )
    return round(total * hyper.epochs) or None


def seconds(module: Module, speeds: Speeds, *, remote: bool) -> float | None:
    """Predicted seconds of a training alone, its scoring not included; None where it cannot be
    told.
    """
    run = module.run
    key = (run.backbone, run.method, run.bits)
    rate = speeds.get((*key, module.task)) or speeds.get((*key, ""))
    if not rate or not rate[0] or not rate[1] or (remote and not run.hyper.max_steps):
        return None
    wanted = examples(module)
    return None if wanted is None else wanted * rate[1] / rate[0]


def peak_bytes(planned: Plan, module: Module) -> int:
    """Predicted bytes of the tensors at the peak of a training on its longest inputs.

    In the way that the planner chose where there is a budget, else in whole batches. What CUDA, or
    the process, takes for itself is not in it.
    """
    if module.id in planned.fits:
        return planned.fits[module.id].prediction.peak
    form = shape(registry.config(planned.backbone), planned.backbone.name)
    job = memory_jobs.job_of(module.run, planned.device, len(module.below))
    return peak.predict(
        form, replace(job, length=min(job.length, form.longest)), peak.Way(job.batch)
    ).peak
