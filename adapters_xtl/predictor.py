"""A trained module as an object: `load` it, `predict`, `embed`.

>>> model = load(run)
>>> model.task, model.labels
('mnli', ('entailment', 'neutral', 'contradiction'))
>>> answer = model.predict([("The train to Lyon was cancelled.", "No train went to Lyon.")])[0]
>>> answer["prediction"] in model.labels, round(sum(answer["probabilities"].values()), 4)
(True, 1.0)
>>> model.embed(["Der Zug kam pünktlich.", "The train came on time."]).shape[0]
2
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.evaluation import predict
from adapters_xtl.evaluation.inputs import example
from adapters_xtl.evaluation.languages import RETRIEVAL_LENGTH
from adapters_xtl.formats._items import Lengths
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Host, Model
from adapters_xtl.planning import plan
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = ["Predictor", "load"]

_HOST = Host()  # all predictors of a process share one backbone where they can


class Predictor:
    """A module on its backbone, ready for texts. Made by `load`.

    Predictors on the same backbone share it in memory; going from one to the other reads the
    other's few megabytes.
    """

    def __init__(self, planned: Plan, store: Store, head: str) -> None:
        self._plan, self._store, self.head = planned, store, head
        self._model: Model | None = None
        self._spec = self._ready().specs.get(head)

    @property
    def task(self) -> str:
        """Name of the task that `predict` answers."""
        return self._plan.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the head's order; () where the format has none."""
        return self._spec.labels if self._spec else ()

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """One dict an input, in order: `prediction`, and by format `probabilities`, `start` and
        `end`, `words`.

        Inputs are dicts by the format's keys (text, pair; context, choices; question, context;
        words) or the task's own columns, plain texts, or pairs. DataError names the input that is
        wrong; RequestError for a task without a head.
        """
        if not self.head:
            raise RequestError(f"'{self.task}' is answered by embeddings: use embed()")
        _several(inputs, "predict")
        task = tasks.load(self.task)
        examples = _examples(task, inputs, pairs=self.pairs)
        found = predict.predict(
            self._ready(), self.head, examples, device=self._plan.device, dtype=self._plan.dtype
        )
        for row in found:
            row.pop("gold")
            if row["id"] is None:
                row.pop("id")
            if "start" in row:
                row["end"] = None if row["start"] is None else row["start"] + len(row["prediction"])
        return found

    @property
    def pairs(self) -> bool:
        """Whether the task is about two texts."""
        task = tasks.load(self.task)
        return task.format == "classify" and any(
            {"hypothesis", "sentence2", "question2"} & set(rows.columns)
            for rows in (*task.train, *_reports(task))
        )

    def embed(self, texts: Iterable[str], *, layer: int | None = None) -> np.ndarray:
        """Mean over tokens of hidden state `layer` (default: 14 of 24, scaled): (texts, hidden)
        float32.

        DataError names the text that is wrong.
        """
        _several(texts, "embed")
        known = _examples(tasks.load("tatoeba"), texts, pairs=False)
        model = self._ready()
        encoder: Any = model.encoder
        layers = int(encoder.config.num_hidden_layers)
        chosen = predict.retrieval_layer(layers) if layer is None else layer
        if not 0 <= chosen <= layers:
            raise RequestError(f"layer {chosen}: this backbone has hidden states 0 to {layers}")
        if not known:
            return np.empty((0, int(encoder.config.hidden_size)), dtype=np.float32)
        rows = [{"part": "source", "id": None, "sentence": each["text"]} for each in known]
        items = predict.sentences(model, rows, Lengths(RETRIEVAL_LENGTH))
        found: np.ndarray = predict.embed(
            model, items, layers=[chosen], device=self._plan.device, dtype=self._plan.dtype
        )[:, 0]
        return found

    def _ready(self) -> Model:
        if self._model is None or not _HOST.holds(self._model):
            self._model = trained_model(
                Context(self._plan, self._store, _HOST, _silent), self._plan.target
            )
        return self._model


def _several(inputs: Any, name: str) -> None:
    """RequestError for one input where several are expected: its characters or keys would be taken
    for inputs.
    """
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise RequestError(
            f"{name}() takes a list of inputs, not one {type(inputs).__name__}: {name}([…])"
        )


def _examples(task: Task, inputs: Iterable[Any], *, pairs: bool) -> list[dict[str, Any]]:
    found = []
    for number, given in enumerate(inputs):
        try:
            found.append(example(task, given, pairs=pairs))
        except DataError as error:
            raise DataError(f"input {number}: {error}") from error
    return found


def _reports(task: Any) -> list[Any]:
    return [rows for group in task.report.values() for rows in group]


def _silent(text: str) -> None:
    """What `--allow-mismatch` allowed is no news to a caller who asked for it by name."""


def load(
    module: str | Path,
    *,
    task: str = "",
    backbone: str | None = None,
    device: str = "auto",
    runs: str = "runs",
    allow_mismatch: bool = False,
) -> Predictor:
    """The module of a run directory, a run id (under `runs`), a bundle directory or a hub id.

    `task`: which of its tasks is asked, its own where left out. RequestError when there is no such
    module or head; MismatchError when the backbone or a parent is not the one it was trained on
    (unless `allow_mismatch`).
    """
    store = Store(Path(runs))
    asked = Request(
        task=task, backbone=backbone, device=device, runs=runs, allow_mismatch=allow_mismatch
    )
    planned, heads = plan.serve(asked, str(module), store)
    return Predictor(planned, store, plan.chosen_head(planned.task, heads, str(module)))
