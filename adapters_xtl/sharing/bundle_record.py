"""bundle.json: what a bundle says of the module in it.

The dataclasses below are the whole description of the file. The same annotations write it and check
a stranger's: a setting that is added to `Run` or `Hyper` is written, read and checked here without
a further line. A key that this version does not know is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from adapters_xtl import methods
from adapters_xtl.backbones.config import check_config
from adapters_xtl.backbones.shape import Shape, shape
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest
from adapters_xtl.base.typed_json import Rule, from_json, to_json
from adapters_xtl.base.untrusted import (
    JSON_BYTES,
    Refusal,
    load_json,
    parse_json,
    printable,
    safe_name,
)
from adapters_xtl.methods import Method
from adapters_xtl.runs.records import BackboneRecord, ParentRecord
from adapters_xtl.runs.run import Run, RunId, Sha256, TaskName
from adapters_xtl.tasks._own_rows import OwnRows, known_task

__all__ = [
    "backbone_shape",
    "known_method",
    "FORMAT",
    "PLACES",
    "RECORD",
    "RECORD_BYTES",
    "BundleBackbone",
    "BundleParent",
    "BundleRecord",
    "BundleScores",
    "BundleTraining",
    "RowsUsed",
    "TrainedRows",
    "parse_record",
    "record_of",
]

FORMAT = 2
RECORD = "bundle.json"
RECORD_BYTES = 4 * JSON_BYTES
# settings of a training that a record must have; a later version may add others
SETTINGS = ("lr", "epochs", "max_steps", "batch_size", "max_length", "tasks")
PLACES = 20  # of one parent
PARENTS = 16
_HUB_PLACE = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}(?:@[\w./-]{1,96})?")


def _is_line(text: str) -> bool:
    return len(text) < 500 and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Line = Annotated[str, Rule(_is_line, "one line of fewer than 500 characters")]
Label = Annotated[str, Rule(lambda text: _is_line(text) and text != "", "the name of a label")]
Licence = Annotated[str, Rule(safe_name, "the hub's name of a licence")]
Number = Annotated[Any, Rule(_is_number, "a number")]
Count = Annotated[int, Rule(lambda number: 0 <= number < 1 << 48, "a count")]
Place = Annotated[
    str, Rule(lambda text: bool(_HUB_PLACE.fullmatch(text)), "user/name[@revision] of a hub")
]
Places = Annotated[
    tuple[Place, ...], Rule(lambda places: len(places) <= PLACES, f"at most {PLACES} places")
]


@dataclass(frozen=True)
class BackboneIdentity:
    """What a backbone's fingerprint is the digest of. `config`: of its config.json."""

    config: Mapping[str, Any]
    weights: tuple[Line, ...]
    tokenizer: Mapping[Line, Line]


@dataclass(frozen=True)
class BundleBackbone:
    """The encoder that a module was trained on, and the precision in which it was loaded."""

    name: Line
    location: Line
    fingerprint: Sha256
    revision: Line
    bits: int
    dtype: Line
    identity: BackboneIdentity

    @property
    def brief(self) -> BackboneRecord:
        """The same as a run records it."""
        return BackboneRecord(self.name, self.location, self.fingerprint, self.revision)


@dataclass(frozen=True)
class BundleParent:
    """A module that the bundle's was trained on.

    id      of the parent's run
    sha256  of its weights: digest over the names and sha256 of the files in its module/
    where   repositories of a hub that hold it
    """

    task: TaskName
    id: RunId
    sha256: Sha256
    where: Places

    @property
    def brief(self) -> ParentRecord:
        """The same as a run records it."""
        return ParentRecord(self.task, self.id, self.sha256)


@dataclass(frozen=True)
class BundleScores:
    """Scores of one task, 0 to 100. See `adapters_xtl.runs.records.TaskScores`.

    max_examples  of each language at most so many rows were scored; 0: all
    """

    split: Line
    metric: Line
    score: Number
    protocol: Line
    languages: Mapping[TaskName, Mapping[Line, Number]]
    selected_on: Count = field(default=0, metadata={"omit": True})
    layer: Count | None = field(default=None, metadata={"omit": True})
    max_examples: Count = field(default=0, metadata={"omit": True})


@dataclass(frozen=True)
class BundleTraining:
    """What a training took: optimizer steps and examples seen; and the size of what it made."""

    steps: Count
    examples: Count
    trainable_parameters: Count
    head_parameters: Count
    total_parameters: Count


@dataclass(frozen=True)
class RowsUsed:
    """Rows of one task that were read, how many of them were used as examples, and the data sets,
    configurations and splits they came from (as in `nyu-mll/multi_nli [default] train`).
    """

    rows: Count
    examples: Count
    forms: tuple[Line, ...]


@dataclass(frozen=True)
class TrainedRows:
    """The rows that a module was trained, selected and scored on.

    source         "embedded", "hub", "mirror", "files" (somebody's own), or "foreign" for an
                   imported module
    mirror         name of the mirror's directory; "" for another source
    revisions      data set → its revision on the hub
    train, select  task → rows
    report         task → forms that were scored
    stated         form → what the mirror says its rows are
    rows           what a mirror's rows are, in the words of whoever shared the bundle; or ""
    """

    source: Line
    mirror: Line
    revisions: Mapping[Line, Line]
    train: Mapping[TaskName, RowsUsed]
    select: Mapping[TaskName, RowsUsed]
    report: Mapping[TaskName, tuple[Line, ...]]
    stated: Mapping[Line, Line]
    rows: Line


@dataclass(frozen=True)
class BundleRecord:
    """bundle.json.

    task           of the module; a bundle's heads may be for several (`labels`)
    id             of the run that trained the module: the beginning of its identity's digest
    method, options, compose, seed, protocol
                   as in `run`, for people
    labels         task → labels of its head, in the order of the head's outputs
    composition    how the method joins the module with its parents, in a word
    module_sha256  digest over the names and sha256 of the files in module/
    metrics        task → scores; empty where sample rows were scored
    trained        None where the module was not trained by adapters_xtl, or not trained at all
    versions       package → version
    licence        by the hub's name; "other" where no single licence holds
    made_from      backbone, rows and parents, each with the licence that is stated for it
    licence_reasons  why the sources come to no single licence
    own_rows       description of the task's rows, where it is one on somebody's own files
    """

    format: int
    task: TaskName
    id: RunId
    method: TaskName
    options: Mapping[TaskName, Any]
    labels: Mapping[TaskName, tuple[Label, ...]]
    compose: str
    composition: Line
    seed: int
    protocol: str
    run: Run
    backbone: BundleBackbone
    module_sha256: Sha256
    parents: tuple[BundleParent, ...]
    metrics: Mapping[TaskName, BundleScores]
    trained: BundleTraining | None
    data: TrainedRows
    versions: Mapping[Line, Line]
    licence: Licence
    made_from: tuple[Line, ...] = field(default=(), metadata={"omit": True})
    licence_reasons: tuple[Line, ...] = field(default=(), metadata={"omit": True})
    own_rows: OwnRows | None = field(default=None, metadata={"omit": True})

    @property
    def chain(self) -> str:
        """`mnli>xnli`, or `mnli+squad1>xnli` where the parents stand side by side."""
        between = "+" if self.compose in methods.APART else ">"
        below = between.join(parent.task for parent in self.parents)
        return f"{below}>{self.task}" if below else self.task

    def to_json(self) -> Any:
        """The value that bundle.json holds."""
        return to_json(self)


def parse_record(value: Any) -> BundleRecord:
    """The record that the value (or the bytes) of a bundle.json describes.

    Refusal names the first key that is missing, unknown, malformed, or at odds with another.
    """
    if isinstance(value, bytes):
        value = parse_json(value, RECORD_BYTES)
    if not isinstance(value, dict):
        raise Refusal("no JSON object")
    if type(value.get("format")) is not int or value["format"] != FORMAT:
        raise Refusal(
            f"format {value.get('format')!r:.20}; this version of adapters_xtl reads {FORMAT}"
        )
    record = from_json(BundleRecord, value)
    _check_agreement(record, value)
    return record


def record_of(folder: Path, where: str) -> BundleRecord:
    """The record in a bundle's directory; MismatchError, beginning with `where`, for a damaged one.
    Nothing else of the bundle is verified.
    """
    try:
        return parse_record(load_json(folder / RECORD, RECORD_BYTES))
    except Refusal as refusal:
        raise MismatchError(f"{where}: {RECORD}: {refusal}") from refusal


def _check_agreement(record: BundleRecord, value: Mapping[str, Any]) -> None:
    """Refusal where parts of a record contradict one another. `value`: the record as it was read,
    since digests are those of the written form.
    """
    run, backbone = record.run, record.backbone
    for name in SETTINGS:
        if name not in value["run"]["hyper"]:
            raise Refusal(f"lacks the key 'run.hyper.{name}'")
    run_digest = digest(value["run"])
    if not run_digest.startswith(record.id):
        raise Refusal(f"the id {record.id} is not the digest of its run, {run_digest[:12]}")
    identity = digest(value["backbone"]["identity"])
    if not run.backbone == backbone.fingerprint == identity:
        raise Refusal(
            "the backbone's fingerprint is not the digest of its identity, or not the run's"
        )
    for name in ("method", "compose", "seed", "options", "protocol"):
        if value["run"][name] != value[name]:
            raise Refusal(f"the key '{name}' and its run differ")
    try:
        check_config(backbone.identity.config, "its backbone's config")
    except RequestError as error:
        raise Refusal(str(error)) from error
    if (run.bits, run.dtype) != (backbone.bits, backbone.dtype):
        raise Refusal("its backbone's bits or dtype are not its run's")
    if len(record.parents) > PARENTS:
        raise Refusal(f"it has {len(record.parents)} parents; at most {PARENTS} are read")
    if record.compose in methods.APART and len(record.parents) < 2:
        raise Refusal(f"compose is '{record.compose}', and it has fewer than two parents")
    if (record.compose == "") != (not record.parents):
        raise Refusal(f"compose is '{record.compose}', and it has {len(record.parents)} parents")
    if run.parents != tuple(parent.id for parent in record.parents):
        raise Refusal("its parents are not those of its run")
    if not set(record.labels) <= {name for name, _ in run.tasks}:
        raise Refusal("it has a head for a task that its run was not trained on")
    if run.from_layer >= backbone_shape(backbone.identity.config).layers:
        raise Refusal(f"its run begins at layer {run.from_layer}, which its backbone does not have")
    known_method(record.method)
    if record.own_rows is not None:
        if record.own_rows.name != record.task:
            raise Refusal(f"its own_rows describe the task {record.own_rows.name}")
        labels = record.own_rows.labels
        if record.labels.get(record.task, labels) != labels:
            raise Refusal("its own_rows have other labels than its head")
        try:
            known_task(record.own_rows)
        except RequestError as error:
            raise Refusal(str(error)) from error


def known_method(name: str) -> Method:
    """Refusal for a method that is not known here."""
    if name not in methods.names():
        raise Refusal(f"method {printable(name, 20)!r}: known here: {', '.join(methods.names())}")
    return methods.load(name)


def backbone_shape(config: Mapping[str, Any]) -> Shape:
    """Refusal where a backbone's config.json has no sensible sizes."""
    try:
        return shape(config, "its backbone")
    except RequestError as error:
        raise Refusal(str(error)) from error
