"""Predictions per language → metrics. Inputs are sorted by length and batched by tokens."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from adapters_xtl import formats
from adapters_xtl.errors import DataError
from adapters_xtl.formats.items import Item
from adapters_xtl.formats.retrieve import sides
from adapters_xtl.metrics import bitext, labels, mining, qa, tags
from adapters_xtl.model import Model
from adapters_xtl.spec import Task

__all__ = ["SCORERS", "by_tokens", "embed", "forward", "predict", "retrieval_layer", "score"]

TOKENS = {"cpu": 4096, "cuda": 32768}  # padded tokens in one forward pass


def by_tokens(items: Sequence[Item], budget: int) -> Iterator[list[int]]:
    """Item numbers, longest first, in batches of at most `budget` padded tokens (at least one item each)."""
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


def _autocast(device: str, dtype: str) -> Any:
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=getattr(torch, dtype))


@torch.inference_mode()
def forward(model: Model, format: str, items: Sequence[Item], call: Callable[[dict[str, torch.Tensor]], torch.Tensor], *,
            device: str, dtype: str, progress: Callable[[int, int], None] | None = None) -> list[np.ndarray]:  # fmt: skip
    """One array an item, in their order: what the format cuts out of `call(batch)`."""
    model.eval()
    module = formats.load(format)
    found: list[np.ndarray] = [np.empty(0)] * len(items)
    done = 0
    for numbers in by_tokens(items, TOKENS[device]):
        batch = module.collate([items[number] for number in numbers], model.tokenizer, 8 if device == "cuda" else 1)
        batch = {name: value.to(device) for name, value in batch.items()}
        with _autocast(device, dtype):
            outputs = call(batch)
        for number, array in zip(numbers, module.outputs(outputs, batch), strict=True):
            found[number] = array
        done += len(numbers)
        if progress:
            progress(done, len(items))
    return found


def predict(model: Model, task: str, examples: Sequence[Mapping[str, Any]], *, device: str, dtype: str,
            progress: Callable[[int, int], None] | None = None) -> list[dict[str, Any]]:  # fmt: skip
    """One prediction an example, in their order."""
    spec = model.specs[task]
    module = formats.load(spec.format)
    items = module.encode(examples, spec.labels, model.tokenizer, spec.lengths, train=False)
    outputs = forward(
        model, spec.format, items, lambda batch: model(task, batch, with_loss=False)["outputs"],
        device=device, dtype=dtype, progress=progress,
    )  # fmt: skip
    return module.decode(examples, items, outputs, spec.labels)


def retrieval_layer(layers: int) -> int:
    """Hidden state that is pooled: 14 of 24 as Phang et al. 2020 (0: embeddings), scaled to `layers`."""
    return round(14 / 24 * layers)


def embed(model: Model, examples: Sequence[Mapping[str, Any]], lengths: Any, *, layer: int, device: str, dtype: str,
          progress: Callable[[int, int], None] | None = None) -> tuple[Sequence[Item], list[np.ndarray]]:  # fmt: skip
    """Items and the mean of their tokens' hidden states at `layer`, float32."""
    items = formats.load("retrieve").encode(examples, (), model.tokenizer, lengths, train=False)
    vectors = forward(model, "retrieve", items, lambda batch: model.states(batch, layer), device=device, dtype=dtype,
                      progress=progress)  # fmt: skip
    return items, vectors


def _accuracy(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(labels.score([row["prediction"] for row in predictions], [row["gold"] for row in predictions]))


def _tagging(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(tags.score([row["prediction"] for row in predictions], [row["gold"] for row in predictions], tokens=True))


def _tokens(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    pairs = [(p, g) for row in predictions for p, g in zip(row["prediction"], row["gold"], strict=True)]
    return {"accuracy": 100 * sum(p == g for p, g in pairs) / len(pairs)}


def _answers(predictions: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, list[str]]]:
    return {row["id"]: row["prediction"] for row in predictions}, {row["id"]: row["gold"] for row in predictions}


def _squad(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.score(*_answers(predictions)))


def _squad2(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.squad_v2_score(*_answers(predictions)))


def _mlqa(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(qa.mlqa_score(*_answers(predictions), language))


def _tatoeba(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    return dict(labels.score([row["prediction"] for row in predictions], [row["gold"] for row in predictions]))


def _bucc(predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, float]:
    found = {f"{row['source_id']}\t{row['target_id']}": row["score"] for row in predictions if "score" in row}
    gold = {f"{row['source_id']}\t{row['target_id']}" for row in predictions if row["gold"]}
    # XTREME's own number is tuned on the gold it is scored on; its keys lose the suffix, the task's notes say what it is
    return {name.removesuffix("_upper_bound"): float(value) for name, value in bitext.report(found, gold).items()}


SCORERS: Mapping[str, Callable[[Sequence[Mapping[str, Any]], str], dict[str, float]]] = {
    "accuracy": _accuracy,
    "tagging": _tagging,
    "token_accuracy": _tokens,
    "squad": _squad,
    "squad2": _squad2,
    "mlqa": _mlqa,
    "tatoeba": _tatoeba,
    "bucc": _bucc,
}


def score(task: Task, predictions: Sequence[Mapping[str, Any]], language: str) -> dict[str, Any]:
    """Metrics of one language on the 0-100 scale, with `n`, the number of predictions, from predictions alone."""
    if not predictions:
        raise DataError(f"{task.name}: nothing to score in {language}")
    found = SCORERS[task.scorer](predictions, language)
    return {**{name: value for name, value in found.items() if name not in ("total", "n")}, "n": len(predictions)}


def retrieve(task: Task, examples: Sequence[Mapping[str, Any]], items: Sequence[Item], vectors: Sequence[np.ndarray],
             ) -> list[dict[str, Any]]:  # fmt: skip
    """Predictions of a retrieval task from embeddings: Tatoeba's nearest rows, BUCC's mined pairs with their margin."""
    found = sides(examples, items, vectors)
    if task.scorer == "tatoeba":
        nearest = mining.nearest_rows(found["target"]["vectors"], found["source"]["vectors"])
        return [
            {"id": example["id"], "prediction": str(int(row)), "gold": str(number)}
            for number, (example, row) in enumerate(zip(examples, nearest, strict=True))
        ]
    source, target = found["source"], found["target"]
    mined = mining.mine_bitext(source["texts"], target["texts"], source["vectors"], target["vectors"])
    scored = bitext.candidates(mined, source["texts"], target["texts"], source["ids"], target["ids"])
    gold = {f"{example['source_id']}\t{example['target_id']}" for example in examples if example.get("part") == "gold"}
    rows = [dict(zip(("source_id", "target_id"), pair.split("\t"), strict=True), score=float(value), gold=pair in gold)
            for pair, value in scored.items()]  # fmt: skip
    missed = sorted(gold - set(scored))
    return rows + [dict(zip(("source_id", "target_id"), pair.split("\t"), strict=True), gold=True) for pair in missed]


def progress_line(text: str) -> Callable[[int, int], None]:
    """A progress callable that rewrites one line on a terminal and stays quiet elsewhere."""
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            left = (time.monotonic() - started) * (total - done) / max(done, 1)
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{text} {done}/{total} · {math.ceil(left)} s left", end=end, file=sys.stderr, flush=True)

    return show
