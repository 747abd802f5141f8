"""`export_onnx`: a stack with its head as one ONNX graph, checked against onnxruntime.

torch's exporter by way of `torch.export` is used: it proves that batch size and length are free,
where the older one by tracing only records one input's way through the libraries' Python. A stack
that can be folded into the encoder's weights is folded first; others are written layer by layer.
optimum is not used: it exports classes of transformers, which a stack under a head of ours is not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapters_xtl.base.errors import RunError, out_of_memory
from adapters_xtl.base.extras import need
from adapters_xtl.base.files import write_json
from adapters_xtl.export.card import Comparison, ExportedModel, write_card
from adapters_xtl.export.differences import Difference, Outputs, compared, outputs_of, stack_outputs
from adapters_xtl.export.loaded_module import LoadedModule, find_module
from adapters_xtl.export.output_directory import check_output, new_directory
from adapters_xtl.export.sample_inputs import sample_inputs
from adapters_xtl.formats import Item
from adapters_xtl.models.network import on_device

__all__ = ["TOLERANCE", "OnnxModel", "export_onnx"]

TOLERANCE = 1e-4  # of an output, in parts of the largest
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MODEL, HEAD = "model.onnx", "head.json"
ONE_FILE = 3 << 29  # bytes of weights that still go into the graph's own file, which ends at 2 GiB
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX graph that was written.

    path        its directory
    inputs      names of its inputs, int64 (batch, length)
    output      name of its output
    difference  of onnxruntime's outputs to the stack's, both in float32
    compared    what they were compared on, in words
    """

    path: Path
    inputs: tuple[str, ...]
    output: str
    difference: Difference
    compared: str


def export_onnx(
    module: str,
    directory: str | Path,
    *,
    task: str = "",
    backbone: str | None = None,
    runs: str | Path = "runs",
    allow_mismatch: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> OnnxModel:
    """Writes a module's stack and head, of any method, as an ONNX graph in float32 with free batch
    size and length: `model.onnx`, `head.json`, tokenizer, model card.

    module, directory, task  as `adapters_xtl.export.merged_model.merge` takes them. A retrieval
                             task gives the pooled sentence vectors

    The outputs of onnxruntime are compared with the stack's. RequestError where the packages of the
    extra `onnx` are missing, RunError where the outputs differ by more than `TOLERANCE`; then
    nothing is written.
    """
    path = Path(directory)
    check_output(path)
    need("ONNX", *PACKAGES)
    source = find_module(
        module,
        task=task,
        backbone=backbone,
        runs=str(runs),
        allow_mismatch=allow_mismatch,
        notify=notify,
    )
    inputs = sample_inputs(source.task)
    loaded = LoadedModule.load(source, notify)
    loaded.model.float()
    items = loaded.items(inputs.examples)
    exact = stack_outputs(loaded, items)
    with new_directory(path) as aside:
        names = _write(loaded, items, aside / MODEL, module)
        outputs = _runtime_outputs(aside / MODEL, loaded, items)
        difference = compared(exact, outputs, TOLERANCE)
        if not difference.within:
            raise RunError(
                f"{module}: onnxruntime's outputs differ from the stack's by"
                f" {difference.largest:.2g} (tolerance {difference.tolerance:.2g}), on"
                f" {inputs.described}: nothing was written"
            )
        loaded.save_tokenizer(aside)
        output = "outputs" if source.head else "vectors"
        _write_head_description(aside / HEAD, loaded)
        write_card(
            aside,
            source.module,
            ExportedModel(
                task=source.task.name,
                kind="an ONNX graph in float32",
                bits=32,
                comparison=Comparison(
                    difference.largest, difference.tolerance, difference.scale, inputs.described
                ),
                pooling=source.format.pooling,
                layer=loaded.layer,
                inputs=names,
                outputs=(output,),
            ),
        )
    return OnnxModel(path, names, output, difference, inputs.described)


class _Graph(nn.Module):
    """Encoder and head, or encoder and pooling, with the encoder's inputs as arguments."""

    def __init__(self, loaded: LoadedModule, names: Sequence[str]) -> None:
        super().__init__()
        self.encoder = loaded.exported_encoder()
        self.head = loaded.model.heads[loaded.source.head] if loaded.source.head else None
        self.names = tuple(names)
        self.pooled = loaded.source.format.pooled

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        batch = dict(zip(self.names, values, strict=True))
        states = self.encoder(**batch).last_hidden_state
        if self.head is None:
            return self.pooled(states, batch["attention_mask"])
        outputs: torch.Tensor = self.head(states, batch)
        return outputs


def _write(loaded: LoadedModule, items: Sequence[Item], path: Path, module: str) -> tuple[str, ...]:
    """Writes the graph; the names of its inputs. The network of `loaded` is used up."""
    form = loaded.source.format
    batch = on_device(form.collate(items[:2], loaded.model.tokenizer), "cpu")
    names = tuple(name for name in INPUTS if name in batch)
    graph = _Graph(loaded, names).eval()
    size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    free = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("length", min=2, max=loaded.model.longest),
    }
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                graph,
                tuple(batch[name] for name in names),
                str(path),
                input_names=list(names),
                output_names=["outputs" if loaded.source.head else "vectors"],
                dynamic_shapes=((free,) * len(names),),
                dynamo=True,
                external_data=size > ONE_FILE,
                verbose=False,
            )
    except Exception as error:  # whatever the libraries' Python does not let through
        if out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise RunError(f"{module}: torch could not write it as ONNX ({reason})") from error
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's progress and its remarks on libraries' internals: what is wrong with
    a graph shows when its outputs are compared.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _runtime_outputs(path: Path, loaded: LoadedModule, items: Sequence[Item]) -> Outputs:
    """What onnxruntime gives for the items, on the CPU."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def call(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        feed = {name: batch[name].numpy() for name in names}
        return torch.from_numpy(session.run(None, feed)[0])

    return outputs_of(loaded.source.format, loaded.model.tokenizer, items, call)


def _write_head_description(path: Path, loaded: LoadedModule) -> None:
    """What the output holds, for whoever reads it without adapters_xtl."""
    source = loaded.source
    head: dict[str, Any] = {
        "task": source.task.name,
        "format": source.format.name,
        "max_length": loaded.lengths.max_length,
    }
    if source.head:
        spec = loaded.model.specs[source.head]
        every = "token" if source.format.reads_every_token else "sequence"
        head |= {"labels": list(spec.labels), "outputs_of_each": every}
        head["outputs"] = list(spec.outputs)
    else:
        head |= {"pooling": source.format.pooling, "layer": loaded.layer}
    write_json(path, head)
