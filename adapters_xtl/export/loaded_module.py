"""A trained module to be exported: one task's head (or none) on its stack, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters_xtl import formats, methods, tasks
from adapters_xtl.backbones.shape import retrieval_layer
from adapters_xtl.base.errors import RequestError
from adapters_xtl.evaluation.retrieval import sentence_length
from adapters_xtl.formats import Format, Item, Lengths
from adapters_xtl.methods import Method
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Host, Model
from adapters_xtl.planning.finished_modules import chosen_head, serve
from adapters_xtl.runs.request import Module, Plan, Request
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = ["FULL_PRECISION", "LoadedModule", "ModuleToExport", "find_module"]

FULL_PRECISION = (32, 16)  # bits of weights that are numbers, not codes of a quantisation


@dataclass(frozen=True)
class ModuleToExport:
    """A finished module as it was found, before anything of it is loaded.

    task  whose inputs the export takes
    head  the head that answers it; "" for sentence vectors
    """

    plan: Plan
    store: Store
    module: Module
    task: Task
    head: str

    @property
    def method(self) -> Method:
        return methods.load(self.module.run.method)

    @property
    def format(self) -> Format:
        return formats.load(self.task.format)


def find_module(
    name: str,
    *,
    task: str = "",
    backbone: str | None = None,
    runs: str = "runs",
    allow_mismatch: bool = False,
    notify: Callable[[str], None],
) -> ModuleToExport:
    """The module `name` (a run directory, a run id, a bundle directory, a hub id) with the head for
    `task`, by default its own.

    RequestError where there is no such module or head, and for weights of 8 or 4 bits;
    MismatchError where the backbone is not the recorded one.
    """
    store = Store(Path(runs))
    request = Request(
        task=task,
        backbone=backbone,
        data="embedded",
        device="cpu",
        runs=runs,
        allow_mismatch=allow_mismatch,
    )
    served = serve(request, name, store, notify=notify)
    module = served.plan.target
    assert module is not None
    if module.run.bits not in FULL_PRECISION:
        raise RequestError(
            f"{name}: was trained on {module.run.bits}-bit weights, and what it learnt fits their"
            " rounding; on the backbone's own weights it would be another model: train it with"
            " --bits 32 or 16, or share it as it is (xtl hub push)"
        )
    head = chosen_head(served.plan.task, served.heads, name)
    return ModuleToExport(served.plan, store, module, tasks.load(served.plan.task), head)


@dataclass
class LoadedModule:
    """The network of a module, in evaluation mode on the CPU.

    layer  the hidden state that is pooled into a sentence vector; None with a head
    """

    source: ModuleToExport
    model: Model
    layer: int | None
    lengths: Lengths
    labels: tuple[str, ...]

    @classmethod
    def load(cls, source: ModuleToExport, notify: Callable[[str], None]) -> LoadedModule:
        """MismatchError where a parent is not the one that the module was trained on."""
        model = trained_model(Context(source.plan, source.store, Host(), notify), source.module)
        if not source.head:
            lengths = Lengths(sentence_length(model))
            return cls(source, model, retrieval_layer(model.layers), lengths, ())
        spec = model.specs[source.head]
        return cls(source, model, None, spec.lengths, spec.labels)

    def items(self, examples: tuple[Mapping[str, Any], ...]) -> list[Item]:
        """The examples as the module's format encodes them for its head."""
        form = self.source.format
        encoded = form.encode(
            examples, self.labels, self.model.tokenizer, self.lengths, train=False
        )
        return list(encoded)

    def outputs(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the head computes of a batch, or the sentence vectors (B, hidden)."""
        if self.layer is None:
            outputs: torch.Tensor = self.model(self.source.head, batch, with_loss=False)["outputs"]
            return outputs
        states = self.model.hidden_states(batch, self.layer)[self.layer]
        return self.source.format.pooled(states, batch["attention_mask"])

    def exported_encoder(self) -> Any:
        """The encoder with the modules folded into its weights, where the method can do that, and
        cut above the hidden state that is pooled. This network is used up.
        """
        method, encoder = self.source.method, self.model.encoder
        plain: Any = encoder if method.not_folded else method.fold(encoder)
        if self.layer is not None:
            # the layers above are not read: without them, the last hidden state is the pooled one
            plain.encoder.layer = plain.encoder.layer[: self.layer]
            plain.config.num_hidden_layers = self.layer
        return plain

    def save_tokenizer(self, into: Path) -> None:
        """Writes the tokenizer. Its `model_max_length` is where the stack cuts an input or, where
        it reads long ones in windows, the most that the encoder reads at once.
        """
        cuts = not self.source.format.reads_every_token
        tokenizer = self.model.tokenizer
        tokenizer.model_max_length = self.lengths.max_length if cuts else self.model.longest
        tokenizer.save_pretrained(into)
