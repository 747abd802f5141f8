"""Executes a plan: reads the data, trains what the store lacks, scores, and commits
each run whole.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import formats, methods, tasks
from adapters_xtl.base import machine
from adapters_xtl.base.errors import RequestError, RunError, XtlError, out_of_memory
from adapters_xtl.base.files import atomic_write, folder_bytes, folder_digest, read_json, write_json
from adapters_xtl.evaluation import predict, scoring
from adapters_xtl.evaluation.languages import report
from adapters_xtl.evaluation.rows import RunRows, data_record, notify_left_out, read_rows
from adapters_xtl.models.assembly import fresh_model, links, trained_model
from adapters_xtl.models.network import Host, Model, cap_memory, frozen_digest, save_heads
from adapters_xtl.runs import run_card
from adapters_xtl.runs.lookup import Outcome, from_store, has
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.runs.store import Store
from adapters_xtl.sharing import lineage
from adapters_xtl.training import trainer

__all__ = ["execute"]

Notify = Callable[[str], None]


def execute(
    plan: Plan, store: Store, *, notify: Notify, force: bool = False, host: Host | None = None
) -> Outcome:
    """Runs a plan, or answers it from the store. Nothing is loaded before everything that can be
    checked was checked.

    `host` keeps the backbone in memory from one plan to the next.
    """
    started = time.monotonic()
    answered = None if force else from_store(plan, store)
    if answered is not None:
        return answered
    host = host or Host()
    cap_memory(plan.device, plan.request.memory)
    pending = [
        module
        for module in plan.modules
        if not has(module, store) or (force and module is plan.target and not module.existing)
    ]
    rows = read_rows(plan, pending)
    for module in pending:
        again = force and module is plan.target
        path = _training(plan, module, rows[module.id], store, host, notify, again)
        if plan.inline and module is plan.target:
            return _outcome(path, started)
    return _outcome(_scoring(plan, rows[plan.evaluation.id], store, host, notify, force), started)


def _outcome(path: Path, started: float) -> Outcome:
    return Outcome(
        path.name,
        path,
        False,
        round(time.monotonic() - started, 3),
        dict(read_json(path / "metrics.json")),
    )


def _train_sets(
    module: Module, rows: RunRows, model: Model, notify: Notify
) -> list[trainer.TrainSet]:
    sets = []
    for name, part in rows.train.items():
        spec = model.specs[name]
        examples = part.examples
        limit = module.run.hyper.max_examples
        if limit and limit < len(examples):
            order = np.random.default_rng(module.run.seed).permutation(len(examples))[:limit]
            examples = [examples[number] for number in sorted(order)]
        items = formats.load(spec.format).encode(
            examples, spec.labels, model.tokenizer, spec.lengths, train=True
        )
        cut = sum(item.cut > 0 for item in items)
        if cut:
            notify(
                f"{name}: {cut} of {len(items)} inputs are longer than {spec.lengths.max_length}"
                " tokens and were cut"
            )
        stages = (
            [examples[item.owner].get("stage", 0) for item in items]
            if tasks.load(name).ordered
            else None
        )
        sets.append(trainer.TrainSet(name, items, stages))
    return sets


def _select_score(
    module: Module, rows: RunRows, model: Model, device: str, dtype: str
) -> Callable[[], dict[str, float]]:
    limit = module.run.hyper.select_examples

    def score() -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, part in rows.select.items():
            examples = (
                part.examples[:: max(1, -(-len(part.examples) // limit))]
                if limit
                else part.examples
            )
            predictions = predict.predict(model, name, examples, device=device, dtype=dtype)
            task = tasks.load(name)
            scores[name] = float(scoring.score(task, predictions, "en")[task.metric])
        mean = sum(scores.values()) / len(scores)
        return {"score": mean, **(scores if len(scores) > 1 else {})}

    return score


def _spec_record(
    plan: Plan, module: Module | None, evaluation: Evaluation | None, kind: str
) -> dict[str, Any]:
    request = asdict(plan.request)
    request.pop("runs")
    scored = kind == "evaluation" or module is None
    return {
        "id": evaluation.id if evaluation and scored else module.id if module else "",
        "kind": kind,
        "task": plan.task if scored or module is None else module.task,
        "request": request,
        "backbone": {
            key: getattr(plan.backbone, key)
            for key in ("name", "location", "fingerprint", "revision")
        },
        "data": str(plan.source) if plan.source.kind != "mirror" else "mirror",
        "bits": plan.bits,
        "dtype": module.run.dtype if module else plan.dtype,
        "run": module.run.identity() if module else None,
        "module": {"task": module.task, "id": module.id} if module else None,
        "parents": (
            [{"task": parent.task, "id": parent.id} for parent in module.parents] if module else []
        ),
        "evaluation": evaluation.record() if evaluation else None,
    }


def _lineage(plan: Plan, module: Module, store: Store) -> dict[str, Any]:
    """Digest of the backbone and of every parent's weights, in order."""
    parents = []
    for parent in module.parents:
        digest = folder_digest(lineage.saved(parent, store) / "module")
        parents.append({"task": parent.task, "id": parent.id, "sha256": digest})
    return {"backbone": plan.backbone.fingerprint, "parents": parents}


def _training(
    plan: Plan,
    module: Module,
    rows: RunRows,
    store: Store,
    host: Host,
    notify: Notify,
    force: bool,
) -> Path:
    """One training run, from its rows to its committed directory."""
    evaluation = module.evaluation
    with store.work(module.task, module.id, notify) as partial:
        done = store.find(module.task, module.id)
        if done is not None and not force:
            return done
        partial.mkdir(parents=True, exist_ok=True)
        try:
            notify_left_out(rows, notify)
            write_json(partial / "spec.json", _spec_record(plan, module, evaluation, "training"))
            composition = methods.load(module.run.method).COMPOSES.get(module.run.compose, "")
            provenance_record = {
                **machine.record(),
                "data": data_record(plan, rows),
                "notes": list(plan.notes),
                "lineage": _lineage(plan, module, store),
                "composition": composition,
                "memory_plan": plan.fits[module.id].record() if module.id in plan.fits else None,
            }
            write_json(partial / "provenance.json", provenance_record)
            cost: dict[str, Any] = {}
            if evaluation is None:
                metrics = _untrained(plan, module, rows, store, host, partial, notify)
            else:
                metrics, cost = _train_and_score(
                    plan, module, evaluation, rows, store, host, partial, notify
                )
            write_json(partial / "provenance.json", {**provenance_record, "inference": cost})
            write_json(partial / "metrics.json", metrics)
            atomic_write(partial / "README.md", run_card.run_card(partial))
        except (KeyboardInterrupt, RunError, RequestError):
            raise  # what is there stays, to be resumed
        except Exception as error:
            if out_of_memory(
                error
            ):  # the training is not at fault: what is there stays, for a call that takes less
                raise RunError(f"{module}: out of memory ({_first_line(error)})") from error
            kept = store.fail(module.task, module.id, f"{type(error).__name__}: {error}")
            said = f"{type(error).__name__}: {_first_line(error)}"
            raise RunError(f"training {module} failed: {said} (kept in {kept})") from error
        return store.commit(module.task, module.id, replace=force)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _save_module(model: Model, module: Module, store: Store, partial: Path) -> None:
    shutil.rmtree(partial / "module", ignore_errors=True)
    methods.load(module.run.method).save(
        model.encoder, links(module, store, trained=False)[-1].name, partial / "module"
    )


def _untrained(
    plan: Plan,
    module: Module,
    rows: RunRows,
    store: Store,
    host: Host,
    partial: Path,
    notify: Notify,
) -> dict[str, Any]:
    """A module as it is before its first step; nothing to score."""
    notify(
        f"drawing an untrained module ({module.run.method}, seed {module.run.seed}), run"
        f" {module.id}"
    )
    model = fresh_model(plan, module, rows.train, store, host, notify)
    randomize = getattr(methods.load(module.run.method), "randomize", None)
    if randomize is not None:
        randomize(model.encoder)
    _save_module(model, module, store, partial)
    return {"tasks": {}, "score": None, "train": None}


def _train_and_score(
    plan: Plan,
    module: Module,
    evaluation: Evaluation,
    rows: RunRows,
    store: Store,
    host: Host,
    partial: Path,
    notify: Notify,
) -> tuple[dict[str, Any], dict[str, Any]]:
    run, work = module.run, partial / "work"
    notify(
        f"training {module} ({run.method}{f', {run.compose}' if run.parents else ''}, {run.bits}"
        f" bits, {run.dtype}), run {module.id}"
    )
    model = fresh_model(plan, module, rows.train, store, host, notify)
    trainable = sum(parameter.numel() for parameter in model.trainable().values())
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    notify(
        f"{trainable:,} of {total:,} parameters train ({trainable - heads:,} in the module,"
        f" {heads:,} in the head)"
    )
    before = frozen_digest(model) if run.method != "full" else ""
    sets = _train_sets(module, rows, model, notify)
    way = plan.fits[module.id].way if module.id in plan.fits else None
    fitted = trainer.fit(
        model,
        sets,
        run.hyper,
        seed=run.seed,
        dtype=run.dtype,
        device=plan.device,
        work=work,
        score=_select_score(module, rows, model, plan.device, run.dtype),
        notify=notify,
        micro_batch=way.micro_batch if way else None,
        checkpointing=way.checkpointing if way else False,
    )
    if run.method != "full" and frozen_digest(model) != before:
        raise RunError(
            f"training {module} changed frozen weights; this is a defect, please report it"
        )
    _save_module(model, module, store, partial)
    save_heads(model, partial / "head")
    atomic_write(
        partial / "train_log.jsonl", "".join(json.dumps(entry) + "\n" for entry in fitted.log)
    )
    scores, cost = report(plan, model, module, evaluation, rows, store, partial, saved=False)
    trained = {
        "seconds": round(fitted.seconds, 2),
        "examples": fitted.examples,
        "tokens": fitted.tokens,
        "steps": fitted.steps,
        "peak_memory_bytes": fitted.peak_memory_bytes,
        "micro_batch": fitted.micro_batch,
        "trainable_parameters": trainable,
        "head_parameters": heads,
        "total_parameters": total,
        "stored_bytes": sum(folder_bytes(partial / part) for part in ("module", "head")),
        "select": {"step": fitted.step, **fitted.select},
        **({} if fitted.joules is None else {"energy_joules": fitted.joules}),
    }
    return {**scores, "train": trained}, cost


def _scoring(
    plan: Plan, rows: RunRows, store: Store, host: Host, notify: Notify, force: bool
) -> Path:
    """One evaluation run: a trained module, or the bare backbone, on rows that its own run did not
    score.
    """
    evaluation, module = plan.evaluation, plan.target
    with store.work(plan.task, evaluation.id, notify) as partial:
        done = store.find(plan.task, evaluation.id)
        if done is not None and not force:
            return done
        partial.mkdir(parents=True, exist_ok=True)
        notify_left_out(rows, notify)
        notify(f"evaluating {module or 'the bare backbone'} on {plan.task}, run {evaluation.id}")
        write_json(partial / "spec.json", _spec_record(plan, module, evaluation, "evaluation"))
        try:
            model = trained_model(plan, module, store, host, notify)
            scores, cost = report(plan, model, module, evaluation, rows, store, partial, saved=True)
        except (KeyboardInterrupt, XtlError):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise RunError(
                    f"evaluating {plan.task}: out of memory ({_first_line(error)})"
                ) from error
            kept = store.fail(plan.task, evaluation.id, f"{type(error).__name__}: {error}")
            raise RunError(
                f"evaluating {plan.task} failed: {type(error).__name__}: {error} (kept in {kept})"
            ) from error
        write_json(
            partial / "provenance.json",
            {
                **machine.record(),
                "data": data_record(plan, rows),
                "notes": list(plan.notes),
                "inference": cost,
                "lineage": (
                    _lineage(plan, module, store)
                    if module
                    else {"backbone": plan.backbone.fingerprint, "parents": []}
                ),
            },
        )
        write_json(partial / "metrics.json", {**scores, "train": None})
        atomic_write(partial / "README.md", run_card.run_card(partial))
        return store.commit(plan.task, evaluation.id, replace=force)
