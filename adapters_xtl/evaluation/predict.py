"""Examples → predictions. Inputs are sorted by length and batched by tokens."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from adapters_xtl import formats
from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.formats._items import Item, Lengths
from adapters_xtl.formats.retrieve import pool, sides
from adapters_xtl.metrics import bitext, mining
from adapters_xtl.models.network import Model, autocast
from adapters_xtl.tasks import Task

__all__ = [
    "by_tokens",
    "embed",
    "forward",
    "predict",
    "progress_line",
    "retrieval_layer",
    "retrieve",
    "sentences",
]

TOKENS = {"cpu": 4096, "cuda": 32768}  # padded tokens in one forward pass


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
    progress: Callable[[int, int], None] | None = None,
) -> list[np.ndarray]:
    """One array an item, in their order: what `call(batch)` gives for each item of a batch."""
    model.eval()
    module = formats.load(format)
    found: list[np.ndarray] = [np.empty(0)] * len(items)
    done = 0
    queue = list(by_tokens(items, min(TOKENS[device], model.room or TOKENS[device])))[::-1]
    while queue:
        numbers = queue.pop()
        try:
            batch = module.collate(
                [items[number] for number in numbers], model.tokenizer, 8 if device == "cuda" else 1
            )
            batch = {name: value.to(device) for name, value in batch.items()}
            with autocast(device, dtype):
                arrays = call(batch)
        except (RuntimeError, MemoryError) as error:
            if len(numbers) == 1 or not out_of_memory(error):
                raise
            queue += [numbers[len(numbers) // 2 :], numbers[: len(numbers) // 2]]
            continue
        for number, array in zip(numbers, arrays, strict=True):
            found[number] = array
        done += len(numbers)
        if progress:
            progress(done, len(items))
    return found


def predict(
    model: Model,
    task: str,
    examples: Sequence[Mapping[str, Any]],
    *,
    device: str,
    dtype: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """One prediction an example, in their order."""
    spec = model.specs[task]
    module = formats.load(spec.format)
    items = module.encode(examples, spec.labels, model.tokenizer, spec.lengths, train=False)

    def call(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        return module.outputs(model(task, batch, with_loss=False)["outputs"], batch)

    outputs = forward(
        model, spec.format, items, call, device=device, dtype=dtype, progress=progress
    )
    return module.decode(examples, items, outputs, spec.labels)


def retrieval_layer(layers: int) -> int:
    """Hidden state that is pooled: 14 of 24 as Phang et al. 2020 (0: embeddings), scaled to
    `layers`.
    """
    return round(14 / 24 * layers)


def sentences(model: Model, examples: Sequence[Mapping[str, Any]], lengths: Lengths) -> list[Item]:
    """The sentences of retrieval examples as items."""
    return formats.load("retrieve").encode(examples, (), model.tokenizer, lengths, train=False)


def embed(
    model: Model,
    items: Sequence[Item],
    *,
    layers: Sequence[int],
    device: str,
    dtype: str,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Means over each sentence's tokens of the hidden states `layers`: (sentences, layers, hidden)
    float32.
    """

    def call(batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
        states = model.layers(batch, max(layers))
        pooled = [pool(states[layer], batch["attention_mask"]) for layer in layers]
        return list(torch.stack(pooled, 1).cpu().numpy())

    found = forward(model, "retrieve", items, call, device=device, dtype=dtype, progress=progress)
    return np.stack(found)


def retrieve(
    task: Task,
    examples: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    vectors: np.ndarray,
) -> list[dict[str, Any]]:
    """Predictions of a retrieval task from embeddings: Tatoeba's nearest rows, BUCC's mined pairs
    with their margin.
    """
    found = sides(examples, items, vectors)
    if task.scorer == "tatoeba":
        nearest = mining.nearest_rows(found["target"]["vectors"], found["source"]["vectors"])
        return [
            {"id": example["id"], "prediction": str(int(row)), "gold": str(number)}
            for number, (example, row) in enumerate(zip(examples, nearest, strict=True))
        ]
    source, target = found["source"], found["target"]
    mined = mining.mine_bitext(
        source["texts"], target["texts"], source["vectors"], target["vectors"]
    )
    scored = bitext.candidates(
        mined, source["texts"], target["texts"], source["ids"], target["ids"]
    )
    gold = {
        f"{example['source_id']}\t{example['target_id']}"
        for example in examples
        if example.get("part") == "gold"
    }
    rows = [
        dict(
            zip(("source_id", "target_id"), pair.split("\t"), strict=True),
            score=float(value),
            gold=pair in gold,
        )
        for pair, value in scored.items()
    ]
    missed = sorted(gold - set(scored))
    return rows + [
        dict(zip(("source_id", "target_id"), pair.split("\t"), strict=True), gold=True)
        for pair in missed
    ]


def progress_line(text: str) -> Callable[[int, int], None]:
    """A progress callable that rewrites one line on a terminal and stays quiet elsewhere."""
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            left = (time.monotonic() - started) * (total - done) / max(done, 1)
            end = "\n" if done == total else ""
            print(
                f"\r\x1b[K{text} {done}/{total} · {math.ceil(left)} s left",
                end=end,
                file=sys.stderr,
                flush=True,
            )

    return show
