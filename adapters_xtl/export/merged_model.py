"""`merge`: a stack folded into one plain checkpoint that transformers loads by itself."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from adapters_xtl.backbones.quantised import weight_dtype
from adapters_xtl.backbones.registry import MINI_CONFIG
from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.files import read_json, write_json
from adapters_xtl.export.card import Comparison, ExportedModel, write_card
from adapters_xtl.export.differences import Difference, Outputs, compared, outputs_of, stack_outputs
from adapters_xtl.export.loaded_module import (
    FULL_PRECISION,
    LoadedModule,
    ModuleToExport,
    find_module,
)
from adapters_xtl.export.output_directory import check_output, new_directory
from adapters_xtl.export.sample_inputs import SampleInputs, sample_inputs
from adapters_xtl.formats import Item, PlainHead
from adapters_xtl.models.heads import HeadSpec

__all__ = ["TOLERANCE", "Merged", "merge"]

# largest difference of an output to the stack's, both computed in float32, in parts of the largest
# output: by bits of the merged weights
TOLERANCE = {32: 1e-4, 16: 5e-2}
HEAD_FOLDER = "head"  # what of a head no class of transformers has


@dataclass(frozen=True)
class Merged:
    """A merged model that was written.

    path        its directory
    bits        of its weights
    auto_class  the class of transformers that loads it
    pipeline    name of the `transformers.pipeline` that runs it; "" for none
    difference  of its outputs to the stack's, both computed in float32
    as_run      largest difference to the stack's outputs in the precision in which it was trained
                and scored; None where that is float32
    inputs      what they were compared on, in words
    """

    path: Path
    bits: int
    auto_class: str
    pipeline: str
    difference: Difference
    as_run: float | None
    inputs: str


def merge(
    module: str,
    directory: str | Path,
    *,
    task: str = "",
    bits: int | None = None,
    backbone: str | None = None,
    runs: str | Path = "runs",
    allow_mismatch: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Merged:
    """Writes a module's stack, folded into a copy of its backbone, as a plain checkpoint of
    transformers: weights, config, tokenizer, model card.

    module    a run directory, a run id (under `runs`), a bundle directory or a hub id
    directory a new directory; it is written aside and renamed when it is whole
    task      whose inputs the model takes; "": the module's own. A retrieval task gives a sentence
              encoder
    bits      32 (float32) or 16 (bfloat16, or float16 where it was trained in that); None: the bits
              that it was trained on

    The checkpoint is loaded again and its outputs are compared with the stack's. RequestError for
    what cannot be folded, RunError where the outputs differ by more than `TOLERANCE`; then nothing
    is written.
    """
    path = Path(directory)
    check_output(path)
    source = find_module(
        module,
        task=task,
        backbone=backbone,
        runs=str(runs),
        allow_mismatch=allow_mismatch,
        notify=notify,
    )
    _check(source, module, bits)
    bits = bits or source.module.run.bits
    inputs = sample_inputs(source.task)
    loaded = LoadedModule.load(source, notify)
    items = loaded.items(inputs.examples)
    own_dtype = source.module.run.dtype
    as_run = stack_outputs(loaded, items, own_dtype) if own_dtype != "float32" else None
    loaded.model.float()
    exact = stack_outputs(loaded, items)
    with new_directory(path) as aside:
        plain, spec = _write(loaded, aside, weight_dtype(bits, own_dtype))
        tokenizer, form = loaded.model.tokenizer, source.format
        del loaded
        gc.collect()
        outputs = _outputs_again(aside, plain, spec, source, tokenizer, items)
        relative = TOLERANCE[bits]
        difference = compared(exact, outputs, relative)
        if not difference.within:
            raise RunError(
                f"{module}: the merged model's outputs differ from the stack's by"
                f" {difference.largest:.2g} (tolerance {difference.tolerance:.2g}), on"
                f" {inputs.described}: nothing was written"
            )
        apart = None if as_run is None else compared(as_run, outputs, relative).largest
        _describe(aside, source, plain, bits, difference, apart, inputs, form.pooling)
    return Merged(
        path,
        bits,
        plain.auto_class if plain else "AutoModel",
        plain.pipeline if plain else "",
        difference,
        apart,
        inputs.described,
    )


def _check(source: ModuleToExport, name: str, bits: int | None) -> None:
    """RequestError for a module that cannot be folded, and for bits that are none."""
    method = source.method
    if method.not_folded:
        raise RequestError(
            f"{name}: method {method.name} cannot be merged: {method.not_folded}; `xtl export onnx`"
            " takes it as it is"
        )
    if bits is not None and bits not in FULL_PRECISION:
        raise RequestError(f"--bits {bits}: a merged model has weights of 32 or 16 bits")


def _write(
    loaded: LoadedModule, into: Path, dtype: torch.dtype
) -> tuple[PlainHead | None, HeadSpec | None]:
    """Writes weights, config and tokenizer; (the head's class in transformers, its spec), None for
    what there is not. The network is used up.
    """
    source, model = loaded.source, loaded.model
    spec = model.specs[source.head] if source.head else None
    encoder = loaded.exported_encoder()
    config = copy.deepcopy(encoder.config)
    plain = source.format.plain_heads.get(config.model_type) if spec else None
    head = {} if spec is None else dict(model.heads[source.head].state_dict())
    if spec is not None and plain is not None:
        config.classifier_dropout = spec.dropout
        if plain.labelled:
            config.id2label = dict(enumerate(spec.labels))
            config.label2id = {label: number for number, label in enumerate(spec.labels)}
    state = dict(encoder.state_dict())
    with torch.device("meta"):  # the weights are put in below
        if plain is None:
            whole = transformers.AutoModel.from_config(config, add_pooling_layer=False)
        else:
            whole = getattr(transformers, plain.auto_class).from_config(config)
            state = {f"{whole.base_model_prefix}.{name}": value for name, value in state.items()}
            for layer, target in plain.layers.items():
                for part in ("weight", "bias"):
                    state[f"{target}.{part}"] = head.pop(f"{layer}.{part}")
    state = {name: value.detach().to(dtype).contiguous() for name, value in state.items()}
    whole.load_state_dict(state, strict=True, assign=True)
    whole.to(dtype=dtype)
    whole.name_or_path = whole.config._name_or_path = ""
    whole.save_pretrained(into, safe_serialization=True)
    # as in the embedded encoder's: with a later version transformers warns of Mistral's tokenizers
    written = read_json(into / "config.json")
    written["transformers_version"] = MINI_CONFIG["transformers_version"]
    write_json(into / "config.json", written)
    loaded.save_tokenizer(into)
    if head:
        _write_head(into / HEAD_FOLDER, head, spec)
    return plain, spec


def _write_head(folder: Path, head: Mapping[str, torch.Tensor], spec: HeadSpec | None) -> None:
    """What of a head has no place in the model, in float32."""
    assert spec is not None
    folder.mkdir()
    tensors = {name: value.detach().float().contiguous() for name, value in head.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    write_json(
        folder / "config.json",
        {
            "format": spec.format,
            "labels": list(spec.labels),
            "outputs": list(spec.outputs),
            "hidden": spec.hidden,
            "dropout": spec.dropout,
        },
    )


def _outputs_again(
    path: Path,
    plain: PlainHead | None,
    spec: HeadSpec | None,
    source: ModuleToExport,
    tokenizer: Any,
    items: list[Item],
) -> Outputs:
    """The outputs of the checkpoint in `path`, loaded as a user of transformers loads it, computed
    in float32.
    """
    form = source.format
    options: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32}
    if plain is None:
        model = transformers.AutoModel.from_pretrained(path, add_pooling_layer=False, **options)
    else:
        model = getattr(transformers, plain.auto_class).from_pretrained(path, **options)
    model.eval()
    rest = None
    if plain is None and spec is not None:
        from safetensors.torch import load_file

        rest = form.head(spec.hidden, spec.labels, spec.dropout)
        rest.load_state_dict(load_file(str(path / HEAD_FOLDER / "model.safetensors")))
        rest.eval()

    def call(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: batch[name] for name in names if name in batch}
        if plain is not None and plain.choices:
            inputs = {name: value.unsqueeze(1) for name, value in inputs.items()}
        answer = model(**inputs)
        if plain is not None:
            fields = [getattr(answer, name) for name in plain.fields]
            return fields[0] if len(fields) == 1 else torch.stack(fields, -1)
        states: torch.Tensor = answer.last_hidden_state
        if rest is not None:
            outputs: torch.Tensor = rest(states, batch)
            return outputs
        return form.pooled(states, batch["attention_mask"])

    return outputs_of(form, tokenizer, items, call)


def _describe(
    into: Path,
    source: ModuleToExport,
    plain: PlainHead | None,
    bits: int,
    difference: Difference,
    as_run: float | None,
    inputs: SampleInputs,
    pooling: str,
) -> None:
    """The card, the record, and what sentence-transformers reads."""
    config = read_json(into / "config.json")
    if pooling:
        _write_sentence_modules(into, pooling, int(config["hidden_size"]))
    write_card(
        into,
        source.module,
        ExportedModel(
            task=source.task.name,
            kind=f"a plain {bits}-bit checkpoint of transformers ({config['architectures'][0]})",
            bits=bits,
            auto_class=plain.auto_class if plain else "AutoModel",
            pipeline=plain.pipeline if plain else "",
            pooling=pooling,
            layer=int(config["num_hidden_layers"]) if pooling else None,
            rest_of_head=(into / HEAD_FOLDER).is_dir(),
            lacks=plain.lacks if plain else "",
            comparison=Comparison(
                difference.largest,
                difference.tolerance,
                difference.scale,
                inputs.described,
                as_run,
                source.module.run.dtype,
            ),
        ),
    )


def _write_sentence_modules(into: Path, pooling: str, hidden: int) -> None:
    """The files by which sentence-transformers knows an encoder and its pooling: the names of the
    classes are those that its releases from 2 on read.
    """
    write_json(
        into / "modules.json",
        [
            {
                "idx": 0,
                "name": "0",
                "path": "",
                "type": "sentence_transformers.models.Transformer",
            },
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
        ],
    )
    longest = read_json(into / "tokenizer_config.json")["model_max_length"]
    write_json(
        into / "sentence_bert_config.json",
        {
            "max_seq_length": longest,
            "do_lower_case": False,
            "model_args": {"add_pooling_layer": False},
        },
    )
    (into / "1_Pooling").mkdir()
    write_json(
        into / "1_Pooling" / "config.json",
        {"word_embedding_dimension": hidden, f"pooling_mode_{pooling}_tokens": True},
    )
