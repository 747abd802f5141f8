"""A module that another tool saved, taken into the store: adapters by `adapters` (save_adapter),
LoRA by `peft` (save_pretrained), both as safetensors. Names of tensors become those of the headless
encoder; nothing is unpickled.

A head comes along where it is structurally our own (`<s>` → dropout → dense → tanh → dropout → out)
and its classes have the task's names. Any other head stays behind: then the module is a parent for
others, or embeds sentences.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xtl import formats, tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.base import machine
from adapters_xtl.base.errors import MismatchError, RequestError, nearest
from adapters_xtl.base.files import atomic_write, digest, file_digest, write_json
from adapters_xtl.base.untrusted import (
    Refusal,
    Tensor,
    load_json,
    printable,
    tensors,
    unfit_values,
    write_tensors,
)
from adapters_xtl.methods._tensor_shapes import (
    Sizes,
    check_shapes,
    module_files,
    module_shapes,
    sizes,
)
from adapters_xtl.runs.records import (
    METRICS,
    PROVENANCE,
    SPEC,
    BackboneRecord,
    Lineage,
    Metrics,
    ModuleReference,
    Provenance,
    RowsRecord,
    Spec,
    write_record,
)
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.runs.store import Store
from adapters_xtl.tasks import Task

__all__ = ["Taken", "take"]

FOREIGN = "foreign"  # source of the rows of a module that was trained elsewhere
FORMS = {
    "bottleneck": ("adapter.safetensors", "pytorch_adapter.bin"),
    "lora": ("adapter_model.safetensors", "adapter_model.bin"),
}
OPTIONS = {
    "bottleneck": ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"),
    "lora": ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora"),
}
_TAKEN = {
    "bottleneck": (
        "taken in are bottleneck adapters without invertible or hypercomplex layers (seq_bn, "
        "double_seq_bn, par_bn)"
    ),
    "lora": (
        "taken in is LoRA on the encoder's linear layers, with bias none and patterns of plain"
        " names"
    ),
}
_PREFIX = re.compile(
    r"^(?:base_model\.model\.)?[a-z_]+\.(?=encoder\.layer\.)"
)  # of a whole model's names
_ALONE = (
    "it can be a parent (--on) and embed sentences (bucc, tatoeba), but scores no labelled task"
)
_CLASSIFIER = {
    "dense.weight": "dense.weight",
    "dense.bias": "dense.bias",
    "out_proj.weight": "out.weight",
    "out_proj.bias": "out.bias",
}
_FLEX = {
    "1.weight": "dense.weight",
    "1.bias": "dense.bias",
    "4.weight": "out.weight",
    "4.bias": "out.bias",
}


@dataclass
class Taken:
    """What was taken in. `head`: the task whose head came along, or ""; `notes`: what stayed
    behind, and why.
    """

    path: Path
    id: str
    reused: bool
    method: str
    head: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class _Head:
    source: Path
    names: dict[str, str]
    labels: tuple[str, ...]


def take(
    source: Path, task_name: str, store: Store, *, backbone: str | None, labels: Sequence[str] = ()
) -> Taken:
    """Writes a run directory for the module in `source`. RequestError, one line, for what cannot be
    taken in.

    `backbone` None: the one that the module's description names. `labels`: the head's classes, in
    its order.
    """
    task = tasks.load(task_name)
    method, weights = _form(source)
    try:
        config = load_json(
            (source / "adapter_config.json").resolve()
        )  # the hub's own cache is made of links
    except Refusal as refusal:
        raise RequestError(f"{source}/adapter_config.json: {refusal}") from refusal
    if not isinstance(config, dict):
        raise RequestError(f"{source}/adapter_config.json: no JSON object")
    known = registry.fingerprint(_backbone(config, method, backbone, source))
    settings = registry.config(known)
    size = sizes(settings)
    notes: list[str] = []
    kind = config.get("model_type", settings["model_type"])
    if kind != settings["model_type"]:
        raise MismatchError(
            f"{source}: saved for a model of type {printable(kind, 40)!r}, and {known.name} is of"
            f" type {settings['model_type']!r}"
        )
    try:
        held = tensors(weights.resolve())
        names = _encoder_names(held)
        written = (
            _lora_config(config, names) if method == "lora" else _bottleneck_config(config, names)
        )
        shapes = {new: held[old] for old, new in names.items()}
        check_shapes(shapes, module_shapes(method, "", written, settings, shapes))
        if fault := unfit_values(weights.resolve(), held):
            raise Refusal(fault)
    except Refusal as refusal:
        fits = (
            f"; {_TAKEN[method]}"
            if re.match(r"option |peft_type |holds tensor ", str(refusal))
            else ""
        )
        raise MismatchError(f"{weights}: {refusal}{fits}") from refusal
    try:
        head = _head(source, method, config, weights, held, task, tuple(labels), size, notes)
    except Refusal as refusal:
        raise MismatchError(f"{weights}: its head: {refusal}") from refusal
    files = [weights, source / "adapter_config.json"]
    labels_digest: tuple[str, ...] = ()
    if head is not None:
        files += [head.source] if head.source != weights.resolve() else []
        labels_digest = (digest({"labels": list(head.labels)}),)
    run = Run(
        tasks=((task.name, task.version),) if head else (),
        backbone=known.fingerprint,
        method=method,
        compose="",
        bits=32,
        # what the run is: the module's files and, where a head comes along, its weights and labels
        data={"train": (*map(file_digest, files), *labels_digest), "select": ()},
        options=_options(config, method),
        dtype="float32",
        from_layer=0,
        hyper=Hyper(),
        seed=0,
        protocol="clean",
    )
    found = store.find(task.name, run.id)
    if found is not None:
        return Taken(found, run.id, True, method, task.name if head else "", notes)
    with store.work(task.name, run.id, lambda text: None) as progress:
        if progress.finished is not None:
            return Taken(progress.finished, run.id, True, method, task.name if head else "", notes)
        _write(progress.partial, written, weights, names, head, task, method, size)
        _records(progress.partial, run, task, known, source, notes)
        path = store.commit(task.name, run.id)
    return Taken(path, run.id, False, method, task.name if head else "", notes)


def _form(source: Path) -> tuple[str, Path]:
    """(method, weights file) of a directory, by the files that the two libraries write."""
    if not source.is_dir():
        raise RequestError(
            f"{source}: {'a file, not a' if source.exists() else 'no such'} directory"
        )
    for own in (source, *([source.absolute().parent] if source.name == "module" else [])):
        if (own / "bundle.json").is_file() or (own / "spec.json").is_file():
            raise RequestError(
                f"{own}: has a record of its own; --on, `xtl evaluate` and `xtl hub push` take it "
                "as it is"
            )
    for method, (safe, pickled) in FORMS.items():
        if (source / safe).is_file():
            return method, source / safe
        if (source / pickled).is_file():
            how = (
                "save_adapter(…, use_safetensors=True)"
                if method == "bottleneck"
                else "save_pretrained(…)"
            )
            raise RequestError(
                f"{source / pickled}: a pickle, which is not opened; save the module again with"
                f" {how}"
            )
    if (source / "adapter_fusion_config.json").is_file():
        raise RequestError(
            f"{source}: a fusion layer, which is nothing without its parents; take those in, one"
            " by one"
        )
    inside = [
        path
        for path in sorted(source.iterdir())
        if any((path / safe).is_file() for safe, _ in FORMS.values())
    ]
    meant = (
        f"; did you mean its {' or '.join(printable(path.name) for path in inside[:4])}?"
        if inside
        else ""
    )
    expected = " or ".join(safe for safe, _ in FORMS.values())
    raise RequestError(
        f"{source}: no {expected}, so nothing that `adapters` or `peft` saved{meant}"
    )


def _backbone(config: Mapping[str, Any], method: str, asked: str | None, source: Path) -> Backbone:
    name = asked or config.get("base_model_name_or_path" if method == "lora" else "model_name")
    if not isinstance(name, str) or not name:
        raise RequestError(f"{source}: its description names no backbone; give --backbone")
    try:
        return registry.resolve(name)
    except RequestError as error:
        if asked:
            raise
        raise RequestError(
            f"{source}: its backbone is {printable(name)!r}: {error}; give --backbone"
        ) from error


def _encoder_names(held: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the file → name in the headless encoder, for what belongs to it: `roberta.` and the
    like go.
    """
    pattern = re.compile(
        r"(base_model\.model\.)?(?:[a-z_]+\.)?((?:encoder\.layer\.|embeddings\.).+)"
    )
    found = {name: match for name in held if (match := pattern.fullmatch(name))}
    return {name: f"{match[1] or ''}{match[2]}" for name, match in found.items()}


def _bottleneck_config(config: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The library's description, without what matters in training only; a name that no bundle takes
    is changed in it and in `names`.
    """
    kept = ("hidden_size", "model_class", "model_type", "version")
    table, name = config.get("config"), str(config.get("name"))
    if isinstance(table, dict):
        table = {**table, "init_weights_seed": None, "stochastic_depth": 0.0}
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "adapter"
    if plain != name:
        names |= {
            old: new.replace(f".adapters.{name}.", f".adapters.{plain}.")
            for old, new in names.items()
        }
    return {
        "model_name": "",
        "config": table,
        "name": plain,
        **{key: config[key] for key in kept if key in config},
    }


def _lora_config(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """peft's description for the headless encoder: what it was on by full names, and nothing of the
    task's own model.
    """
    targets = {
        name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]
        for name in names.values()
        if ".lora_" in name
    }
    kept = {
        key: value
        for key, value in config.items()
        if key
        not in (
            "auto_mapping",
            "task_type",
            "modules_to_save",
            "base_model_name_or_path",
            "revision",
            "exclude_modules",
            "layers_to_transform",
            "layers_pattern",
        )
    }
    for key in ("rank_pattern", "alpha_pattern"):
        if isinstance(config.get(key), dict):
            kept[key] = {_PREFIX.sub("", name): value for name, value in config[key].items()}
    return {**kept, "target_modules": sorted(targets), "inference_mode": True}


def _options(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    table = config["config"] if method == "bottleneck" else config
    return {
        key: table[key]
        for key in OPTIONS[method]
        if table.get(key) not in (None, False) or key.endswith("_adapter")
    }


def _head(
    source: Path,
    method: str,
    config: Mapping[str, Any],
    weights: Path,
    held: Mapping[str, Tensor],
    task: Task,
    labels: tuple[str, ...],
    size: Sizes,
    notes: list[str],
) -> _Head | None:
    """The head that comes along, or None with the reason in `notes`."""
    names: dict[str, str] = {}
    named: dict[str, Any] = {}
    file = weights.resolve()
    if method == "lora":
        base = "base_model.model.classifier."
        names = {
            name: _CLASSIFIER.get(name.removeprefix(base), "")
            for name in held
            if name.startswith(base)
        }
    elif (source / "model_head.safetensors").is_file() and (source / "head_config.json").is_file():
        file = (source / "model_head.safetensors").resolve()
        description = load_json((source / "head_config.json").resolve())
        names, named = _library_head(description, tensors(file))
        held = tensors(file)
    elif (source / "pytorch_model_head.bin").is_file():
        notes.append("its head is a pickle (pytorch_model_head.bin) and stays behind")
        return None
    if not names:
        notes.append(f"it has no head: {_ALONE}")
        return None
    ours = formats.load(task.format).head_shapes(size.hidden, len(task.labels))
    if not task.labels or not set(names.values()) == set(_CLASSIFIER.values()) == set(ours):
        notes.append(f"its head is not the one that '{task.name}' has here: {_ALONE}")
        return None
    count = held[next(old for old, new in names.items() if new == "out.bias")].shape[0]
    order = labels or tuple(name for name, _ in sorted(named.items(), key=lambda item: item[1]))
    if labels and (len(order) != count or set(order) != set(task.labels)):
        stray = next((label for label in order if label not in task.labels), "")
        hint = nearest(stray, task.labels) if stray else ""
        raise RequestError(
            f"--labels: the head has {count} classes, '{task.name}' {len(task.labels)} "
            f"({', '.join(task.labels)}){hint}"
        )
    if len(order) != count or set(order) != set(task.labels):
        own = printable(", ".join(order[:6])) or "none"
        said = f"the {count} classes of its head have other names ({own})"
        how = (
            f"give those of '{task.name}' ({', '.join(task.labels)}) in the head's order with"
            " --labels"
        )
        notes.append(f"{said}; {how}. Until then {_ALONE}")
        return None
    wanted = formats.head_shapes(_head_config(task, order, size), size.hidden, size.longest)
    check_shapes({new: held[old] for old, new in names.items()}, wanted)
    if fault := unfit_values(file, held):
        raise Refusal(fault)
    return _Head(file, names, order)


def _library_head(
    description: Any, held: Mapping[str, Tensor]
) -> tuple[dict[str, str], dict[str, Any]]:
    """(names, label → number) of a head of `adapters` that has our structure; ({}, {}) has no names
    for any other.
    """
    table = description.get("config") if isinstance(description, dict) else None
    if not isinstance(description, dict):
        raise Refusal("head_config.json is no JSON object")
    if not isinstance(table, dict):  # the model class's own head: XLM-R's and RoBERTa's are ours
        names = {name: _CLASSIFIER.get(name.removeprefix("classifier."), "") for name in held}
        table = description
    else:
        ours = {
            "head_type": "classification",
            "layers": 2,
            "activation_function": "tanh",
            "use_pooler": False,
            "bias": True,
        }
        start = f"heads.{description.get('name')}."
        fits = all(table.get(key) == value for key, value in ours.items())
        names = {name: _FLEX.get(name.removeprefix(start), "") if fits else "" for name in held}
    found = table.get("label2id")
    usable = isinstance(found, dict) and all(type(value) is int for value in found.values())
    return names, dict(found) if usable and isinstance(found, dict) else {}


def _write(
    partial: Path,
    config: Mapping[str, Any],
    weights: Path,
    names: Mapping[str, str],
    head: _Head | None,
    task: Task,
    method: str,
    size: Sizes,
) -> None:
    for part in ("module", "head"):
        shutil.rmtree(partial / part, ignore_errors=True)
    description, file = module_files(method, "")
    write_json(partial / "module" / description, dict(config))
    write_tensors(weights.resolve(), partial / "module" / file, names)
    if head is not None:
        write_json(
            partial / "head" / task.name / "config.json", _head_config(task, head.labels, size)
        )
        write_tensors(head.source, partial / "head" / task.name / "model.safetensors", head.names)


def _head_config(task: Task, labels: Sequence[str], size: Sizes) -> dict[str, Any]:
    lengths = {"max_length": Hyper().max_length, "stride": Hyper().max_length // 2}
    return {
        "format": task.format,
        "labels": list(labels),
        "outputs": list(formats.load(task.format).output_names(labels)),
        "hidden": size.hidden,
        "dropout": 0.1,
        "lengths": lengths,
    }


def _records(
    partial: Path, run: Run, task: Task, backbone: Backbone, source: Path, notes: Sequence[str]
) -> None:
    """The other files of a run directory. What is not known of a foreign training is left out, not
    guessed.
    """
    reference = ModuleReference(task.name, run.id)
    spec = Spec(
        id=run.id,
        kind="training",
        task=task.name,
        request={"task": task.name, "data": None},
        backbone=BackboneRecord(
            backbone.name, backbone.location, backbone.fingerprint, backbone.revision
        ),
        data=FOREIGN,
        bits=run.bits,
        dtype=run.dtype,
        run=run,
        module=reference,
        parents=(),
        evaluation=None,
    )
    here = machine.describe()
    provenance = Provenance(
        versions={},
        git=here.git,
        hardware=here.hardware,
        notes=(f"taken in from {source.name}", *notes),
        lineage=Lineage(backbone.fingerprint),
        data=RowsRecord(source=FOREIGN),
    )
    write_record(partial / SPEC, spec)
    write_record(partial / PROVENANCE, provenance)
    write_record(partial / METRICS, Metrics(tasks={}, score=None, train=None))
    remarks = "".join(f"- {note}\n" for note in notes)
    text = (
        f"# {task.name} · {run.id}\n\nA {run.method} module for {backbone.name}, taken in from"
        " outside: how it was trained is not on record.\n"
    )
    atomic_write(partial / "README.md", f"{text}\n{remarks}" if remarks else text)
