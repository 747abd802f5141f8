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

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl import formats
from adapters_xtl.base.errors import RequestError

__all__ = [
    "Job",
    "Shape",
    "Sizes",
    "head",
    "head_parameters",
    "layers",
    "module_parameters",
    "number",
    "passing",
    "shape",
    "targeted",
]

LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_LAYER = re.compile(r"^(?:.*\.)?layer\.\d+\.")


@dataclass(frozen=True)
class Shape:
    """The numbers of an encoder's config that decide its memory."""

    layers: int
    hidden: int
    heads: int
    inner: int
    vocab: int
    positions: int
    types: int
    dropout: float = 0.1
    attention_dropout: float = 0.1
    longest: int = (
        512  # tokens of an input: RoBERTa and XLM-R count positions from behind the padding's
    )

    @property
    def linear(self) -> int:
        """Weights of one layer's six linear layers, without biases."""
        return 4 * self.hidden**2 + 2 * self.hidden * self.inner

    @property
    def rest(self) -> int:
        """One layer's biases and layer norms."""
        return 9 * self.hidden + self.inner

    @property
    def tables(self) -> int:
        """Elements of the three embedding tables and their layer norm."""
        return (self.vocab + self.positions + self.types + 2) * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * (self.linear + self.rest) + self.tables


def shape(config: Mapping[str, Any], name: str = "the config") -> Shape:
    """RequestError naming the keys that a config lacks, or holds as no sensible number."""
    keys = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    )
    rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    wrong = [key for key in keys if not _whole(config.get(key), 1)]
    padding = config.get("pad_token_id", 1)
    padding = 1 if padding is None else padding
    wrong += [
        key
        for key, value in (
            ("type_vocab_size", config.get("type_vocab_size", 1)),
            ("pad_token_id", padding),
        )
        if not _whole(value, 0)
    ]
    wrong += [key for key in rates if not number(config.get(key, 0.1), 0, 1)]
    if wrong:
        raise RequestError(
            f"{name}: no memory plan without {', '.join(wrong)} (missing in its config.json, or no"
            " number)"
        )
    layers, hidden, heads, inner, vocab, positions = (int(config[key]) for key in keys)
    if hidden % heads:
        raise RequestError(
            f"{name}: its hidden_size {hidden} is no multiple of its num_attention_heads {heads}"
        )
    first = int(padding) + 1 if "roberta" in str(config.get("model_type")) else 0
    if positions <= first:
        raise RequestError(
            f"{name}: its max_position_embeddings {positions} leave no position for a token"
        )
    return Shape(
        layers,
        hidden,
        heads,
        inner,
        vocab,
        positions,
        int(config.get("type_vocab_size", 1)),
        float(config.get("hidden_dropout_prob", 0.1)),
        float(config.get("attention_probs_dropout_prob", 0.1)),
        positions - first,
    )


def _whole(value: Any, low: int) -> bool:
    return type(value) is int and low <= value < 1 << 32


def number(value: Any, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to below `high`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value < high


@dataclass(frozen=True)
class Job:
    """What is trained, as far as memory goes. `sequences`: of one example (several for
    `choice`).
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


@dataclass(frozen=True)
class Sizes:
    """Bytes of one element: in products, as stored (what is not quantised), between layers. Modules
    have float32.
    """

    compute: int
    stored: int
    states: int

    @staticmethod
    def of(job: Job) -> Sizes:
        autocast = job.dtype != "float32"
        stored = {32: 4, 16: 2}.get(job.bits, 2 if autocast else 4)
        states = 4 if stored == 4 or (autocast and job.device == "cuda") else 2
        return Sizes(2 if autocast else stored, stored, states)


def targeted(job: Job) -> tuple[bool, ...]:
    """Which of LINEARS carry a LoRA. A pattern (`target_modules` as a string) counts as all of
    them.
    """
    wanted = job.options.get("target_modules", "all-linear")
    if job.method != "lora":
        return (False,) * len(LINEARS)
    if isinstance(wanted, str):
        return (True,) * len(LINEARS)
    parts = [
        _LAYER.sub("", each) for each in wanted
    ]  # a full name counts as its like in every layer
    return tuple(any(f".{name}".endswith(f".{each}") for each in parts) for name in LINEARS)


def _bottleneck(form: Shape, job: Job, layer: int) -> int:
    factor = job.options.get("reduction_factor", 16)
    if isinstance(factor, Mapping):
        factor = factor.get(str(layer), factor.get("default", 16))
    return max(1, int(form.hidden // float(factor)))


def _places(job: Job) -> int:
    return int(bool(job.options.get("mh_adapter"))) + int(
        bool(job.options.get("output_adapter", True))
    )


def module_parameters(form: Shape, job: Job, *, parent: bool = False) -> int:
    """Parameters of the module that trains, or of one of its parents; heads left out."""
    layers, hidden = form.layers - job.from_layer, form.hidden
    if job.fuse and not parent:
        return layers * _places(job) * (3 * hidden**2 + 2 * hidden)
    if job.method == "bottleneck":
        widths = [_bottleneck(form, job, layer) for layer in range(job.from_layer, form.layers)]
        return _places(job) * sum(2 * hidden * inner + inner + hidden for inner in widths)
    if job.method == "lora":
        sides = [2 * hidden] * 4 + [hidden + form.inner] * 2
        return (
            layers
            * int(job.options.get("r", 16))
            * sum(side for side, has in zip(sides, targeted(job), strict=True) if has)
        )
    return form.parameters


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
        self.size = Sizes.of(self.job)
        self.cuda = self.job.device == "cuda"
        self.full = self.job.method == "full"
        self.rank = int(self.job.options.get("r", 16))

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
        if self.full:
            copies, itself = (0, True) if size == compute else (len(outs), False)
        elif any(loras):
            lora_dropout = float(self.job.options.get("lora_dropout", 0))
            # peft casts to float32 first, but not to a quantised layer where CUDA's autocast is on
            direct = size == 4 or (self.cuda and self.job.bits in (8, 4))
            shared = size == compute and direct and not lora_dropout
            copies, itself = (0, True) if shared else (sum(loras), False)
            if lora_dropout and self.flow:  # the parents' too
                self.token += (self.job.parents + 1) * sum(loras) * width * (1 if self.cuda else 4)
            self.token += sum(loras) * self.rank * compute
        self.token += copies * compute * width
        if itself and not held:
            self.token += size * width
        for out, lora in zip(outs, loras, strict=True):
            if (
                self.job.bits in (32, 16)
                and self.size.stored != compute
                and (self.flow or self.full)
            ):
                self.fixed += width * out * compute
            if lora and compute != 4:
                passes = self.job.parents + 1 if self.flow else 0
                self.fixed += self.rank * compute * (passes * width + max(passes, 1) * out)
        self.flow = self.flow or self.full or any(loras)
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

    def adapters(self, size: int) -> int:
        """The bottleneck modules of one place, parents first. The size of what they give."""
        inner, compute = _bottleneck(self.form, self.job, self.number), self.size.compute
        steps = 1 if str(self.job.options.get("non_linearity", "relu")).lower() == "relu" else 2
        copied = compute if compute != 4 else 0
        if (
            self.job.fuse
        ):  # every parent's output four times over, the query before and after its layer, |V − I|²
            self.token += (4 * self.job.parents + 2) * compute * self.form.hidden
            self.token += self.job.parents * steps * inner * compute if self.flow else 0
            self.fixed += self.form.hidden**2 * (3 * copied + 4)
            self.fixed += (
                2 * self.job.parents * self.form.hidden * inner * copied if self.flow else 0
            )
            self.flow = True
            return max(size, compute)
        for parent in range(self.job.parents + 1):
            child = parent == self.job.parents
            if child:
                self.token += self.form.hidden * (size if size == compute else compute)
            if child or self.flow:
                self.token += steps * inner * compute
                self.fixed += self.form.hidden * inner * copied * (2 if self.flow else 1)
            size = max(size, compute)
        self.flow = True
        return size

    def normed(self, size: int) -> None:
        """The layer norm over the sum of a block's output (of `size`) and the states."""
        if self.flow:
            self.token += self.form.hidden * max(size, self.size.states) + 8
            self.fixed += 8 * self.form.hidden if self.cuda and self.size.stored == 2 else 0

    def layer(self, adapted: bool) -> None:
        form, states = self.form, self.size.states
        loras = tuple(has and adapted for has in targeted(self.job))
        bottleneck = adapted and self.job.method == "bottleneck"
        hidden, inner = form.hidden, form.inner
        self.attention(self.linears(states, hidden, (hidden,) * 3, loras[:3]))
        fused = self.flow and (self.cuda or not form.attention_dropout)
        size = self.linears(self.size.compute, hidden, (hidden,), loras[3:4], held=fused)
        self.dropped(size)
        self.normed(
            self.adapters(size) if bottleneck and self.job.options.get("mh_adapter") else size
        )
        size = self.linears(states, hidden, (inner,), loras[4:5])
        self.token += size * inner if self.flow else 0  # GELU's input
        size = self.linears(size, inner, (hidden,), loras[5:])
        self.dropped(size)
        self.normed(
            self.adapters(size)
            if bottleneck and self.job.options.get("output_adapter", True)
            else size
        )


def layers(form: Shape, job: Job) -> list[tuple[float, float]]:
    """(bytes a token, bytes whatever the batch) that each layer keeps for the backward pass, lowest
    first.
    """
    found = []
    flow = job.method == "full"
    for number in range(form.layers):
        kept = _Kept(form, job, flow, number)
        kept.layer(adapted=number >= job.from_layer)
        flow = kept.flow
        found.append((kept.token, kept.fixed))
    return found


def head(form: Shape, job: Job) -> tuple[float, float]:
    """(bytes a token, fixed bytes) that the head and its loss keep."""
    size = Sizes.of(job)
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

    Which tensors these are depends on the order in which frames and graph let go; the factors are
    measured (tests).
    """
    size = Sizes.of(job)
    kept = _Kept(form, job, True)
    inner = kept.output(size.states) * form.inner  # of GELU's input, and its output
    keeps = job.method == "full" or (job.method == "lora" and size.compute == 4)
    forward = 0 if keeps else inner
    if job.method == "lora" and size.compute != 4 and inner == 2 * form.inner:
        forward += 4 * form.inner  # peft's float32 copy
    states = {"full": 2 if size.compute == size.states else 4.5, "lora": 3.5}.get(job.method, 5.5)
    back = {"full": 1.45, "lora": 2.1 if inner <= size.compute * form.inner else 2.45}.get(
        job.method, 1.6
    )
    return forward + states * size.states * form.hidden, back * inner
