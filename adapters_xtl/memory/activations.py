"""What autograd keeps for the backward pass, counted tensor by tensor from the backbone's config
alone.

The graph is the one that torch 2.6 to 2.13, transformers 4.57, peft, adapters and bitsandbytes
build. Bytes throughout, per token unless said otherwise. The facts it rests on:

- A linear layer keeps its input only if its weight (or a LoRA on it) trains, and its weight only if
  a gradient must pass. Under autocast a float32 weight is then kept as a 16-bit copy, a trained one
  and a frozen one alike.
- Below the lowest module nothing is kept. Above it everything that a gradient passes through is:
  GELU's input, what the layer norms see, attention's q, k, v and output, dropout's masks.
- CUDA keeps a byte a dropped element, attention in one fused kernel, and runs layer norms under
  autocast in float32, so the states between layers are float32. The CPU keeps dropout's factors in
  the states' type, and attention with dropout as three (T, T) matrices in float32.
- bitsandbytes' layers keep nothing (`backbones` makes the int8 ones let go of their input) and give
  their output in the input's type, but for int8 on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl import formats, methods
from adapters_xtl.backbones.shape import Shape
from adapters_xtl.methods import AfterBlock, Method, ModuleSpec

__all__ = [
    "ElementSizes",
    "Job",
    "head",
    "head_parameters",
    "layers",
    "module_parameters",
    "passing",
    "trains_weights",
]

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Job:
    """What is trained, as far as memory goes.

    sequences     of one example (several for `choice`)
    fixed_prefix  whether the layers below the lowest module give constants of the texts
    texts         distinct token sequences that are trained on at most; 0: not known without rows
    token_budget  padded tokens that pass at once at most, or one example a pass; 0: no such bound
    passes        of a step that are computed at the same time at most
    compiled      whether its layers may run compiled; the plan is of the layers as they are
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parents: int = 0
    fuse: bool = False
    from_layer: int = 0
    format: str = "classify"
    labels: int = 3
    sequences: int = 1
    length: int = 128
    batch: int = 32
    head_dropout: float = 0.1
    bits: int = 32
    dtype: str = "float32"
    device: str = "cpu"
    optimizer: str = "adamw"
    keep: tuple[str, ...] = ()  # "optimizer", "dtype": asked for, not to be exchanged
    fixed_prefix: bool = False
    texts: int = 0
    token_budget: int = 0
    passes: int = 1
    compiled: bool = False

    @property
    def example_tokens(self) -> int:
        """Tokens of the longest example."""
        return self.sequences * self.length

    def tokens_at_once(self, examples: int) -> int:
        """Tokens, padding counted, that pass at once at most where so many examples may."""
        most = examples * self.example_tokens
        least = self.passes * self.example_tokens
        return min(most, max(self.token_budget, least)) if self.token_budget else most


@dataclass(frozen=True)
class ElementSizes:
    """Bytes of one element: in products, as stored (what is not quantised), between layers. Modules
    have float32.
    """

    compute: int
    stored: int
    states: int

    @staticmethod
    def of(job: Job) -> ElementSizes:
        autocast = job.dtype != "float32"
        stored = {32: 4, 16: 2}.get(job.bits, 2 if autocast else 4)
        states = 4 if stored == 4 or (autocast and job.device == "cuda") else 2
        return ElementSizes(2 if autocast else stored, stored, states)


def module_parameters(form: Shape, job: Job, *, parent: bool = False) -> int:
    """Parameters of the module that trains, or of one of its parents; heads left out."""
    return _method(job).count(_spec(form, job, parent=parent))


def _method(job: Job) -> Method:
    return methods.load(job.method)


def _spec(form: Shape, job: Job, *, parent: bool = False) -> ModuleSpec:
    options = {**_method(job).defaults, **job.options}
    return ModuleSpec(options, form, job.from_layer, "fuse" if job.fuse and not parent else "")


def head_parameters(form: Shape, job: Job) -> int:
    """Parameters of the head of the job's format."""
    return formats.load(job.format).head_parameters(form.hidden, job.labels)


@dataclass
class _Kept:
    """Counts what one layer keeps: bytes a token, and bytes whatever the batch."""

    form: Shape
    job: Job
    flow: bool  # whether a gradient must pass what comes next
    number: int = 0  # of the layer
    token: float = 0
    fixed: float = 0

    def __post_init__(self) -> None:
        self.size = ElementSizes.of(self.job)
        self.cuda = self.job.device == "cuda"
        self.method = _method(self.job)
        self.weights_train = trains_weights(self.job)
        self.low_rank = self.method.low_rank(self.job.options)

    def output(self, size: int) -> int:
        """Element size of what a linear layer gives for an input of `size`."""
        if self.job.bits == 4 or (self.job.bits == 8 and self.cuda):
            return size
        return self.size.compute

    def linears(
        self,
        size: int,
        width: int,
        outs: tuple[int, ...],
        loras: tuple[bool, ...],
        held: bool = False,
    ) -> int:
        """Linear layers over one input of `width` elements (`held`: somebody keeps it anyway).
        Their output's size.
        """
        compute = self.size.compute
        copies, itself = 0, False
        if self.weights_train:
            copies, itself = (0, True) if size == compute else (len(outs), False)
        elif any(loras):
            lora_dropout = self.low_rank.dropout
            # peft casts to float32 first, but not to a quantised layer where CUDA's autocast is on
            direct = size == 4 or (self.cuda and self.job.bits in (8, 4))
            shared = size == compute and direct and not lora_dropout
            copies, itself = (0, True) if shared else (sum(loras), False)
            if lora_dropout and self.flow:  # the parents' too
                self.token += (self.job.parents + 1) * sum(loras) * width * (1 if self.cuda else 4)
            self.token += sum(loras) * self.low_rank.rank * compute
        self.token += copies * compute * width
        if itself and not held:
            self.token += size * width
        for out, lora in zip(outs, loras, strict=True):
            if (
                self.job.bits in (32, 16)
                and self.size.stored != compute
                and (self.flow or self.weights_train)
            ):
                self.fixed += width * out * compute
            if lora and compute != 4:
                passes = self.job.parents + 1 if self.flow else 0
                self.fixed += self.low_rank.rank * compute * (passes * width + max(passes, 1) * out)
        self.flow = self.flow or self.weights_train or any(loras)
        return self.output(size)

    def attention(self, size: int) -> None:
        """q, k, v of element size `size` → the weighted sum of v, in the compute type."""
        form, compute = self.form, self.size.compute
        if not self.flow:
            return
        if not self.cuda and form.attention_dropout:
            self.token += 3 * 4 * form.hidden + 3 * 4 * form.heads * self.job.length
        else:
            self.token += 4 * compute * form.hidden + 4 * form.heads
            self.token += compute * self.job.length if self.size.states != compute else 0

    def dropped(self, size: int) -> None:
        if self.flow and self.form.dropout:
            self.token += self.form.hidden * (1 if self.cuda else size)

    def after_block(self, place: str, size: int) -> int:
        """The modules after a block whose output has elements of `size`. The size of what they
        give.
        """
        after = AfterBlock(place, self.number, self.job.parents, size, self.size.compute, self.flow)
        kept = self.method.kept_after_block(_spec(self.form, self.job), after)
        if kept is None:
            return size
        self.token += kept.token
        self.fixed += kept.fixed
        self.flow = True
        return kept.element

    def normed(self, size: int) -> None:
        """The layer norm over the sum of a block's output (of `size`) and the states."""
        if self.flow:
            self.token += self.form.hidden * max(size, self.size.states) + 8
            self.fixed += 8 * self.form.hidden if self.cuda and self.size.stored == 2 else 0

    def layer(self, adapted: bool) -> None:
        form, states = self.form, self.size.states
        loras = tuple(has and adapted for has in self.low_rank.layers)
        hidden, inner = form.hidden, form.inner
        self.attention(self.linears(states, hidden, (hidden,) * 3, loras[:3]))
        fused = self.flow and (self.cuda or not form.attention_dropout)
        size = self.linears(self.size.compute, hidden, (hidden,), loras[3:4], held=fused)
        self.dropped(size)
        self.normed(self.after_block("attention", size) if adapted else size)
        size = self.linears(states, hidden, (inner,), loras[4:5])
        self.token += size * inner if self.flow else 0  # GELU's input
        size = self.linears(size, inner, (hidden,), loras[5:])
        self.dropped(size)
        self.normed(self.after_block("output", size) if adapted else size)


def trains_weights(job: Job) -> bool:
    """Whether the layers' own weights train, or are counted as if they did."""
    method = _method(job)
    return method.whole_encoder or not method.memory_counted


def layers(form: Shape, job: Job) -> list[tuple[float, float]]:
    """(bytes a token, bytes whatever the batch) that each layer keeps for the backward pass, lowest
    first.
    """
    bytes_by_layer = []
    flow = trains_weights(job)
    for number in range(form.layers):
        kept = _Kept(form, job, flow, number)
        kept.layer(adapted=number >= job.from_layer)
        flow = kept.flow
        bytes_by_layer.append((kept.token, kept.fixed))
    return bytes_by_layer


def head(form: Shape, job: Job) -> tuple[float, float]:
    """(bytes a token, fixed bytes) that the head and its loss keep."""
    size = ElementSizes.of(job)
    copies = head_parameters(form, job) * size.compute if size.compute != 4 else 0
    sizes = formats.HeadSizes(
        hidden=form.hidden,
        labels=job.labels,
        length=job.length,
        compute=size.compute,
        states=size.states,
        dropout=bool(job.head_dropout),
        cuda=job.device == "cuda",
    )
    return formats.load(job.format).kept_by_head(sizes), copies


def passing(form: Shape, job: Job) -> tuple[float, float]:
    """Bytes a token of what lives for a moment only, at its most, in the top layer: going forward,
    going back.

    See `methods.ShortLived`, from whose factors they are made.
    """
    size = ElementSizes.of(job)
    element = _Kept(form, job, True).output(size.states)
    inner = element * form.inner  # GELU's input, and its output
    lives = _method(job).short_lived(size.compute, size.states, element > size.compute)
    forward = (0 if lives.inner_kept else inner) + (FLOAT32 * form.inner * lives.inner_copied)
    return forward + lives.states * size.states * form.hidden, lives.inner * inner
