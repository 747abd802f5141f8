"""Examples → predictions. Inputs are sorted by length and batched by tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from adapters_xtl import formats
from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.base.progress_lines import ProgressLine
from adapters_xtl.formats import Item
from adapters_xtl.models.encoded_rows import encode
from adapters_xtl.models.first_token import first_token_alone
from adapters_xtl.models.fused_lora import fused_lora
from adapters_xtl.models.network import Model, on_device
from adapters_xtl.models.side_by_side import SideBySide, max_parallel_passes
from adapters_xtl.models.tensors import autocast
from adapters_xtl.runs.hyper import FUSED, PEFT

__all__ = [
    "Progress",
    "by_tokens",
    "forward",
    "predict",
    "progress_line",
]

Progress = Callable[[int, int], None]  # (items done, items in all)

# padded tokens in one forward pass; on a CPU few: of 384 to 1,024, 512 scored PAN-X fastest on
# `mini`, with a thread a pass on cores of 1 MiB of cache (not tuned for larger encoders)
TOKENS = {"cpu": 512, "mps": 16384, "cuda": 32768}

AT_ONCE = 32768  # padded tokens of all passes at the same time, on a CPU with many threads


def by_tokens(items: Sequence[Item], budget: int) -> Iterator[list[int]]:
    """Item numbers, longest first, in batches of at most `budget` padded tokens (at least one item
    each).
    """
    order = sorted(range(len(items)), key=lambda number: -items[number].length)
    batch: list[int] = []
    sequences = 0
    for number in order:
        count = len(items[number].ids)
        if batch and (sequences + count) * items[batch[0]].length > budget:
            yield batch
            batch, sequences = [], 0
        batch.append(number)
        sequences += count
    if batch:
        yield batch


def forward(
    model: Model,
    format: str,
    items: Sequence[Item],
    call: Callable[[dict[str, torch.Tensor]], list[np.ndarray]],
    *,
    device: str,
    dtype: str,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """One array an item, in their order: what `call(batch)` gives for each item of a batch. On a
    CPU several batches are computed at the same time, each in a thread of its own.
    """
    model.eval()
    form = formats.load(format)
    prefix = model.prefix if form.has_head else None  # hidden states are read layer by layer
    if prefix is not None:
        with torch.inference_mode():
            prefix.prepare(items)

    def arrays(numbers: list[int]) -> list[np.ndarray]:
        chosen = [items[number] for number in numbers]
        with torch.inference_mode(), autocast(device, dtype):
            arrays_of_batch = form.collate(chosen, model.tokenizer, 8 if device == "cuda" else 1)
            batch = on_device(arrays_of_batch, device)
            return call(batch if prefix is None else model.with_prefix(batch, chosen))

    def tried(numbers: list[int]) -> list[np.ndarray] | None:
        """None where the memory is not enough."""
        try:
            return arrays(numbers)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    # with a prefix one at a time: what its cache lacks is computed by layers that `Prefix.above`
    # takes off while a batch runs
    at_once = max_parallel_passes(model, device) if prefix is None else 1
    widest = max((len(item.ids) * item.length for item in items), default=1)
    at_once = max(1, min(at_once, (model.room or AT_ONCE) // max(widest, 1)))
    room = min(TOKENS[device], model.room // at_once) if model.room else TOKENS[device]
    batches = list(by_tokens(items, room))
    outputs: list[np.ndarray] = [np.empty(0)] * len(items)
    again: list[list[int]] = []
    done = 0

    def keep(numbers: list[int], computed: list[np.ndarray]) -> None:
        nonlocal done
        for number, array in zip(numbers, computed, strict=True):
            outputs[number] = array
        done += len(numbers)
        if progress:
            progress(done, len(items))

    with SideBySide(min(at_once, len(batches))) as side_by_side:
        for numbers, computed in zip(batches, side_by_side.map(tried, batches), strict=True):
            if computed is None:
                again.append(numbers)
            else:
                keep(numbers, computed)
    while again:  # what was too much, with nothing beside it, and halved until it is not
        numbers = again.pop()
        computed = tried(numbers) if len(numbers) > 1 else arrays(numbers)
        if computed is None:
            again += [numbers[len(numbers) // 2 :], numbers[: len(numbers) // 2]]
        else:
            keep(numbers, computed)
    return outputs


def predict(
    model: Model,
    task: str,
    examples: Sequence[Mapping[str, Any]],
    *,
    device: str,
    dtype: str,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """One prediction an example, in their order."""
    spec = model.specs[task]
    form = formats.load(spec.format)
    items = encode(model, task, examples, train=False)

    def call(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        return form.outputs(model(task, batch, with_loss=False)["outputs"], batch)

    fused = FUSED if device == "cpu" else PEFT
    with first_token_alone(model), fused_lora(model, fused, "torch"):
        outputs = forward(
            model, spec.format, items, call, device=device, dtype=dtype, progress=progress
        )
    return form.decode(examples, items, outputs, spec.labels)


def progress_line(text: str) -> Progress:
    """A progress callable that rewrites one line on a terminal and in a notebook, and stays quiet
    elsewhere.
    """
    started, line = time.monotonic(), ProgressLine(unwatched=None)

    def show(done: int, total: int) -> None:
        if line.due or done == total:
            left = (time.monotonic() - started) * (total - done) / max(done, 1)
            line.show(f"{text} {done}/{total} · {math.ceil(left)} s left", last=done == total)

    return show
