"""Tasks on somebody's own files: which task a request means, and the rows a module is scored on."""

from __future__ import annotations

from dataclasses import replace

from adapters_xtl import tasks
from adapters_xtl.base.errors import RequestError, nearest
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.base.untrusted import Refusal
from adapters_xtl.data.own_files import OwnFiles, OwnFilesRequest, rows_to_score
from adapters_xtl.planning.lookups import Lookups
from adapters_xtl.runs.request import Module, Request
from adapters_xtl.runs.stored_runs import is_run, read_run
from adapters_xtl.tasks import Task
from adapters_xtl.tasks._own_rows import OwnRows, describe, known_task, own_formats

__all__ = ["described_rows", "named_as_task", "requested_task", "scored_files"]


def requested_task(request: Request, lookups: Lookups) -> tuple[Task, OwnFiles | None]:
    """The task of a request and, where it is on own files, those. RequestError where there is
    none.
    """
    if request.own_rows is not None:
        files = lookups.own_files(request.task, request.own_rows)
        return files.task, files
    if request.task in own_formats():
        raise RequestError(
            f"'{request.task}' is a format, not a task: give rows of your own with --data-file"
        )
    return tasks.load(request.task), None


def named_as_task(request: Request, files: OwnFiles | None) -> Request:
    """The request with the task that its own files make in the format's place, and whole paths."""
    if files is None:
        return request
    return replace(request, task=files.task.name, own_rows=files.request)


def described_rows(module: Module, request: OwnFilesRequest) -> OwnRows | None:
    """The description of own rows on which a module of another task is to be scored: its head's
    labels, in the columns that the request names. None where the module has a task on own rows.

    RequestError where the module has no single head.
    """
    names = [name for name, _ in module.run.tasks]
    if len(names) != 1 or not tasks.exists(names[0]):
        raise RequestError(
            f"--test-file: {module} has {len(names)} heads; own rows are scored with exactly one"
        )
    task = tasks.load(names[0])
    if task.own is not None and not (request.text_columns or request.label):
        return None
    labels = module.stored.labels.get(task.name, task.labels) if module.stored else task.labels
    if task.format not in own_formats():
        raise RequestError(
            f"--test-file: '{task.name}' is of format '{task.format}'; own rows are of"
            f" {', '.join(own_formats())}{nearest(task.format, own_formats())}"
        )
    return describe(task.format, request.text_columns, request.label, labels)


def scored_files(
    task: Task, module: Module, request: OwnFilesRequest | None, name: str
) -> OwnFiles:
    """The rows of a task on own files on which the module `name` is scored."""
    assert task.own is not None
    recorded = None
    if module.stored is not None and is_run(module.stored.path):
        value = read_run(module.stored.path).spec.request.get("own_rows")
        try:
            recorded = from_json(OwnFilesRequest, value) if value else None
        except Refusal:  # written by another version
            recorded = None
    known_task(task.own)
    return rows_to_score(task.own, request.test if request else (), recorded, name)
