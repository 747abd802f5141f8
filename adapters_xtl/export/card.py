"""The model card of an export, and `export.json`: what it was made of and how exact it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters_xtl.runs.records import BackboneRecord, ParentRecord, write_record
from adapters_xtl.runs.request import Module
from adapters_xtl.runs.stored_runs import is_run, read_run
from adapters_xtl.sharing import bundle
from adapters_xtl.sharing.bundle_card import base_model, inherited_sections, languages_of
from adapters_xtl.sharing.bundle_record import BundleRecord
from adapters_xtl.sharing.pack import record_of_run

__all__ = ["RECORD", "Comparison", "ExportRecord", "ExportedModel", "write_card"]

RECORD = "export.json"


@dataclass(frozen=True)
class Comparison:
    """The outputs of an export against those of the stack, both in float32.

    largest_difference, tolerance  absolute, of one output
    largest_output                 of the stack, absolute
    inputs                         what was compared, in words
    as_run_difference              largest difference to the stack in the precision `as_run` in
                                   which it was trained and scored; None where that is float32
    """

    largest_difference: float
    tolerance: float
    largest_output: float
    inputs: str
    as_run_difference: float | None = None
    as_run: str = "float32"


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    kind          in words, with an article
    auto_class    class of transformers that loads it; "" where none does
    pipeline      name of its `transformers.pipeline`; "" for none
    pooling       how the last hidden states become a sentence's vector; "" with a head
    layer         the backbone's layers that a sentence encoder keeps
    rest_of_head  whether head/ holds what of the head no class of transformers has
    lacks         what the class does not do of what the head does, in a sentence
    inputs, outputs  names of an ONNX graph's
    """

    task: str
    kind: str
    bits: int
    comparison: Comparison
    auto_class: str = ""
    pipeline: str = ""
    pooling: str = ""
    layer: int | None = None
    rest_of_head: bool = False
    lacks: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportRecord:
    """export.json: the model that was written, and the module, parents and backbone it is made of.

    module  the module by its run's id and the digest of its weights
    stack   its chain, e.g. mnli>xnli
    """

    model: ExportedModel
    module: ParentRecord
    stack: str
    method: str
    compose: str
    parents: tuple[ParentRecord, ...]
    backbone: BackboneRecord
    format: int = field(default=1)


def write_card(into: Path, module: Module, model: ExportedModel) -> None:
    """Writes README.md and export.json into the directory of an export."""
    assert module.stored is not None
    path = module.stored.path
    described = record_of_run(read_run(path)) if is_run(path) else bundle.read(path).record
    record = ExportRecord(
        model=model,
        module=ParentRecord(described.task, described.id, described.module_sha256),
        stack=described.chain,
        method=described.method,
        compose=described.compose,
        parents=tuple(parent.brief for parent in described.parents),
        backbone=described.backbone.brief,
    )
    write_record(into / RECORD, record)
    (into / "README.md").write_text(_card(described, record), encoding="utf-8")


def _card(described: BundleRecord, record: ExportRecord) -> str:
    model, backbone = record.model, record.backbone
    parents = ", ".join(f"{parent.task} (`{parent.sha256[:12]}`)" for parent in record.parents)
    revision = f", revision `{backbone.revision[:12]}`" if backbone.revision else ""
    sections = [
        ("", [f"# {record.stack} · {record.method} on {backbone.name}", "", *_summary(record)]),
        ("## Use", _usage(model)),
        ("## Exactness", _exactness(model.comparison)),
        (
            "## Lineage",
            [
                f"- module: {record.module.task}, run `{record.module.id}`, sha256"
                f" `{record.module.sha256}`",
                *([f"- parents ({record.compose}): {parents}"] if parents else []),
                f"- backbone: {backbone.name} ({backbone.location}{revision}), fingerprint"
                f" `{backbone.fingerprint}`",
            ],
        ),
        *inherited_sections(described),
    ]
    parts = ["\n".join([title, "", *lines] if title else lines) for title, lines in sections]
    return _metadata(described, record) + "\n" + "\n\n".join(parts) + "\n"


def _metadata(described: BundleRecord, record: ExportRecord) -> str:
    """The YAML block that the hub reads."""
    import yaml

    model, base = record.model, base_model(described.backbone)
    library = "transformers" if model.auto_class else "onnx"
    named = {"license_name": "terms-of-the-training-data"} if described.licence == "other" else {}
    pipeline = "sentence-similarity" if model.pooling else model.pipeline
    block = {
        "language": languages_of(described),
        "license": described.licence,
        **named,
        "library_name": "sentence-transformers" if model.pooling and model.auto_class else library,
        **({"pipeline_tag": pipeline} if pipeline else {}),
        "base_model": base,
        **({"base_model_relation": "finetune"} if base else {}),
        "tags": ["adapters_xtl", record.method, record.module.task, "cross-lingual"],
    }
    text: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"


def _summary(record: ExportRecord) -> list[str]:
    model = record.model
    how = f" ({record.compose})" if record.compose else ""
    lines = [
        f"The stack {record.stack}{how} as {model.kind}, for task {model.task}. It was made by"
        f" adapters_xtl and does not need it; `{RECORD}` holds what it was made of."
    ]
    if model.layer is not None:
        lines[0] += (
            f" A sentence's vector is the {model.pooling} of hidden state {model.layer} over its"
            " tokens; the backbone's layers above are left out."
        )
    return lines


def _usage(model: ExportedModel) -> list[str]:
    if not model.auto_class:
        return _onnx_usage(model)
    if model.pooling:
        lines = [
            "from sentence_transformers import SentenceTransformer",
            "",
            'vectors = SentenceTransformer("DIR").encode(["Der Zug kam pünktlich."])',
        ]
    elif model.pipeline:
        lines = [
            "from transformers import pipeline",
            "",
            f'model = pipeline("{model.pipeline}", "DIR")',
        ]
    else:
        lines = [
            f"from transformers import {model.auto_class}, AutoTokenizer",
            "",
            f'model = {model.auto_class}.from_pretrained("DIR")',
            'tokenizer = AutoTokenizer.from_pretrained("DIR")',
        ]
    notes = ["The stack cuts long inputs at the tokenizer's `model_max_length`: `truncation=True`."]
    if model.rest_of_head:
        notes = [
            *([model.lacks, ""] if model.lacks else []),
            "`head/model.safetensors` holds linear layers over the last hidden states that this"
            " class of transformers does not have; `head/config.json` names their outputs.",
        ]
    return ["```python", *lines, "```", "", *notes]


def _onnx_usage(model: ExportedModel) -> list[str]:
    return [
        "```python",
        "import onnxruntime",
        "from transformers import AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("DIR")',
        'session = onnxruntime.InferenceSession("DIR/model.onnx")',
        'inputs = tokenizer(["…"], padding=True, truncation=True, return_tensors="np")',
        f"names = {list(model.inputs)!r}",
        "outputs = session.run(None, {name: inputs[name] for name in names})[0]",
        "```",
        "",
        f"Inputs: {', '.join(model.inputs)}, int64 (batch, length), both of any size. Output:"
        f" {', '.join(model.outputs)}, float32; `head.json` names what its last dimension holds.",
    ]


def _exactness(comparison: Comparison) -> Sequence[str]:
    lines = [
        f"Largest difference of an output to the stack's, both computed in float32, on"
        f" {comparison.inputs}: {comparison.largest_difference:.2g} (the largest output is"
        f" {comparison.largest_output:.3g}; beyond {comparison.tolerance:.2g} the export would have"
        " been refused)."
    ]
    if comparison.as_run_difference is not None:
        lines.append(
            f"The stack was trained and scored in {comparison.as_run}; to its outputs there, the"
            f" largest difference is {comparison.as_run_difference:.2g}."
        )
    return lines
