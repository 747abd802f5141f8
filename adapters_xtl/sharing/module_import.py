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

from adapters_xtl import formats, methods, tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.shape import Shape, shape
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
from adapters_xtl.methods import ForeignForm, Method
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
    method, form, weights = _form(source)
    try:
        config = load_json(
            (source / "adapter_config.json").resolve()
        )  # the hub's own cache is made of links
    except Refusal as refusal:
        raise RequestError(f"{source}/adapter_config.json: {refusal}") from refusal
    if not isinstance(config, dict):
        raise RequestError(f"{source}/adapter_config.json: no JSON object")
    known = registry.fingerprint(_backbone(config, form, backbone, source))
    settings = registry.config(known)
    size = shape(settings, known.name)
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
        written = method.foreign_description(config, names)
        renamed = {new: held[old] for old, new in names.items()}
        expected = methods.expected_tensors(
            method, written, settings, renamed, options={}, from_layer=0, compose=""
        )
        methods.check_tensors(renamed, expected)
        if fault := unfit_values(weights.resolve(), held):
            raise Refusal(fault)
    except Refusal as refusal:
        fits = (
            f"; {form.limits}"
            if re.match(r"option |peft_type |holds tensor ", str(refusal))
            else ""
        )
        raise MismatchError(f"{weights}: {refusal}{fits}") from refusal
    try:
        head = _head(source, form, config, weights, held, task, tuple(labels), size, notes)
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
        method=method.name,
        compose="",
        bits=32,
        # what the run is: the module's files and, where a head comes along, its weights and labels
        data={"train": (*map(file_digest, files), *labels_digest), "select": ()},
        options=method.foreign_options(config),
        dtype="float32",
        from_layer=0,
        hyper=Hyper(),
        seed=0,
        protocol="clean",
    )
    found = store.find(task.name, run.id)
    if found is not None:
        return Taken(found, run.id, True, method.name, task.name if head else "", notes)
    with store.work(task.name, run.id, lambda text: None) as progress:
        if progress.finished is not None:
            return Taken(
                progress.finished, run.id, True, method.name, task.name if head else "", notes
            )
        _write(progress.partial, written, weights, names, head, task, method, size)
        _records(progress.partial, run, task, known, source, notes)
        path = store.commit(task.name, run.id)
    return Taken(path, run.id, False, method.name, task.name if head else "", notes)


def _form(source: Path) -> tuple[Method, ForeignForm, Path]:
    """(method, its form, weights file) of a directory, by the files that libraries write."""
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
    every = [methods.load(name) for name in methods.names()]
    forms = [(method, method.foreign) for method in every if method.foreign is not None]
    for method, form in forms:
        if (source / form.weights).is_file():
            return method, form, source / form.weights
        if (source / form.pickle).is_file():
            raise RequestError(
                f"{source / form.pickle}: a pickle, which is not opened; save the module again with"
                f" {form.resave}"
            )
    fusions = [
        method.module_files(fused=True)[0] for method in every if "fuse" in method.compositions
    ]
    if any((source / name).is_file() for name in fusions):
        raise RequestError(
            f"{source}: a fusion layer, which is nothing without its parents; take those in, one"
            " by one"
        )
    inside = [
        path
        for path in sorted(source.iterdir())
        if any((path / form.weights).is_file() for _, form in forms)
    ]
    meant = (
        f"; did you mean its {' or '.join(printable(path.name) for path in inside[:4])}?"
        if inside
        else ""
    )
    expected = " or ".join(form.weights for _, form in forms)
    raise RequestError(f"{source}: no {expected}, so nothing that a known library saved{meant}")


def _backbone(
    config: Mapping[str, Any], form: ForeignForm, asked: str | None, source: Path
) -> Backbone:
    name = asked or config.get(form.backbone_key)
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


def _head(
    source: Path,
    form: ForeignForm,
    config: Mapping[str, Any],
    weights: Path,
    held: Mapping[str, Tensor],
    task: Task,
    labels: tuple[str, ...],
    size: Shape,
    notes: list[str],
) -> _Head | None:
    """The head that comes along, or None with the reason in `notes`."""
    names: dict[str, str] = {}
    named: dict[str, Any] = {}
    file = weights.resolve()
    if form.head_prefix:
        names = {
            name: _CLASSIFIER.get(name.removeprefix(form.head_prefix), "")
            for name in held
            if name.startswith(form.head_prefix)
        }
    elif form.head_files:
        head_weights, head_config, head_pickle = (source / name for name in form.head_files)
        if head_weights.is_file() and head_config.is_file():
            file = head_weights.resolve()
            names, named = _library_head(load_json(head_config.resolve()), tensors(file))
            held = tensors(file)
        elif head_pickle.is_file():
            notes.append(f"its head is a pickle ({head_pickle.name}) and stays behind")
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
    methods.check_tensors({new: held[old] for old, new in names.items()}, wanted)
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
    method: Method,
    size: Shape,
) -> None:
    for part in ("module", "head"):
        shutil.rmtree(partial / part, ignore_errors=True)
    description, file = method.module_files()
    write_json(partial / "module" / description, dict(config))
    write_tensors(weights.resolve(), partial / "module" / file, names)
    if head is not None:
        write_json(
            partial / "head" / task.name / "config.json", _head_config(task, head.labels, size)
        )
        write_tensors(head.source, partial / "head" / task.name / "model.safetensors", head.names)


def _head_config(task: Task, labels: Sequence[str], size: Shape) -> dict[str, Any]:
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
