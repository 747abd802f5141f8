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
from adapters_xtl.models.network import Model, on_device
from adapters_xtl.models.tensors import autocast

__all__ = [
    "Progress",
    "by_tokens",
    "forward",
    "predict",
    "progress_line",
]

Progress = Callable[[int, int], None]  # (items done, items in all)

# padded tokens in one forward pass; on a CPU as many as leave a layer's states in its cache
TOKENS = {"cpu": 1024, "mps": 16384, "cuda": 32768}


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


@torch.inference_mode()
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
    """One array an item, in their order: what `call(batch)` gives for each item of a batch."""
    model.eval()
    form = formats.load(format)
    outputs: list[np.ndarray] = [np.empty(0)] * len(items)
    done = 0
    prefix = model.prefix if form.has_head else None  # hidden states are read layer by layer
    if prefix is not None:
        prefix.prepare(items)
    queue = list(by_tokens(items, min(TOKENS[device], model.room or TOKENS[device])))[::-1]
    while queue:
        numbers = queue.pop()
        try:
            arrays_of_batch = form.collate(
                [items[number] for number in numbers], model.tokenizer, 8 if device == "cuda" else 1
            )
            batch = on_device(arrays_of_batch, device)
            if prefix is not None:
                batch = model.with_prefix(batch, [items[number] for number in numbers])
            with autocast(device, dtype):
                arrays = call(batch)
        except (RuntimeError, MemoryError) as error:
            if len(numbers) == 1 or not out_of_memory(error):
                raise
            queue += [numbers[len(numbers) // 2 :], numbers[: len(numbers) // 2]]
            continue
        for number, array in zip(numbers, arrays, strict=True):
            outputs[number] = array
        done += len(numbers)
        if progress:
            progress(done, len(items))
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
