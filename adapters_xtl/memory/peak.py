"""The peak of a training's memory, predicted from the backbone's config alone, and the fastest way
that fits a budget.

No weights, no torch, and for the backbones in FACTS no network. Budgets are GiB (2^30 bytes) of
what torch's allocator hands out: a CUDA context takes about 0.5 GiB beside it, a Python process
with torch on the CPU about 0.7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters_xtl import methods
from adapters_xtl.backbones.shape import Shape
from adapters_xtl.base.errors import RequestError
from adapters_xtl.memory import activations
from adapters_xtl.memory.activations import (
    ElementSizes,
    Job,
    head_parameters,
    module_parameters,
    trains_weights,
)

__all__ = [
    "CONTEXT",
    "GIB",
    "KERNELS",
    "Fit",
    "Prediction",
    "Way",
    "choose",
    "gib",
    "in_bytes",
    "least",
    "precisions",
    "predict",
    "settle",
]

GIB = 2**30
CONTEXT = int(0.6 * GIB)  # what CUDA takes of a device beside the allocator
KERNELS = (
    64 * 2**20
)  # cuBLAS' workspaces, one for the thread going forward and one for autograd's: as on Hopper
RESERVE = 0.05  # on top of the peak: blocks that the allocator cannot hand out again


@dataclass(frozen=True)
class Way:
    """How it is run; nothing of it is identity. `micro_batch` examples pass at once, `offload` puts
    the table on the CPU.
    """

    micro_batch: int
    checkpointing: bool = False
    offload: bool = False


@dataclass(frozen=True)
class Prediction:
    """Bytes at the moment when most is taken, line by line; `host`: what lies beside the device, on
    the CPU.

    `layers`: what each layer keeps for the backward pass, lowest first.
    """

    lines: Mapping[str, int]
    moment: str
    host: int = 0
    layers: tuple[int, ...] = ()

    @property
    def peak(self) -> int:
        return sum(self.lines.values())


def _stored(form: Shape, job: Job) -> float:
    """Bytes of the encoder's layers as they are stored."""
    size = ElementSizes.of(job)
    if job.bits in (32, 16):
        return form.layers * (form.linear + form.rest) * size.stored
    if job.bits == 8:  # a float32 scale a row
        linear = float(form.linear + 4 * (5 * form.hidden + form.inner))
    else:  # nf4 and a float32 scale for 64; a row that is no multiple of 64 is not quantised
        linear = 0.0
        matrix = form.hidden * form.inner
        for width, count in ((form.hidden, 4 * form.hidden**2 + matrix), (form.inner, matrix)):
            linear += count * (0.5 + 4 / 64 if width % 64 == 0 else size.stored)
    return form.layers * (linear + form.rest * size.stored)


def predict(form: Shape, job: Job, way: Way) -> Prediction:
    """Peak of the device's memory over training steps after the first (the optimizer's state is
    there from then on).
    """
    method, size, cuda = methods.load(job.method), ElementSizes.of(job), job.device == "cuda"
    full = method.whole_encoder
    micro = min(way.micro_batch, job.batch)
    tokens = job.tokens_at_once(micro)
    accumulates = tokens < job.batch * job.example_tokens
    head, module = head_parameters(form, job), module_parameters(form, job)
    tables, matrix = form.tables * size.stored, form.hidden * form.inner
    weights = {
        "embeddings": 0 if way.offload else tables,
        "layers": _stored(form, job),
        "parents": 0 if full else job.parents * module_parameters(form, job, parent=True) * 4,
        "module": 0 if full else module * 4,
        "head": head * 4,
    }
    gradients = (module + head) * 4
    state = float(2 * gradients)
    if (
        job.optimizer == "adamw8bit"
    ):  # bitsandbytes keeps embeddings and what has under 4096 elements at 32 bits
        small = (form.layers * form.rest + form.tables) if full else 0
        state = 8 * small + (module + head - small) * (2 + 8 / 256)
    passes = 1 if way.checkpointing else min(job.passes, micro)  # at the same time
    layers = [token * tokens + fixed * passes for token, fixed in activations.layers(form, job)]
    per_token, copies = activations.head(form, job)
    ends = per_token * tokens + copies * passes + tokens * (40 + size.states * job.length)
    if full:  # the embeddings' sum, dropout and ids
        ends += tokens * (form.hidden * (4 + (1 if cuda else 4)) + 24)
    forward, back = (size_of_token * tokens for size_of_token in activations.passing(form, job))
    scratch = float(
        {8: 4, 4: 6}.get(job.bits, 6 if trains_weights(job) else 0) * matrix
    )  # a weight dequantised; its gradient, to be cast
    before = gradients if accumulates else 0
    before += passes * gradients if passes > 1 else 0  # each has its own until they are added
    # gradients, activations and workspace at the moments that may be the worst
    moments: dict[str, tuple[float, float, float]] = {}
    if way.checkpointing:
        inputs = sum(1 for kept in layers if kept) * tokens * size.states * form.hidden + ends
        moments["backward begins"] = before, inputs + max(layers), max(forward, back, scratch)
        if (
            full and size.compute != 4
        ):  # autocast's copies of the trained weights, until the forward pass ends
            moments["forward ends"] = (
                before,
                inputs + form.layers * form.linear * size.compute,
                forward,
            )
    else:
        moments["backward begins"] = before, sum(layers) + ends, max(forward, back, scratch)
    if full:
        lowest = gradients - 4 * (form.tables + form.linear + form.rest)
        moments["backward ends"] = lowest, layers[0] + ends, max(back, scratch)
        again = 4 * form.vocab * form.hidden if accumulates else 0
        moments["gradient of the embeddings"] = gradients, 12 * form.hidden * tokens, again
    moments["optimizer step"] = gradients, 0, 0  # fused: in place
    moment = max(moments, key=lambda name: sum(moments[name]))
    kernels = KERNELS if cuda else 0
    taken, kept, passing = moments[moment]
    lines = {
        **weights,
        "optimizer": state,
        "gradients": taken,
        "activations": kept,
        "workspace": passing + kernels,
    }
    if way.offload and job.bits in (
        8,
        4,
    ):  # bitsandbytes quantises on the device: the table passes through it
        loading = {
            **dict.fromkeys(lines, 0),
            "embeddings": tables,
            "layers": weights["layers"],
            "workspace": scratch,
        }
        moment, lines = max(
            (moment, lines), ("loading", loading), key=lambda entry: sum(entry[1].values())
        )
    return Prediction(
        {name: int(value) for name, value in lines.items()},
        moment,
        tables if way.offload else 0,
        tuple(int(layer) for layer in layers),
    )


@dataclass(frozen=True)
class Fit:
    """A job as it is to be run: bits, optimizer and way settled.

    `cost`: seconds a step, against the plainest way's. `changes`: how far its numbers are from the
    plainest way's.
    """

    job: Job
    way: Way
    prediction: Prediction
    cost: float
    changes: int = field(compare=False)
    evaluation_tokens: (
        int  # padded tokens that pass at once without gradients in the room that training takes
    )

    @property
    def needs(self) -> int:
        """Bytes of the smallest budget for it."""
        return math.ceil(self.prediction.peak * (1 + RESERVE))

    @property
    def accumulation(self) -> int:
        """Passes of a step; with a budget of tokens as many as the longest examples take."""
        longest = self.job.tokens_at_once(self.way.micro_batch) // self.job.example_tokens
        return -(-self.job.batch // longest)

    def __str__(self) -> str:
        way, job = self.way, self.job
        passing = f"micro-batch {way.micro_batch} x {self.accumulation}"
        if job.token_budget:
            passing = f"at most {job.token_budget:,} tokens and {way.micro_batch} examples at once"
        parts = [f"{job.bits} bits", passing]
        parts += ["embedding table on the CPU"] * way.offload + [
            "gradient checkpointing"
        ] * way.checkpointing
        parts += ["8-bit optimizer"] * (job.optimizer == "adamw8bit")
        return ", ".join(parts)

    def record(self) -> dict[str, Any]:
        prediction = self.prediction
        return {
            "bits": self.job.bits,
            "dtype": self.job.dtype,
            "optimizer": self.job.optimizer,
            "batch": self.job.batch,
            "micro_batch": self.way.micro_batch,
            "token_budget": self.job.token_budget,
            "parallel_passes": self.job.passes,
            "accumulation": self.accumulation,
            "checkpointing": self.way.checkpointing,
            "embeddings_on_cpu": self.way.offload,
            "moment": prediction.moment,
            "lines": dict(prediction.lines),
            "planned_peak_bytes": prediction.peak,
            "reserve_bytes": self.needs - prediction.peak,
            "needs_bytes": self.needs,
            "host_bytes": prediction.host,
            "activation_bytes_by_layer": list(prediction.layers),
            "relative_seconds": round(self.cost, 3),
        }


# Seconds a step against the plainest way's: rules of thumb, for the order of ways only;
# benchmarks/gpu_memory.py measures them. int8 dequantises every weight in the backward pass
# (bitsandbytes' issue 465: 2-3 times slower), nf4 in both; checkpointing runs the forward pass,
# 0.35 of a step, again; the table on the CPU adds a wait a step.
SLOWER = {8: 2.5, 4: 1.5}
CHECKPOINTING, OFFLOAD, OPTIMIZER = 1.35, 1.05, 1.02
OVERHEAD = {
    "cuda": 128,
    "mps": 128,
    "cpu": 8,
}  # tokens whose time a pass costs before its first one


def precisions(requested: str, allowed: Sequence[int], device: str, native: str) -> dict[int, str]:
    """Bits of the backbone's weights → compute type: the one that is asked for, or for "auto" all
    of the `allowed` ones that make sense on the device, best first.
    """
    quantised = "bfloat16" if device != "cuda" or native == "bfloat16" else native
    if requested != "auto":
        return {int(requested): "float32" if requested == "32" else quantised}
    if tuple(allowed) == (32,):
        return {32: native}
    plain = {} if device == "cuda" else {32: native}
    ways = {**plain, 16: native if device == "cuda" else quantised, 8: quantised, 4: quantised}
    return {bits: dtype for bits, dtype in ways.items() if bits in allowed}


def _ways(form: Shape, job: Job, bits: Mapping[int, str]) -> Iterator[Fit]:
    """Every way to run a job, those that change its numbers included. `bits`: bits → compute type,
    the best first.
    """
    sizes = [job.batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    overhead, plainest = OVERHEAD[job.device], job.tokens_at_once(job.batch)
    whole = methods.load(job.method).whole_encoder
    free = whole and job.optimizer == "adamw" and "optimizer" not in job.keep
    optimizers = [job.optimizer, *(["adamw8bit"] if free else [])]
    for rank, (precision, dtype) in enumerate(bits.items()):
        for optimizer in optimizers:
            variant = replace(
                job,
                bits=precision,
                dtype=job.dtype if "dtype" in job.keep else dtype,
                optimizer=optimizer,
            )
            # the library computes a fusion layer's penalty where the table is
            movable = not whole and not job.fuse and job.device == "cuda"
            for offload in (False, True) if movable else (False,):
                for checkpointing in (False, True):
                    for micro in sizes:
                        way = Way(micro, checkpointing, offload)
                        tokens = job.tokens_at_once(micro)
                        cost = (1 + overhead / tokens) / (1 + overhead / plainest)
                        cost *= (CHECKPOINTING if checkpointing else 1) * (
                            OFFLOAD if offload else 1
                        )
                        cost *= SLOWER.get(precision, 1) * (
                            OPTIMIZER if optimizer != job.optimizer else 1
                        )
                        changes = rank + (optimizer != job.optimizer)
                        prediction = predict(form, variant, way)
                        room = sum(
                            prediction.lines[name]
                            for name in ("gradients", "activations", "workspace")
                        )
                        scored = max(job.length, room // (10 * form.inner + 20 * form.hidden))
                        yield Fit(variant, way, prediction, cost, changes, scored)


def choose(form: Shape, job: Job, budget: int | None, bits: Mapping[int, str]) -> Fit | None:
    """The fastest way that fits `budget` bytes (None: the plainest), or None.

    A way that changes the numbers (fewer bits, an 8-bit optimizer) is taken only where none that
    leaves them alone fits: smaller micro-batches, the table on the CPU and checkpointing come
    first, even where fewer bits would be faster.
    """
    fitting = [way for way in _ways(form, job, bits) if budget is None or way.needs <= budget]
    return min(fitting, key=lambda way: (way.changes, way.cost), default=None)


def least(form: Shape, job: Job, bits: Mapping[int, str]) -> Fit:
    """The way that needs least."""
    return min(_ways(form, job, bits), key=lambda way: way.needs)


def settle(
    form: Shape,
    jobs: Mapping[str, Job],
    budget: int | None,
    bits: Mapping[int, str],
    flag: str = "",
) -> dict[str, Fit]:
    """A way for each job of a chain, all with the same bits.

    Where nothing fits: RequestError with the smallest budget that would do or, without a `flag` (a
    budget that nobody asked for), the ways that need least.
    """
    for precision, dtype in bits.items():
        fits = {name: choose(form, job, budget, {precision: dtype}) for name, job in jobs.items()}
        settled = {name: fit for name, fit in fits.items() if fit is not None}
        if len(settled) == len(jobs):
            return settled
    # all share their bits: the smallest budget is that of the bits whose most demanding job demands
    # least
    lean = [
        {name: least(form, job, {precision: dtype}) for name, job in jobs.items()}
        for precision, dtype in bits.items()
    ]
    best = min(lean, key=lambda fits: max(fit.needs for fit in fits.values()))
    if not flag:
        return best
    name, fit = max(best.items(), key=lambda entry: entry[1].needs)
    raise RequestError(
        f"{flag}: {name} ({fit.job.method}, up to {fit.job.length} tokens) needs {gib(fit.needs)}"
        f" GiB at least: {fit}"
    )


def in_bytes(size: float) -> int:
    """Bytes of a budget in GiB, which may be as large as anybody likes to write."""
    return int(min(size, 2.0**60) * GIB)


def gib(size: int) -> str:
    """GiB with two decimals, rounded up: a budget of that many holds `size` bytes."""
    return f"{math.ceil(size / GIB * 100) / 100:.2f}"
