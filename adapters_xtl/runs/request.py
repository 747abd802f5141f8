"""A request as the user makes it, and the plan that it becomes: modules and their evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters_xtl import methods
from adapters_xtl.backbones import Backbone
from adapters_xtl.data.locate import RowFiles, TrainingFiles
from adapters_xtl.data.own_files import OwnFiles, OwnFilesRequest
from adapters_xtl.data.sources import Source
from adapters_xtl.memory.peak import Fit
from adapters_xtl.runs.hyper import Hyper
from adapters_xtl.runs.records import EvaluationRecord
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.settings import Settings
from adapters_xtl.runs.stored_runs import StoredModule

__all__ = ["Evaluation", "Module", "Plan", "Request"]


@dataclass(frozen=True)
class Request:
    """One training or evaluation that the user requests, in the flags of the command line.

    None and "auto" stand for the defaults. A key of `parent_overrides` may name the parent that it
    reaches (`runs.parent_settings`). `trackers`: those that follow the runs (`--report-to`); they
    are no part of any record.

    reseed  every training gets a seed of its own, which follows from `seed` and the chain of tasks
            that it ends (`runs.seeds.phase_seed`)
    retained  nothing is trained for the task: the network that its parents leave is scored, with
            the head that the last of them which is a module of the task was trained with
    """

    task: str
    on: tuple[str, ...] = ()
    compose: str | None = None
    method: str = methods.DEFAULT
    backbone: str | None = None
    data: str | None = None
    bits: str = "auto"
    device: str = "auto"
    languages: str | None = None
    split: str | None = None
    protocol: str = "clean"
    from_layer: int = 0
    seed: int = 1
    overrides: tuple[tuple[str, Any], ...] = ()
    parent_overrides: tuple[tuple[str, Any], ...] = ()
    runs: str = "runs"
    strict: bool = False
    allow_mismatch: bool = False
    memory: float | None = None  # GiB
    trackers: tuple[str, ...] = ()
    own_rows: OwnFilesRequest | None = None  # of a task on somebody's own files
    reseed: bool = False
    retained: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What is scored: task → language → where its rows lie. `lacking`: task → language → complaint.
    One without tasks scores nothing, and its `id` is "".

    `layer`: the hidden state that retrieval pools, where it is not the rule's; "all" scores each of
    them besides. `head`: id of the parent whose head is used; "": the scored module's own.
    `merged`: the modules are part of the encoder's weights while they are scored.
    """

    id: str
    splits: Mapping[str, str]
    files: Mapping[str, Mapping[str, tuple[RowFiles, ...]]]
    lacking: Mapping[str, Mapping[str, str]]
    explicit: bool
    limit: int = 0
    layer: str = ""
    head: str = ""
    merged: bool = False

    def record(self) -> EvaluationRecord:
        """The evaluation as spec.json has it."""
        return EvaluationRecord(
            id=self.id,
            splits=dict(self.splits),
            max_examples=self.limit,
            languages={task: tuple(sorted(files)) for task, files in self.files.items()},
            layer=self.layer,
            head=self.head,
            merged=self.merged,
        )


@dataclass(frozen=True)
class Module:
    """One module of the plan: its task, what it is trained on, its run, and the parents below it in
    order.

    evaluation  what its run scores once it is trained; None where nothing is scored: an untrained
                module, or one that exists already
    stored      the trained module that was named by its run, bundle or hub id; None for one that
                the request trains, or that the store has under its run's id
    """

    task: str
    run: Run
    parents: tuple[Module, ...] = ()
    members: Mapping[str, TrainingFiles] = field(default_factory=dict)
    settings: Settings = field(default_factory=lambda: Settings(Hyper(), {}))
    evaluation: Evaluation | None = None
    stored: StoredModule | None = None

    @property
    def id(self) -> str:
        return self.run.id if self.stored is None else self.stored.id

    @property
    def below(self) -> tuple[Module, ...]:
        """The modules that are active and frozen below this one, the lowest first.

        A parent that a module only started from (`init`) is not among them, nor are those that it
        is the sum of.
        """
        if not self.parents or self.run.compose == "fuse":
            return self.parents
        if self.run.compose == "sum":
            return ()
        last = self.parents[-1]
        return last.below if self.run.compose == "init" else (*last.below, last)

    def __str__(self) -> str:
        between = "+" if self.run.compose in methods.APART else ">"
        return (
            f"{between.join(parent.task for parent in self.parents)}>{self.task}"
            if self.parents
            else self.task
        )


@dataclass(frozen=True)
class Plan:
    """Everything a request comes to; execution decides nothing that is not here.

    modules     parents and own module, in the order in which they are trained
    target      the module whose scores are asked for; None for the bare backbone
    evaluation  what is scored of it; the target's own run scores it where they are of one task
    notes       lines about the choices made, for whoever asked and for the record
    idle        lines about flags and settings that change nothing here
    own_files   the rows of the task, where it is one on somebody's own files; `source` then has
                those of its parents
    """

    request: Request
    task: str
    backbone: Backbone
    source: Source
    bits: int
    dtype: str
    device: str
    modules: tuple[Module, ...]
    target: Module | None
    evaluation: Evaluation
    notes: tuple[str, ...]
    # module id → how it is run; none: the plainest way
    fits: Mapping[str, Fit] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    own_files: OwnFiles | None = None

    def source_of(self, task: str) -> Source:
        """Where the rows of a task come from."""
        own = self.own_files
        return own if own is not None and own.task.name == task else self.source

    @property
    def inline(self) -> bool:
        """Whether the requested scores belong to the target's own training run."""
        return self.target is not None and self.target.task == self.task

    def part(self, module_id: str) -> Plan:
        """The part of the plan that trains one of its modules and the parents below it.

        It asks for what the module's own training scores; of an untrained module nothing is scored.
        KeyError where the plan has no such module.
        """
        by_id = {module.id: module for module in self.modules}
        target = by_id[module_id]
        needed = {target.id} | {module.id for module in _ancestors(target)}
        return replace(
            self,
            task=target.task,
            modules=tuple(module for module in self.modules if module.id in needed),
            target=target,
            evaluation=target.evaluation or Evaluation("", {}, {}, {}, explicit=False),
            fits={key: fit for key, fit in self.fits.items() if key in needed},
        )


def _ancestors(module: Module) -> Iterator[Module]:
    """The modules that a module was trained on, or started from, and those below them."""
    for parent in module.parents:
        yield parent
        yield from _ancestors(parent)
