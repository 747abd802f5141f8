"""Predicts what a training will cost: its memory from sizes, its time from finished runs like it.

Without a finished run of the same backbone, method, precision and hardware the time comes from a
stated rule, and says so; without the number of rows (a hub's rows are not fetched to be counted)
there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import registry
from adapters_xtl.backbones.shape import Shape, shape
from adapters_xtl.base import machine
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.machine import Hardware
from adapters_xtl.data.locate import RowFiles
from adapters_xtl.data.reading import count_language_rows
from adapters_xtl.memory import peak
from adapters_xtl.memory.activations import Job, head_parameters, module_parameters
from adapters_xtl.planning import memory_jobs
from adapters_xtl.runs.request import Module, Plan
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import list_runs

__all__ = [
    "BY_RULE",
    "BY_RUNS",
    "Speeds",
    "estimated_seconds",
    "examples",
    "peak_bytes",
    "predicted_seconds",
    "speeds",
    "stored_bytes",
]

# where a predicted time comes from
BY_RUNS, BY_RULE = "finished runs", "rule of thumb"
FILLED = 1 / 3
CPU_RATE = 50e9  # operations a second and core
GPU_RATE = 50e12  # operations a second
# (backbone fingerprint, method, bits, task) → [examples, seconds]; task "" holds all tasks together
Totals = dict[tuple[str, str, int, str], list[float]]
Counts = dict[tuple[str, ...], int]  # (language code, digests of files) → rows
# peaks by the sizes and the job that they are predicted from: seeds and buckets of shots share them
_peaks: dict[str, int] = {}


@dataclass(frozen=True)
class Speeds:
    """What the forecasts of one grid share: the speeds of finished trainings, the directories of
    damaged runs, and counted rows.
    """

    totals: Totals
    damaged: frozenset[Path] = frozenset()
    counts: Counts = field(default_factory=dict)

    def of(self, run: Run, task: str) -> list[float] | None:
        """[examples, seconds] of finished trainings like the run: of the task, else of all."""
        key = (run.backbone, run.method, run.bits)
        return self.totals.get((*key, task)) or self.totals.get((*key, ""))


def speeds(store: Store, device: str) -> Speeds:
    """Examples and seconds of every finished training of the store that was made on a device like
    this machine's.
    """
    here = _processor(machine.describe().hardware, device)
    totals: Totals = {}
    readable, damaged = list_runs(store)
    for run in readable:
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
    return Speeds(totals, frozenset(damaged))


def _processor(hardware: Hardware, device: str) -> tuple[str | int, ...]:
    """What decides the speed: the GPU, or the processor and how many of its cores may be used."""
    if device == "cuda" and hardware.gpu is not None:
        return (hardware.gpu.name,)
    return hardware.cpu.name, hardware.cpu.cores


def _count(files: Sequence[RowFiles], code: str, counts: Counts) -> int:
    """Rows of one language, counted once for all the cells that train on them."""
    key = (code, *(digest for row_files in files for digest in row_files.digests))
    if key not in counts:
        counts[key] = count_language_rows(files, code)
    return counts[key]


@cache
def _cores() -> int:
    return machine.describe().hardware.cpu.cores


def examples(module: Module, counts: Counts) -> int | None:
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
            rows = sum(
                _count(located, tasks.load(name).code(language), counts)
                for language, located in files.train_by_language().items()
            )
        except XtlError:
            return None
        total += min(
            rows, hyper.max_examples or rows, hyper.cap if len(module.members) > 1 else rows
        )
    return round(total * hyper.epochs) or None


def predicted_seconds(plan: Plan, module: Module, speeds: Speeds) -> tuple[float | None, str]:
    """Predicted seconds of a training alone, its scoring not included, and where they come from:
    BY_RUNS or BY_RULE; (None, "") where the number of examples cannot be told.
    """
    run = module.run
    if plan.source.kind == "hub" and not run.hyper.max_steps:
        return None, ""
    wanted = examples(module, speeds.counts)
    if wanted is None:
        return None, ""
    rate = speeds.of(run, module.task)
    if rate and rate[0] and rate[1]:
        return wanted * rate[1] / rate[0], BY_RUNS
    return estimated_seconds(plan, module, wanted), BY_RULE


def estimated_seconds(plan: Plan, module: Module, wanted: int) -> float:
    """Seconds of a training by a rule of thumb, for machines without a finished run like it.

    A token costs 2 operations a weight of the linear layers forward, as many backward, and as many
    again where the weights themselves train (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    Assumed, and not measured on this machine: a sequence fills FILLED of train.max_length, and the
    processor (an Apple GPU counts as its processor) does CPU_RATE operations a second and core, a
    CUDA device GPU_RATE.
    """
    form, job = _form_and_job(plan, module)
    passes = 3 if methods.load(module.run.method).whole_encoder else 2
    tokens = wanted * job.sequences * min(job.length, form.longest) * FILLED
    operations = 2 * passes * form.linear * form.layers * tokens
    if plan.device != "cuda":
        return operations / (CPU_RATE * _cores())
    return operations / GPU_RATE


def stored_bytes(plan: Plan, module: Module) -> int:
    """Predicted bytes of a module's and its heads' files: 4 a parameter."""
    form, job = _form_and_job(plan, module)
    return 4 * (module_parameters(form, job) + head_parameters(form, job))


def _form_and_job(plan: Plan, module: Module) -> tuple[Shape, Job]:
    """The sizes of the backbone and of a training on it, as the memory prediction takes them."""
    form = shape(registry.config(plan.backbone), plan.backbone.name)
    return form, memory_jobs.job_of(module.run, plan.device, len(module.below))


def peak_bytes(planned: Plan, module: Module) -> int:
    """Predicted bytes of the tensors at the peak of a training on its longest inputs.

    In the way that the planner chose where there is a budget, else in whole batches. What CUDA, or
    the process, takes for itself is not in it.
    """
    if module.id in planned.fits:
        return planned.fits[module.id].prediction.peak
    form, job = _form_and_job(planned, module)
    job = replace(job, length=min(job.length, form.longest))
    key = repr((form, job))
    if key not in _peaks:
        _peaks[key] = peak.predict(form, job, peak.Way(job.batch)).peak
    return _peaks[key]
