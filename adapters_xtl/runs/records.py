"""The JSON records of a run directory as typed data, each with one reader and one writer.

spec.json         `Spec`        what was asked for and the run's identity
provenance.json   `Provenance`  where it was made, from which rows and which parents' weights
metrics.json      `Metrics`     scores, and what training cost
manifest.json     `Manifest`    every file's sha256; it is written last

`adapters_xtl.sharing` adds bundle.json. `read_record` and `write_record` are the only ways in and
out: a field that is added here is written, read and checked everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import explain_denied, read_regular, write_json
from adapters_xtl.base.machine import Git, Hardware
from adapters_xtl.base.typed_json import Rule, from_json, to_json
from adapters_xtl.base.untrusted import Refusal, parse_json, unfit_name
from adapters_xtl.methods import APART
from adapters_xtl.runs.run import Run, RunId, Sha256, TaskName
from adapters_xtl.tasks._own_rows import OwnRows

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MEASURED",
    "METRICS",
    "PROVENANCE",
    "SPEC",
    "BackboneRecord",
    "EvaluationRecord",
    "InferenceCost",
    "Lineage",
    "Manifest",
    "Metrics",
    "ModuleReference",
    "ParentRecord",
    "Provenance",
    "RowsCount",
    "RowsRecord",
    "SelectedStep",
    "ShotsRecord",
    "Spec",
    "StageRecord",
    "TaskScores",
    "TrainingCost",
    "read_record",
    "write_record",
]

FORMAT = 2  # of spec.json, provenance.json and metrics.json together
SPEC, PROVENANCE = "spec.json", "provenance.json"
METRICS, MANIFEST = "metrics.json", "manifest.json"
# device → of what a run's measured_peak_bytes is the peak
MEASURED = {
    "cpu": "resident size of the whole process, libraries and the backbone included",
    "mps": "resident size of the whole process, libraries and the backbone included",
    "cuda": "bytes that torch had allocated on the device",
}
RECORD_BYTES = 64 << 20  # no record of ours comes near it
T = TypeVar("T")

FileName = Annotated[str, Rule(lambda name: not unfit_name(name), "the name of a file below it")]


@dataclass(frozen=True)
class BackboneRecord:
    """The encoder below a module: its name, where it was read from, and its fingerprint."""

    name: str
    location: str
    fingerprint: Sha256
    revision: str = ""


@dataclass(frozen=True)
class ModuleReference:
    """A trained module by its task and its run's id."""

    task: TaskName
    id: RunId


@dataclass(frozen=True)
class ParentRecord:
    """A parent as its child records it.

    id      of the parent's run
    sha256  of the parent's weights: digest over the names and sha256 of the files in its module/
    where   places from which the parent's bundle can be pulled; only a bundle names any
    """

    task: TaskName
    id: RunId
    sha256: Sha256
    where: tuple[str, ...] = field(default=(), metadata={"omit": True})


@dataclass(frozen=True)
class EvaluationRecord:
    """What a run scored: split and languages of each task, and how many examples at most (0: all).

    layer: the hidden state that retrieval pooled where it was named; "all" scored each besides.
    head: run of the parent whose head was used; "": the scored module's own.
    merged: the modules were made part of the encoder's weights, in the compute type.
    """

    id: str
    splits: Mapping[str, str]
    max_examples: int
    languages: Mapping[str, tuple[str, ...]]
    layer: str = field(default="", metadata={"omit": True})
    head: str = field(default="", metadata={"omit": True})
    merged: bool = field(default=False, metadata={"omit": True})


@dataclass(frozen=True)
class Spec:
    """spec.json: what a run is.

    id          the run's id and the name of its directory
    task        of a training: the task of its module; of an evaluation: the task that was scored
    request     the request as the command line had it, for people
    data        "embedded", "hub", "mirror" or "files" (somebody's own)
    run         identity of the module's training; None for the bare backbone
    module      the module that was trained or scored; None for the bare backbone
    evaluation  what was scored; None where nothing was (an untrained or imported module)
    own_rows    description of the task's rows, where it is one on somebody's own files
    """

    id: RunId
    kind: Literal["training", "evaluation"]
    task: TaskName
    request: Mapping[str, Any]
    backbone: BackboneRecord
    data: str
    bits: int
    dtype: str
    run: Run | None
    module: ModuleReference | None
    parents: tuple[ModuleReference, ...]
    evaluation: EvaluationRecord | None
    own_rows: OwnRows | None = field(default=None, metadata={"omit": True})
    format: int = FORMAT

    @property
    def stack(self) -> str:
        """`mnli>xnli`; fused parents as `mnli+squad1>xnli`; "" for the bare backbone."""
        between = "+" if self.run is not None and self.run.compose in APART else ">"
        below = between.join(parent.task for parent in self.parents)
        return ">".join(
            [*([below] if below else []), *([self.module.task] if self.module is not None else [])]
        )


@dataclass(frozen=True)
class Lineage:
    """On what a module was trained: the backbone's fingerprint and its parents, in order."""

    backbone: Sha256
    parents: tuple[ParentRecord, ...] = ()


@dataclass(frozen=True)
class RowsCount:
    """Rows of one task, split and language: how many were read, became examples, or were left out.

    left_out     reason → rows that are no examples
    kept_though  reason → rows that are scored though they are unfit
    forms        data sets, configurations and splits that they came from
    """

    rows: int
    examples: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    kept_though: Mapping[str, int] = field(default_factory=dict)
    forms: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShotsRecord:
    """The shots that a run was trained on: rows of one language besides, or instead of, English.

    per_class  how many of each class, or of all rows where rows have no class
    forms      data sets, configurations and splits that they were drawn from
    pool       number of different rows that they were drawn from
    rows       digest of each shot's content
    """

    language: str
    per_class: int
    bucket: int
    forms: tuple[str, ...]
    pool: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class RowsRecord:
    """The rows that a run read.

    source           "embedded", "hub", "mirror", "files", or "foreign" for an imported module
    revisions        data set → its revision on the hub
    train, select    task → counts; the select rows are those of the last training stage
    report           task → language → counts
    lacking          task → languages that the source has no rows of
    dropped_from_select         task → reported task → select rows dropped because it reports them
    select_of_earlier_stages    task → counts, one a stage before the last
    select_not_checked_against  task → reported rows that select could not be held against → why
    select_rows_also_reported   task → rows that chose the checkpoint and are scored as well
    train_rows_also_reported    task → train rows that are scored as well (of somebody's own files)
    shots            task → the shots among what was trained on
    in_languages                task → language → train examples, of a training in chosen languages
    matched_by                  task → how these were made comparable with other languages: "items",
                                the same ones, or "numbers", equally many
    dropped_from_train          task → reported task → train rows dropped because it reports them
    """

    source: str
    revisions: Mapping[str, str] = field(default_factory=dict)
    train: Mapping[str, RowsCount] = field(default_factory=dict)
    select: Mapping[str, RowsCount] = field(default_factory=dict)
    report: Mapping[str, Mapping[str, RowsCount]] = field(default_factory=dict)
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped_from_select: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    select_of_earlier_stages: Mapping[str, tuple[RowsCount, ...]] = field(default_factory=dict)
    select_not_checked_against: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    select_rows_also_reported: Mapping[str, int] = field(default_factory=dict)
    train_rows_also_reported: Mapping[str, int] = field(
        default_factory=dict, metadata={"omit": True}
    )
    in_languages: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict, metadata={"omit": True}
    )
    matched_by: Mapping[str, str] = field(default_factory=dict, metadata={"omit": True})
    dropped_from_train: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict, metadata={"omit": True}
    )
    protocol: str = ""
    shots: Mapping[str, ShotsRecord] = field(default_factory=dict, metadata={"omit": True})


@dataclass(frozen=True)
class InferenceCost:
    """What predicting one language cost. `from_cache`: its embeddings were computed earlier.

    measured_peak_bytes: since the scoring began; `Provenance.memory_measured` says of what.
    """

    inputs: int
    seconds: float
    inputs_per_second: float
    measured_peak_bytes: int
    from_cache: bool = False


@dataclass(frozen=True)
class Provenance:
    """provenance.json: where a run was made and from what.

    versions     package → version; empty where it is not known (an imported module)
    device       "cpu", "cuda" or "mps"; "" where it is not known
    threads      threads that torch computed with: other counts give other weights
    composition  how the method joins a module with its parents, in a word
    memory_measured  of what the records' measured_peak_bytes is the peak: see MEASURED
    memory_plan  the planned way to run the training: its bytes are predicted, not measured
    inference    task → language → what predicting cost
    speed        of a training: the techniques that changed how long it took and no result
    """

    versions: Mapping[str, str]
    git: Git | None
    hardware: Hardware | None
    data: RowsRecord
    lineage: Lineage
    device: str = ""
    threads: int | None = None
    notes: tuple[str, ...] = ()
    composition: str = ""
    memory_measured: str = ""
    memory_plan: Mapping[str, Any] | None = None
    inference: Mapping[str, Mapping[str, InferenceCost]] = field(default_factory=dict)
    speed: Mapping[str, bool] = field(default_factory=dict, metadata={"omit": True})


@dataclass(frozen=True)
class SelectedStep:
    """The step whose weights were kept, and its score on the select split.

    tasks: task → score, where several tasks were trained together
    """

    step: int
    score: float
    tasks: Mapping[str, float] = field(default_factory=dict, metadata={"omit": True})


@dataclass(frozen=True)
class StageRecord:
    """One stage of a training: its own rows, learning-rate schedule and choice of a checkpoint.

    rows           the source of its rows, or what was mixed in it
    planned_steps  before early stopping
    select         the step whose weights the next stage starts from, or the module keeps, counted
                   from the start of the training
    """

    rows: str
    steps: int
    planned_steps: int
    examples: int
    select: SelectedStep


@dataclass(frozen=True)
class PrefixCost:
    """What the states below the modules took of a training, its select rows included.

    layer     the lowest layer with a module
    texts     distinct token sequences
    bytes     of all their states
    kept      how many of them lie in the cache
    computed  how often a text was computed; 0 where all had been computed before
    seconds   in which that was done
    """

    layer: int
    texts: int
    bytes: int
    kept: int
    computed: int
    seconds: float


@dataclass(frozen=True)
class TrainingCost:
    """What a training took and made.

    select          of the last stage
    stages          one after the other; most trainings have one
    tokens          that the encoder read, padding not counted
    padded_tokens   the same with the padding; None in runs of before it was counted
    measured_peak_bytes  since the training began; `Provenance.memory_measured` says of what
    micro_batch     examples that passed at once
    stored_bytes    of the files in module/ and head/
    energy_joules   that the GPU reports; None where it reports none
    prefix          where the layers below the modules were fixed (`train.prefix`)
    compiled_layers  encoder layers that ran compiled at its end (`train.compiled`)
    """

    seconds: float
    examples: int
    tokens: int
    steps: int
    measured_peak_bytes: int
    micro_batch: int
    trainable_parameters: int
    head_parameters: int
    total_parameters: int
    stored_bytes: int
    select: SelectedStep
    stages: tuple[StageRecord, ...] = field(default=(), metadata={"omit": True})
    energy_joules: float | None = field(default=None, metadata={"omit": True})
    prefix: PrefixCost | None = field(default=None, metadata={"omit": True})
    padded_tokens: int | None = field(default=None, metadata={"omit": True})
    compiled_layers: int = field(default=0, metadata={"omit": True})


@dataclass(frozen=True)
class TaskScores:
    """Scores of one task, 0 to 100.

    score        mean of `metric` over the languages, unweighted
    languages    language → metric → value; "n" is the number of examples
    selected_on  scored rows that also chose the checkpoint
    layer        hidden state that retrieval pooled
    max_length   tokens that retrieval read of a sentence at most
    layers       layer → language → score, where every layer was scored
    """

    split: str
    metric: str
    score: float
    languages: Mapping[str, Mapping[str, Any]]
    selected_on: int = field(default=0, metadata={"omit": True})
    layer: int | None = field(default=None, metadata={"omit": True})
    max_length: int | None = field(default=None, metadata={"omit": True})
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict, metadata={"omit": True})


@dataclass(frozen=True)
class Metrics:
    """metrics.json. `score`: mean over the tasks, None where nothing was scored; `train`: None for
    an evaluation and for a module that was not trained here.
    """

    tasks: Mapping[str, TaskScores]
    score: float | None
    train: TrainingCost | None


@dataclass(frozen=True)
class Manifest:
    """manifest.json: file name → sha256, of every file beside it and below."""

    files: Mapping[FileName, Sha256]


def read_record(kind: type[T], path: Path) -> T:
    """The record of type `kind` in the file `path`.

    MismatchError, in one line, where the file is missing, is no JSON, or is not such a record:
    damaged, or written by another version. RequestError where it may not be read.
    """
    try:
        value = parse_json(read_regular(path, RECORD_BYTES), RECORD_BYTES)
        written = value.get("format", 1) if isinstance(value, dict) else FORMAT
        if kind is Spec and written != FORMAT:
            raise Refusal(
                f"written by another version of adapters_xtl (format {written!r:.20}; this version"
                f" reads {FORMAT}); make the run again"
            )
        return from_json(kind, value)
    except Refusal as refusal:
        raise MismatchError(f"{path}: {refusal}") from refusal
    except FileNotFoundError as error:
        raise MismatchError(f"{path}: missing") from error
    except PermissionError as error:
        raise RequestError(explain_denied(path)) from error
    except OSError as error:
        raise MismatchError(f"{path}: cannot be read ({error.strerror})") from error


def write_record(path: Path, record: object) -> None:
    """Writes a record so that `read_record` reads the same; whole or not at all."""
    write_json(path, to_json(record))
