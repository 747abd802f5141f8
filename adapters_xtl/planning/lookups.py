"""What several plans of a process need, looked up once: sources, fingerprints, recipes, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.backbones.shape import Shape, shape
from adapters_xtl.data.locate import (
    RowFiles,
    ShotFiles,
    TrainingFiles,
    locate_report,
    locate_training,
)
from adapters_xtl.data.own_files import OwnFiles, OwnFilesRequest, open_own_files
from adapters_xtl.data.shot_pool import locate_shots
from adapters_xtl.data.sources import Source, open_source
from adapters_xtl.runs.recipes import Recipe, read_recipe
from adapters_xtl.tasks import Task

__all__ = ["Lookups", "ReportFiles"]


@dataclass(frozen=True)
class ReportFiles:
    """Where the rows of one task's report split lie, before any is read.

    files    language → its files
    digests  language → sha256 of each of them
    lacking  language → why the source has no rows of it
    """

    files: Mapping[str, tuple[RowFiles, ...]]
    digests: Mapping[str, Sequence[str]]
    lacking: Mapping[str, str]


@dataclass
class Lookups:
    """Answers that do not change while a process plans, each asked for once.

    A source object is shared by all plans, and with it what a hub said of its repositories.
    Errors are not kept: what was wrong may be mended before it is asked again.
    """

    _sources: dict[str, Source] = field(default_factory=dict)
    _backbones: dict[str, Backbone] = field(default_factory=dict)
    _shapes: dict[str, Shape] = field(default_factory=dict)
    _recipes: dict[str, Recipe] = field(default_factory=dict)
    _own_files: dict[str, OwnFiles] = field(default_factory=dict)
    _training: dict[tuple[Any, ...], TrainingFiles] = field(default_factory=dict)
    _shots: dict[tuple[int, str, str], ShotFiles] = field(default_factory=dict)
    _report: dict[tuple[int, str, str, tuple[str, ...]], ReportFiles] = field(default_factory=dict)

    def source(self, name: str) -> Source:
        """The source of this name, opened. RequestError where there is none."""
        if name not in self._sources:
            self._sources[name] = open_source(name)
        return self._sources[name]

    def own_files(self, format: str, request: OwnFilesRequest) -> OwnFiles:
        """Somebody's own files as the rows of a task. RequestError where they make none."""
        key = f"{format} {request}"
        if key not in self._own_files:
            self._own_files[key] = open_own_files(format, request)
        return self._own_files[key]

    def backbone(self, name: str) -> Backbone:
        """The backbone of this name with its fingerprint. RequestError where there is none."""
        if name not in self._backbones:
            self._backbones[name] = fingerprinted(registry.resolve(name))
        return self._backbones[name]

    def fingerprinted(self, backbone: Backbone) -> Backbone:
        """A backbone with its fingerprint. RequestError where its files are not to be had."""
        key = f"{backbone.source} {backbone.location}@{backbone.revision}"
        if key not in self._backbones:
            self._backbones[key] = fingerprinted(backbone)
        return self._backbones[key]

    def shape(self, backbone: Backbone) -> Shape:
        """The sizes of a backbone by its config. RequestError where they make no encoder."""
        key = backbone.fingerprint
        if key not in self._shapes:
            self._shapes[key] = shape(registry.config(backbone), f"--backbone {backbone.name}")
        return self._shapes[key]

    def recipe(self, task: str) -> Recipe:
        """The recipe of a task. RequestError where its file is no recipe."""
        if task not in self._recipes:
            own = tasks.load(task).recipe if tasks.exists(task) else ""
            self._recipes[task] = read_recipe(own or task)
        return self._recipes[task]

    def training(
        self,
        source: Source,
        task: Task,
        protocol: str,
        languages: tuple[str, ...] = (),
        matched: tuple[str, ...] = (),
        genres: tuple[str, ...] = (),
    ) -> TrainingFiles:
        """Where a task's train and select rows lie: its English ones, or those in `languages`, or
        those of `genres`. DataError where the source lacks them.
        """
        key = (id(source), task.name, protocol, languages, matched, genres)
        if key not in self._training:
            self._training[key] = locate_training(
                source, task, protocol, tasks.load, languages, matched, genres
            )
        return self._training[key]

    def shots(self, source: Source, task: Task, language: str) -> ShotFiles:
        """Where shots of a language lie. DataError where there are none."""
        key = (id(source), task.name, language)
        if key not in self._shots:
            self._shots[key] = locate_shots(source, task, language)
        return self._shots[key]

    def report(
        self, source: Source, task: Task, split: str, languages: tuple[str, ...]
    ) -> ReportFiles:
        """Where a task's report rows lie, language by language."""
        key = (id(source), task.name, split, languages)
        if key not in self._report:
            files, missing = locate_report(source, task, split, languages)
            digests = {
                language: [sha for located in group for sha in located.digests]
                for language, group in files.items()
            }
            self._report[key] = ReportFiles(files, digests, missing)
        return self._report[key]
