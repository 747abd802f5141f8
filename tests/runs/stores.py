"""Stores of runs that nothing was trained for: records and a few bytes in place of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapters_xtl.base.files import folder_digest
from adapters_xtl.runs.records import (
    METRICS,
    PROVENANCE,
    SPEC,
    EvaluationRecord,
    Lineage,
    ModuleReference,
    ParentRecord,
    Spec,
    write_record,
)
from adapters_xtl.runs.store import Store
from tests.runs.test_records import METRICS as SCORES
from tests.runs.test_records import PROVENANCE as ORIGIN
from tests.runs.test_records import SPEC as TRAINING


def spec_of(
    task: str, run_id: str, parents: Sequence[Path] = (), *, method: str = "lora", seed: int = 1
) -> Spec:
    """A training of `task` on the runs in the directories `parents`."""
    assert TRAINING.run is not None
    return replace(
        TRAINING,
        id=run_id,
        task=task,
        run=replace(TRAINING.run, method=method, seed=seed, compose="stack" if parents else ""),
        module=ModuleReference(task, run_id),
        parents=tuple(ModuleReference(path.parent.name, path.name) for path in parents),
    )


def write_run(folder: Path, spec: Spec, score: float, parents: Sequence[Path] = ()) -> None:
    """The files of a run, without its manifest."""
    lineage = tuple(
        ParentRecord(path.parent.name, path.name, folder_digest(path / "module"))
        for path in parents
    )
    (folder / "module").mkdir()
    (folder / "module" / "weights.safetensors").write_bytes(spec.id.encode() * 50)
    write_record(folder / SPEC, spec)
    write_record(
        folder / PROVENANCE, replace(ORIGIN, lineage=Lineage(spec.backbone.fingerprint, lineage))
    )
    write_record(folder / METRICS, replace(SCORES, score=score))


def training(
    store: Store,
    task: str,
    run_id: str,
    parents: Sequence[Path] = (),
    *,
    score: float = 50.0,
    method: str = "lora",
    seed: int = 1,
) -> Path:
    """A finished training run's directory."""
    with store.work(task, run_id, lambda text: None) as run:
        spec = spec_of(task, run_id, parents, method=method, seed=seed)
        write_run(run.partial, spec, score, parents)
        return store.commit(task, run_id)


def evaluation(store: Store, task: str, run_id: str, module: Path) -> Path:
    """A finished evaluation of the training in the directory `module`."""
    scored = EvaluationRecord(run_id, {task: "validation"}, 0, {task: ("de",)})
    spec = replace(
        spec_of(module.parent.name, module.name),
        id=run_id,
        kind="evaluation",
        task=task,
        evaluation=scored,
    )
    with store.work(task, run_id, lambda text: None) as run:
        write_run(run.partial, spec, 40.0)
        return store.commit(task, run_id)


def partial(store: Store, task: str, run_id: str, parents: Sequence[Path] = ()) -> Path:
    """An interrupted run with a checkpoint, which no process holds."""
    with store.work(task, run_id, lambda text: None) as run:
        write_record(run.partial / SPEC, spec_of(task, run_id, parents))
        (run.partial / "work" / "checkpoint").write_bytes(b"x" * 1000)
        return run.partial
