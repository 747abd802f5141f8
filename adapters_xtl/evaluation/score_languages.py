"""Every language of every reported task: predicted, kept, and scored."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import atomic_write, digest, read_json, write_json
from adapters_xtl.evaluation import predict, retrieval, scoring
from adapters_xtl.evaluation.rows import RunRows
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Model, peak_memory
from adapters_xtl.planning.finished_modules import head_for
from adapters_xtl.runs.lineage import stored_module
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.tasks import Task

__all__ = ["score_languages", "weights_digest"]


@dataclass(frozen=True)
class _Predicted:
    """Predictions of one language; `inputs`: how many texts were read; `cached`: whether their
    vectors were found in the cache; `scores_by_layer`: layer → score where all layers were asked
    for.
    """

    predictions: Sequence[Mapping[str, Any]]
    inputs: int
    cached: bool = False
    scores_by_layer: Mapping[str, float] = field(default_factory=dict)


def weights_digest(context: Context, module: Module | None, merged: bool = False) -> str:
    """sha256 of what decides a text's hidden states: backbone, precision, the stack's own weights,
    and whether these are `merged` into the encoder's.
    """
    plan = context.plan
    stack = (*module.parents, module) if module else ()
    return digest(
        {
            "backbone": plan.backbone.fingerprint,
            "bits": plan.bits,
            "dtype": plan.dtype,
            "device": plan.device,
            "compose": module.run.compose if module else "",
            **({"merged": True} if merged else {}),
            "modules": [stored_module(module, context.store).module_sha256 for module in stack],
        }
    )


def score_languages(
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

    Predictions that `work` holds already are scored as they are, so an interrupted evaluation goes
    on where it was; those of another evaluation are not (a training's id says nothing of the split
    and rows that were to be scored with it). `saved`: the module's weights lie in the store
    already, so that sentence vectors can be kept under their digest.
    """
    entries: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    plan = context.plan
    notes = _notes_folder(work, evaluation.id)
    for name, parts in rows.report.items():
        task = tasks.load(name)
        form = formats.load(task.format)
        languages: dict[str, Any] = {}
        by_layer: dict[str, dict[str, float]] = {}
        for language, part in parts.items():
            path = work / "predictions" / name / f"{language}.jsonl"
            note = notes / name / f"{language}.json"
            if not (path.is_file() and note.is_file()):
                examples = part.examples[: evaluation.limit] if evaluation.limit else part.examples
                keep = saved and not form.has_head
                key = weights_digest(context, module, evaluation.merged) if keep else ""
                started = time.monotonic()
                predicted = _predict(plan, model, task, examples, evaluation.layer, key, language)
                cost = _cost(predicted, time.monotonic() - started, plan.device)
                write_json(note, {"cost": cost, "layers": predicted.scores_by_layer})
                lines = (json.dumps(row, ensure_ascii=False) for row in predicted.predictions)
                atomic_write(path, "".join(f"{line}\n" for line in lines))
            noted = read_json(note)
            costs.setdefault(name, {})[language] = noted["cost"]
            for layer, score in noted["layers"].items():
                by_layer.setdefault(layer, {})[language] = score
            predictions = scoring.predictions(work, name, language)
            languages[language] = scoring.score(task, predictions, language)
        entries[name] = scoring.entry(task, evaluation.splits[name], languages)
        if rows.overlap.get(name):
            entries[name]["selected_on"] = rows.overlap[name]
        if not form.has_head:
            entries[name]["layer"] = retrieval.layer_of(model, evaluation.layer)
            entries[name]["max_length"] = retrieval.sentence_length(model)
        if by_layer:
            entries[name]["layers"] = by_layer
    return scoring.together(entries), costs


def _notes_folder(work: Path, evaluation: str) -> Path:
    """Where costs and scores by layer of the languages that are done are noted; empty where another
    evaluation was begun.
    """
    mark, folder = work / "evaluation.json", work / "scored"
    if not mark.is_file() or read_json(mark) != evaluation:
        shutil.rmtree(work / "predictions", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, evaluation)
    return folder


def _cost(predicted: _Predicted, seconds: float, device: str) -> dict[str, Any]:
    """What predicting one language took, as provenance.json has it."""
    return {
        "inputs": predicted.inputs,
        "seconds": round(seconds, 3),
        "inputs_per_second": round(predicted.inputs / max(seconds, 1e-9), 1),
        "measured_peak_bytes": peak_memory(device),
        "from_cache": predicted.cached,
    }


def _predict(
    plan: Plan,
    model: Model,
    task: Task,
    examples: Sequence[Mapping[str, Any]],
    layer: str,
    cache_key: str,
    language: str,
) -> _Predicted:
    """Predictions of one language: by the task's head or, where its format has none, from sentence
    vectors. RequestError where the model lacks the head.
    """
    progress = predict.progress_line(f"{task.name} {language}")
    form = formats.load(task.format)
    if form.has_head:
        head = head_for(task, model.specs)
        if head is None:
            raise RequestError(f"{task.name} needs a trained head; give --on a module that has one")
        predictions = predict.predict(
            model, head, examples, device=plan.device, dtype=plan.dtype, progress=progress
        )
        return _Predicted(predictions, len(examples))
    sentences = retrieval.vectors_of(
        model,
        task.format,
        examples,
        layer=layer,
        device=plan.device,
        dtype=plan.dtype,
        cache_key=cache_key,
        progress=progress,
    )

    def decoded(number: int) -> list[dict[str, Any]]:
        return form.decode(examples, sentences.items, list(sentences.of(number)), ())

    scores = {}
    if layer == retrieval.ALL:
        scores = {
            str(number): scoring.score(task, decoded(number), language)[task.metric]
            for number in sentences.layers
        }
    chosen = decoded(retrieval.layer_of(model, layer))
    return _Predicted(chosen, len(sentences.items), sentences.cached, scores)
