"""Finished runs read back from the store, and trained modules of runs and bundles alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import explain_denied, folder_digest, read_json
from adapters_xtl.runs.records import (
    MANIFEST,
    METRICS,
    PROVENANCE,
    SPEC,
    BackboneRecord,
    Metrics,
    ParentRecord,
    Provenance,
    Spec,
    read_record,
)
from adapters_xtl.runs.run import Run
from adapters_xtl.runs.store import Store, is_finished, verify
from adapters_xtl.tasks._own_rows import known_task

__all__ = ["StoredModule", "StoredRun", "is_run", "list_runs", "read_run", "read_run_module"]


@dataclass(frozen=True)
class StoredModule:
    """A trained module on disk: of a finished run, or of a bundle that was verified.

    path         directory that holds module/, head/<task>/ and manifest.json
    id           of its run; of a bundle: the first 12 hex digits of the bundle's digest
    run          identity of its training
    parents      the modules that it was trained on, in order, by the digests of their weights
    composition  how the method joins it with its parents, in a word
    """

    path: Path
    id: str
    task: str
    run: Run
    backbone: BackboneRecord
    parents: tuple[ParentRecord, ...] = ()
    composition: str = ""

    @property
    def module_folder(self) -> Path:
        return self.path / "module"

    @property
    def heads_folder(self) -> Path:
        """Holds one directory a task; it is absent where the module has no head."""
        return self.path / "head"

    @cached_property
    def module_sha256(self) -> str:
        """Digest over the names and sha256 of the files in module/, as children record it."""
        return folder_digest(self.module_folder)

    @cached_property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Task → labels of its head, in the order of the head's outputs."""
        configs = sorted(self.heads_folder.glob("*/config.json"))
        return {path.parent.name: tuple(read_json(path)["labels"]) for path in configs}

    def verify(self) -> None:
        """Holds the files of module and heads against the manifest. MismatchError names the first
        that differs.
        """
        verify(self.path, only=("module/", "head/"))


@dataclass(frozen=True)
class StoredRun:
    """A finished run: a training or an evaluation."""

    path: Path
    spec: Spec

    @cached_property
    def provenance(self) -> Provenance:
        return read_record(Provenance, self.path / PROVENANCE)

    @cached_property
    def metrics(self) -> Metrics:
        return read_record(Metrics, self.path / METRICS)

    @property
    def module(self) -> StoredModule:
        """The module that was trained here. RequestError for an evaluation."""
        if self.spec.kind != "training" or self.spec.run is None:
            raise RequestError(f"{self.path}: an evaluation, not a trained module")
        return StoredModule(
            path=self.path,
            id=self.spec.id,
            task=self.spec.task,
            run=self.spec.run,
            backbone=self.spec.backbone,
            parents=self.provenance.lineage.parents,
            composition=self.provenance.composition,
        )


def is_run(path: Path) -> bool:
    """Whether a directory is a run's: finished, partial or damaged. Nothing is verified."""
    return any((path / record).is_file() for record in (SPEC, PROVENANCE, METRICS))


def read_run(path: Path) -> StoredRun:
    """The finished run in a directory.

    MismatchError where it is damaged: a record is missing, cut short, not the one that the manifest
    names, or written by another version. RequestError where it is not finished.
    """
    if not is_finished(path):
        raise RequestError(f"{path}: not a finished run, it has no {MANIFEST}")
    try:
        return _read(path)
    except MismatchError as error:
        raise MismatchError(
            f"{error}; the run is damaged: move {path} away, and the next request trains it again"
        ) from error


def _read(path: Path) -> StoredRun:
    """The finished run in a directory, with all its records read. MismatchError where one is
    damaged.
    """
    for record in (SPEC, PROVENANCE, METRICS):
        verify(path, only=(record,))
    run = StoredRun(path, read_record(Spec, path / SPEC))
    if run.spec.own_rows is not None:
        try:
            known_task(run.spec.own_rows)
        except RequestError as error:
            raise MismatchError(f"{path / SPEC}: {error}") from error
    _ = run.provenance, run.metrics
    return run


def list_runs(store: Store) -> tuple[list[StoredRun], dict[Path, str]]:
    """Every run of a store that can be read, newest first, and those that are damaged or may not be
    read, with the reason."""
    readable: list[StoredRun] = []
    damaged: dict[Path, str] = {}
    for path in store.all():
        try:
            readable.append(_read(path))
        except RequestError as error:
            damaged[path] = str(error).replace(f"{path}{os.sep}", "")
    for path in store.without_manifest():
        readable_folder = os.access(path, os.R_OK | os.X_OK)
        damaged[path] = f"no {MANIFEST}" if readable_folder else explain_denied(path)
    return readable, damaged


def read_run_module(path: Path) -> StoredModule:
    """The module of the finished training run in a directory. See `read_run`."""
    return read_run(path).module
