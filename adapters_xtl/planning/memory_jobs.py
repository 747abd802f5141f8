"""A run as a job for the memory prediction: its sizes, and the config of its backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.backbones import registry
from adapters_xtl.backbones.config import read_config
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import local
from adapters_xtl.data.sources import samples_dir
from adapters_xtl.memory.activations import Job
from adapters_xtl.runs.hyper import COMPILED_FROM, FIXED
from adapters_xtl.runs.run import Run

__all__ = ["FACTS", "config", "job_of"]

# config.json of the hub's repositories of these names; XLM-R's sizes stand in arXiv 1911.02116 and
# 2105.00572 too
_KEYS = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "pad_token_id",
)
FACTS: Mapping[str, Mapping[str, Any]] = {
    name: dict(zip(_KEYS, values, strict=True))
    for name, values in {
        "FacebookAI/xlm-roberta-large": ("xlm-roberta", 24, 1024, 16, 4096, 250002, 514, 1, 1),
        "FacebookAI/xlm-roberta-base": ("xlm-roberta", 12, 768, 12, 3072, 250002, 514, 1, 1),
        "facebook/xlm-roberta-xl": ("xlm-roberta-xl", 36, 2560, 32, 10240, 250880, 514, 1, 1),
        "google-bert/bert-base-multilingual-cased": ("bert", 12, 768, 12, 3072, 119547, 512, 2, 0),
    }.items()
}


def config(name: str) -> dict[str, Any]:
    """The config that `name` stands for: a named backbone, a hub id, a directory with a
    config.json, or that file.

    Of a directory nothing else is read. A hub id that is not in FACTS costs the download of its
    config.json.
    """
    path = local(name)
    path = path / "config.json" if path.is_dir() else path
    if path.is_file():
        return read_config(path, f"--backbone {name}", sizes_only=True)
    if path.parent.is_dir() and path.name == "config.json" and path.parent != Path("."):
        raise RequestError(f"--backbone {name}: no config.json there")
    backbone = registry.resolve(name)
    if backbone.location in FACTS:
        return dict(FACTS[backbone.location])
    return registry.config(backbone, sizes_only=True)


@cache
def _sequences(name: str) -> int:
    """Most sequences of an example of the task, as its sample rows have them."""
    task = tasks.load(name)
    form = formats.load(task.format)
    if form.usual_sequences == 1:
        return 1
    path = samples_dir() / f"{task.samples or task.name}.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    examples = [task.example(json.loads(line)) for line in lines if line]
    return max(map(form.sequences, examples), default=form.usual_sequences)


def job_of(run: Run, device: str, parents: int, keep: tuple[str, ...] = ()) -> Job:
    """The job of a run; of several tasks together, the one that takes most. `parents`: modules
    below the one that trains.
    """
    members = [tasks.load(name) for name, _ in run.tasks]
    demands = [
        (
            _sequences(task.name),
            len(task.labels) or formats.load(task.format).usual_labels,
            task.format,
        )
        for task in members
    ]
    sequences, labels, format = max(demands)
    hyper = run.hyper
    return Job(
        run.method,
        run.options,
        parents,
        run.compose == "fuse",
        run.from_layer,
        format,
        labels,
        sequences,
        hyper.max_length,
        hyper.batch_size,
        hyper.dropout,
        run.bits,
        run.dtype,
        device,
        hyper.optimizer,
        (*keep, *(["dtype"] if hyper.dtype != "auto" else [])),
        hyper.prefix == FIXED,
        min(filter(None, (hyper.max_examples, hyper.max_steps * hyper.batch_size)), default=0)
        * sequences,
        hyper.token_budget,
        hyper.parallel_passes,
        hyper.compiled != "off"
        and not hyper.against_compiling(device, hyper.max_steps or COMPILED_FROM),
    )
