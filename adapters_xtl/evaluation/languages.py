"""Every language of every reported task: predicted, kept, scored. Embeddings are cached, layers
compared.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import (
    atomic_write,
    cache_dir,
    digest,
    read_json,
    write_json,
)
from adapters_xtl.evaluation import predict, scoring
from adapters_xtl.evaluation.rows import RunRows
from adapters_xtl.formats._items import Lengths
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Model, peak_memory
from adapters_xtl.planning.plan import head_for
from adapters_xtl.runs.lineage import stored_module
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = ["RETRIEVAL_LENGTH", "report", "weights"]

RETRIEVAL_LENGTH = 512  # tokens of a sentence, as Phang et al. 2020 (first author's code)


def weights(plan: Plan, module: Module | None, store: Store) -> str:
    """sha256 of what decides a text's hidden states: backbone, precision, and the stack's own
    weights.
    """
    stack = (*module.parents, module) if module else ()
    return digest(
        {
            "backbone": plan.backbone.fingerprint,
            "bits": plan.bits,
            "dtype": plan.dtype,
            "device": plan.device,
            "compose": module.run.compose if module else "",
            "modules": [stored_module(each, store).module_sha256 for each in stack],
        }
    )


def report(
    context: Context,
    model: Model,
    module: Module | None,
    evaluation: Evaluation,
    rows: RunRows,
    work: Path,
    *,
    saved: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tasks and score as metrics.json has them, what predicting cost by task and language).

    Predictions found in `work` are scored as they are, so an interrupted evaluation goes on where
    it was; those of another evaluation are not (a training's id says nothing of the split
    and rows that were to be scored with it). `saved`: the module's weights lie in the store
    already, so that embeddings can be kept under their digest.
    """
    found: dict[str, Any] = {}
    cost: dict[str, Any] = {}
    plan, store = context.plan, context.store
    kept = _begun(work, evaluation.id)
    for name, by in rows.report.items():
        task = tasks.load(name)
        languages: dict[str, Any] = {}
        layers: dict[str, dict[str, float]] = {}
        for language, part in by.items():
            path, note = (
                work / "predictions" / name / f"{language}.jsonl",
                kept / name / f"{language}.json",
            )
            if not (path.is_file() and note.is_file()):
                examples = part.examples[: evaluation.limit] if evaluation.limit else part.examples
                started = time.monotonic()
                key = weights(plan, module, store) if saved and task.format == "retrieve" else ""
                lines, count, known, each = _predictions(
                    plan, model, task, examples, evaluation.layer, key, language
                )
                seconds = time.monotonic() - started
                spent = {
                    "inputs": count,
                    "seconds": round(seconds, 3),
                    "inputs_per_second": round(count / seconds, 1),
                    "measured_peak_bytes": peak_memory(plan.device),
                    "from_cache": known,
                }
                write_json(note, {"cost": spent, "layers": each})
                atomic_write(
                    path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
                )
            noted = read_json(note)
            cost.setdefault(name, {})[language] = noted["cost"]
            for layer, value in noted["layers"].items():
                layers.setdefault(layer, {})[language] = value
            languages[language] = scoring.score(
                task, scoring.predictions(work, name, language), language
            )
        found[name] = scoring.entry(task, evaluation.splits[name], languages)
        if rows.overlap.get(name):
            found[name]["selected_on"] = rows.overlap[name]
        if task.format == "retrieve":
            found[name]["layer"] = _layer(model, evaluation.layer)
        if layers:
            found[name]["layers"] = layers
    return scoring.together(found), cost


def _begun(work: Path, evaluation: str) -> Path:
    """Where costs and scores by layer of the languages that are done are noted; empty where another
    evaluation was begun.
    """
    mark, folder = work / "evaluation.json", work / "scored"
    if not mark.is_file() or read_json(mark) != evaluation:
        shutil.rmtree(work / "predictions", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, evaluation)
    return folder


def _layer(model: Model, asked: str) -> int:
    encoder: Any = model.encoder
    return (
        int(asked) if asked.isdigit() else predict.retrieval_layer(encoder.config.num_hidden_layers)
    )


def _predictions(
    plan: Plan,
    model: Model,
    task: Task,
    examples: Sequence[Mapping[str, Any]],
    layer: str,
    key: str,
    language: str,
) -> tuple[list[dict[str, Any]], int, bool, dict[str, float]]:
    """(predictions, inputs, whether embeddings came from the cache, with layer "all": layer →
    score).
    """
    progress = predict.progress_line(f"{task.name} {language}")
    if task.format != "retrieve":
        head = head_for(task, model.specs)
        if head is None:
            raise RequestError(f"{task.name} needs a trained head; give --on a module that has one")
        lines = predict.predict(
            model, head, examples, device=plan.device, dtype=plan.dtype, progress=progress
        )
        return lines, len(examples), False, {}
    chosen = _layer(model, layer)
    encoder: Any = model.encoder
    wanted = list(range(encoder.config.num_hidden_layers + 1)) if layer == "all" else [chosen]
    items = predict.sentences(model, examples, Lengths(RETRIEVAL_LENGTH))

    def embedded() -> np.ndarray:
        return predict.embed(
            model, items, layers=wanted, device=plan.device, dtype=plan.dtype, progress=progress
        )

    vectors, known = _cached(
        digest([key, wanted, [item.ids[0].tolist() for item in items]]) if key else "", embedded
    )
    scores = {
        str(number): scoring.score(
            task, predict.retrieve(task, examples, items, vectors[:, place]), language
        )[task.metric]
        for place, number in enumerate(wanted)
        if layer == "all"
    }
    return (
        predict.retrieve(task, examples, items, vectors[:, wanted.index(chosen)]),
        len(items),
        known,
        scores,
    )


def _cached(key: str, make: Callable[[], np.ndarray]) -> tuple[np.ndarray, bool]:
    """An array by its key, made and kept where it is not there yet; "" is not kept."""
    if not key:
        return make(), False
    path = cache_dir() / "embeddings" / key[:2] / f"{key}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False), True
    made = make()
    buffer = io.BytesIO()
    np.save(buffer, made, allow_pickle=False)
    atomic_write(path, buffer.getvalue())
    return made, False
