"""Whether runs are still what they were when they were finished: every file, and their parents."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import digest, explain_denied, file_digest
from adapters_xtl.base.untrusted import printable
from adapters_xtl.runs.records import MANIFEST, Manifest, ModuleReference, Spec, read_record
from adapters_xtl.runs.run_index import ListedRun, RunIndex

__all__ = ["CheckedRun", "check_run"]

WEIGHTS = ("module/", "head/")  # directories in which no file may lie that the manifest lacks


@dataclass(frozen=True)
class CheckedRun:
    """A run that was checked.

    problems         what is wrong with it, one line each, with the file; () where nothing is
    missing_parents  modules that it was trained on and that the store does not have
    bytes            that were read
    """

    run: ListedRun
    problems: tuple[str, ...]
    missing_parents: tuple[ModuleReference, ...]
    bytes: int


def check_run(run: ListedRun, index: RunIndex) -> CheckedRun:
    """Reads every file of a finished or damaged run and compares it with the manifest, the records
    with the directory's name, and the parents' weights with those that the run was trained on.
    """
    if not os.access(run.path, os.R_OK | os.X_OK):
        return CheckedRun(run, (explain_denied(run.path),), (), 0)
    try:
        files = read_record(Manifest, run.path / MANIFEST).files
    except RequestError as error:
        return CheckedRun(run, (_inside(run, str(error)),), (), 0)
    problems, size = [], 0
    for name, sha256 in files.items():
        problem, length = _compare(run.path / name, sha256)
        size += length
        if problem:
            problems.append(f"{name}: {problem}")
    problems += [
        f"{printable(name)}: not in the manifest, but among the weights"
        for name in _files(run.path)
        if name.startswith(WEIGHTS) and name not in files
    ]
    try:
        spec = read_record(Spec, run.path / "spec.json")
        if spec.id != run.id:
            problems.append(f"spec.json: is that of run {spec.id}")
    except RequestError as error:
        problems.append(_inside(run, str(error)))
    if not problems and run.damage:
        problems.append(run.damage)
    missing, changed = _parents(run, index)
    return CheckedRun(run, (*problems, *changed), missing, size)


def _compare(path: Path, sha256: str) -> tuple[str, int]:
    """(what is wrong with a file, "" where nothing is; bytes that were read)."""
    try:
        size = path.stat().st_size
        actual = file_digest(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing", 0
    except PermissionError:
        return explain_denied(path), 0
    except OSError as error:
        return f"cannot be read ({error.strerror})", 0
    if actual != sha256:
        return f"sha256 {actual[:12]}… is not the manifest's {sha256[:12]}… ({size:,} bytes)", size
    return "", size


def _files(folder: Path) -> list[str]:
    """Names of all files below a directory, links not followed."""
    return sorted(
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
    )


def _parents(run: ListedRun, index: RunIndex) -> tuple[tuple[ModuleReference, ...], list[str]]:
    """(parents that the store lacks; those whose weights are not the ones trained on)."""
    missing: list[ModuleReference] = []
    changed: list[str] = []
    lineage = run.run.provenance.lineage.parents if run.run is not None else ()
    recorded = {parent.id: parent.sha256 for parent in lineage}
    for parent in run.parents:
        stored = index.by_id(parent.id)
        if stored is None or stored.state == "partial":
            missing.append(parent)
            continue
        weights, expected = _weights(stored), recorded.get(parent.id, "")
        if weights and expected and weights != expected:
            changed.append(
                f"trained on {parent.task} weights {expected[:12]}…, but {stored.name} holds"
                f" {weights[:12]}…"
            )
    return tuple(missing), changed


def _weights(run: ListedRun) -> str:
    """The digest of a module as children record it, from its manifest; "" where that is damaged."""
    try:
        files = read_record(Manifest, run.path / MANIFEST).files
    except RequestError:
        return ""
    names = {Path(name).name: sha for name, sha in files.items() if name.startswith("module/")}
    return digest(names)


def _inside(run: ListedRun, message: str) -> str:
    """A message with paths as they are in the run's directory."""
    return message.replace(f"{run.path}{os.sep}", "")
