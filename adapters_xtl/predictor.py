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

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import formats, tasks
from adapters_xtl.base.arguments import module_text, number, switch, text
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.evaluation import predict, retrieval
from adapters_xtl.evaluation.inputs import examples_of
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Host, Model
from adapters_xtl.planning.finished_modules import chosen_head, serve
from adapters_xtl.runs.request import Plan, Request
from adapters_xtl.runs.store import Store

__all__ = ["Predictor", "load"]

EMBEDS = "tatoeba"  # the task by whose rules `embed` reads a text
_HOST = Host()  # all predictors of a process share one backbone where they can
_LOCK = threading.RLock()  # held while the backbone computes: it carries one stack at a time


class Predictor:
    """A trained module on its backbone, ready for texts. Made by `load`.

    Predictors of one process share a backbone in memory: calling one after another of them reads
    that one's few megabytes again. Calls from several threads are computed one after the other.

    Inputs are batched by length; where memory runs out, the batch is halved, and a single input
    that does not fit raises torch's OutOfMemoryError or MemoryError.
    """

    def __init__(self, planned: Plan, store: Store, head: str) -> None:
        self._plan, self._store, self.head = planned, store, head
        self._model: Model | None = None
        with _LOCK:
            self._spec = self._ready().specs.get(head)

    @property
    def task(self) -> str:
        """Name of the task whose inputs `predict` takes and whose labels it gives."""
        return self._plan.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the head's outputs; () for tasks without classes."""
        return self._spec.labels if self._spec else ()

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """One dict for each input, in their order.

        An input is a dict, a text, or a list of texts. A dict has the keys of the task's format
        (text and pair; context and choices; question and context; words) or the task's own
        columns. An answer has "prediction" and "id" where the input had one; by format also
        "probabilities" (label → 0 to 1), "start" and "end" (characters of the context) or "words".
        The model is in eval mode: the same input has the same answer, but for rounding that
        depends on the inputs it is batched with.

        DataError names the input that is wrong, counted from 0; RequestError for a task that is
        answered by embeddings.
        """
        if not self.head:
            raise RequestError(f"'{self.task}' is answered by embeddings: use embed()")
        _several(inputs, "predict")
        examples = examples_of(tasks.load(self.task), inputs)
        with _LOCK:
            model = self._ready()
            predictions = predict.predict(
                model, self.head, examples, device=self._plan.device, dtype=self._plan.dtype
            )
        form = formats.load(model.specs[self.head].format)
        return [form.answer(prediction) for prediction in predictions]

    def embed(self, texts: Iterable[str], *, layer: int | None = None) -> np.ndarray:
        """Sentence embeddings: an array (texts, hidden size), float32, not normalised.

        A row is the mean, over a text's tokens, of hidden state `layer`: 0 for the embeddings, up
        to the backbone's number of layers. By default it is 14 of 24, as in Phang et al. 2020,
        scaled to the backbone's depth. DataError names the text that is wrong, counted from 0;
        RequestError a layer that is no whole number or that the backbone does not have.
        """
        _several(texts, "embed")
        problems = Problems()
        number("layer", layer, problems, whole=True)
        problems.raise_if_any()
        task = tasks.load(EMBEDS)
        examples = examples_of(task, texts)
        with _LOCK:
            sentences = retrieval.vectors_of(
                self._ready(),
                task.format,
                examples,
                layer="" if layer is None else str(layer),
                device=self._plan.device,
                dtype=self._plan.dtype,
            )
        vectors: np.ndarray = sentences.vectors[:, 0]
        return vectors

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


def _silent(text: str) -> None:
    """Drops the notices of a mismatch: whoever passed `allow_mismatch` knows of it."""


def load(
    module: str | os.PathLike[str],
    *,
    task: str = "",
    backbone: str | None = None,
    device: str = "auto",
    runs: str | Path = "runs",
    allow_mismatch: bool = False,
) -> Predictor:
    """Loads a trained module: a `Run`, a run directory, a run id (under `runs`), a bundle directory
    or a hub id.

    task            whose inputs are answered; "": the module's own
    backbone        a name, a hub id or a directory; None: the recorded one
    device          "auto", "cpu", "cuda" or "mps"
    allow_mismatch  load it on a backbone or parents that it was not trained on

    RequestError when there is no such module, or no head for the task; MismatchError when the
    backbone or a parent is not the one it was trained on.
    """
    problems = Problems()
    name = module_text("module", module, problems)
    request = Request(
        task=text("task", task, problems) or "",
        backbone=text("backbone", backbone, problems, path=True),
        device=text("device", device, problems) or "auto",
        runs=text("runs", runs, problems, path=True) or "runs",
        allow_mismatch=switch("allow_mismatch", allow_mismatch, problems),
    )
    problems.raise_if_any()
    store = Store(Path(request.runs))
    served = serve(request, name, store)
    head = chosen_head(served.plan.task, served.heads, name)
    return Predictor(served.plan, store, head)
