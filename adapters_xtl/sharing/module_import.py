"""A module that another tool saved, imported into the store: adapters that `adapters` saved
(save_adapter), LoRA that `peft` saved (save_pretrained), both as safetensors. Its tensors are
renamed to those of the headless encoder; nothing is unpickled.

`foreign_head` decides whether its head comes along. Without a head the module is a parent for
others, or embeds sentences.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters_xtl import methods, tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.backbones.shape import Shape, shape
from adapters_xtl.base import machine
from adapters_xtl.base.errors import MismatchError, RequestError
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
from adapters_xtl.runs.hyper import Hyper
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
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing.foreign_head import ForeignHead, head_config, read_head
from adapters_xtl.tasks import Task

__all__ = ["Taken", "take"]

FOREIGN = "foreign"  # source of the rows of a module that was trained elsewhere


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
    encoder = fingerprinted(_backbone(config, form, backbone, source))
    settings = registry.config(encoder)
    size = shape(settings, encoder.name)
    notes: list[str] = []
    kind = config.get("model_type", settings["model_type"])
    if kind != settings["model_type"]:
        raise MismatchError(
            f"{source}: saved for a model of type {printable(kind, 40)!r}, and {encoder.name} is of"
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
        head = read_head(source, form, config, weights, held, task, tuple(labels), size, notes)
    except Refusal as refusal:
        raise MismatchError(f"{weights}: its head: {refusal}") from refusal
    files = [weights, source / "adapter_config.json"]
    labels_digest: tuple[str, ...] = ()
    if head is not None:
        files += [head.source] if head.source != weights.resolve() else []
        labels_digest = (digest({"labels": list(head.labels)}),)
    run = Run(
        tasks=((task.name, task.version),) if head else (),
        backbone=encoder.fingerprint,
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
    finished = store.find(task.name, run.id)
    if finished is not None:
        return Taken(finished, run.id, True, method.name, task.name if head else "", notes)
    with store.work(task.name, run.id, lambda text: None) as progress:
        if progress.finished is not None:
            return Taken(
                progress.finished, run.id, True, method.name, task.name if head else "", notes
            )
        _write(progress.partial, written, weights, names, head, task, method, size)
        _records(progress.partial, run, task, encoder, source, notes)
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
            f"{source}: a fusion layer, which works only with its parents; import each of those"
            " instead"
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
    raise RequestError(
        f"{source}: no {expected}: not a module that `adapters` or `peft` saved{meant}"
    )


def _backbone(
    config: Mapping[str, Any], form: ForeignForm, requested: str | None, source: Path
) -> Backbone:
    name = requested or config.get(form.backbone_key)
    if not isinstance(name, str) or not name:
        raise RequestError(f"{source}: its description names no backbone; give --backbone")
    try:
        return registry.resolve(name)
    except RequestError as error:
        if requested:
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
    matches = {name: match for name in held if (match := pattern.fullmatch(name))}
    return {name: f"{match[1] or ''}{match[2]}" for name, match in matches.items()}


def _write(
    partial: Path,
    config: Mapping[str, Any],
    weights: Path,
    names: Mapping[str, str],
    head: ForeignHead | None,
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
            partial / "head" / task.name / "config.json", head_config(task, head.labels, size)
        )
        write_tensors(head.source, partial / "head" / task.name / "model.safetensors", head.names)


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
