"""Executes a plan: reads the rows, trains what the store lacks, scores, commits each run whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adapters_xtl import methods, tasks
from adapters_xtl.base.errors import DataError, RunError, XtlError, out_of_memory
from adapters_xtl.base.files import atomic_write, explained_save_errors, folder_bytes, link_or_copy
from adapters_xtl.base.launchers import notify_ignored_launcher
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.evaluation import predict, scoring
from adapters_xtl.evaluation.rows import RunRows, data_record, notify_left_out, read_rows
from adapters_xtl.evaluation.score_languages import score_languages
from adapters_xtl.models.assembly import (
    encoded_rows,
    fresh_model,
    links,
    prefix_of,
    summed_model,
    trained_model,
)
from adapters_xtl.models.context import Context
from adapters_xtl.models.encoded_rows import encode
from adapters_xtl.models.heads import save_heads
from adapters_xtl.models.network import (
    Host,
    Model,
    cap_memory,
    frozen_digest,
    reset_peak_memory,
)
from adapters_xtl.runs import run_card
from adapters_xtl.runs.outcome import Outcome, finished_directory, from_store, outcome
from adapters_xtl.runs.planned_records import planned_provenance, planned_spec
from adapters_xtl.runs.records import (
    METRICS,
    PROVENANCE,
    SPEC,
    InferenceCost,
    Metrics,
    Provenance,
    TaskScores,
    write_record,
)
from adapters_xtl.runs.request import Evaluation, Module, Plan
from adapters_xtl.runs.settings import Speed
from adapters_xtl.runs.store import WORK, Store
from adapters_xtl.runs.stored_runs import read_run
from adapters_xtl.training.batches import TrainSet, divide_evenly
from adapters_xtl.training.cost_record import training_cost
from adapters_xtl.training.fit import fit
from adapters_xtl.training.stages import Stage, Training
from adapters_xtl.training.tracking import TrackedRun, tracked

__all__ = ["execute"]

# share of the steps that are taken on shots where they are trained on together with English rows:
# both languages weigh the same, as in Schmidt et al. 2022
JOINT_SHARE = 0.5
Notify = Callable[[str], None]
Inference = Mapping[str, Mapping[str, InferenceCost]]


def execute(
    plan: Plan, store: Store, *, notify: Notify, force: bool = False, host: Host | None = None
) -> Outcome:
    """Runs a plan, or answers it from the store. Nothing is loaded before everything that can be
    checked was checked.

    `host` keeps the backbone in memory from one plan to the next; `force` makes the requested run
    again although the store has it.
    """
    started = time.monotonic()
    answered = None if force else from_store(plan, store)
    if answered is not None:
        return answered
    context = Context(plan, store, host or Host(), notify, force)
    notify_ignored_launcher(notify)
    cap_memory(plan.device, plan.request.memory)
    pending = [
        module
        for module in plan.modules
        if not finished_directory(module, store)
        or (force and module is plan.target and not module.stored)
    ]
    rows = read_rows(plan, pending)
    trained_here = False
    for module in pending:
        trained_here = _train(context, module, rows[module.id])
    if plan.target in pending and plan.inline:
        answered = from_store(plan, store)
        if answered is not None:
            return replace(answered, reused=not trained_here, seconds=_seconds(started))
        # another process trained the same module meanwhile, and scored something else with it
        rows = read_rows(plan, [])
    path, scored_here = _evaluate(context, rows[plan.evaluation.id])
    return outcome(read_run(path), reused=not scored_here, seconds=_seconds(started))


def _seconds(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _stages(context: Context, module: Module, rows: RunRows, model: Model) -> list[Stage]:
    """The stages of a module's training, encoded: those of its task's sources, or one in which
    several tasks are mixed.
    """
    if len(rows.training) > 1:
        sets = [
            _train_set(context, model, name, _limited(module, split.examples, None))
            for name, split in rows.train.items()
        ]
        selected = {name: split.examples for name, split in rows.select.items()}
        return [Stage(module.task, sets, _select_score(context, module, selected, model))]
    ((name, training),) = rows.training.items()
    limit, parts = module.run.hyper.max_examples, training.stages()
    sizes = [len(part.train) for part in parts]
    limits = divide_evenly(min(limit, sum(sizes)), sizes) if limit else sizes
    stages = []
    for part, count in zip(parts, limits, strict=True):
        if not part.select:
            raise DataError(f"{name}: no row is left to select a checkpoint of {part.title}")
        examples = _limited(module, part.train, count)
        sets = [_train_set(context, model, name, examples)]
        if part.shots:
            shots = _train_set(context, model, name, part.shots)
            sets.insert(0, replace(shots, step_share=JOINT_SHARE))
        score = _select_score(context, module, {name: part.select}, model)
        stages.append(Stage(part.title, sets, score))
    return stages


def _limited(
    module: Module, examples: Sequence[Mapping[str, Any]], limit: int | None
) -> Sequence[Mapping[str, Any]]:
    """`limit` examples drawn by the run's seed, in their order (None: as many as the run's
    `max_examples`, 0 of which means all).
    """
    if limit is None:
        limit = module.run.hyper.max_examples or len(examples)
    if limit >= len(examples):
        return examples
    order = np.random.default_rng(module.run.seed).permutation(len(examples))[:limit]
    return [examples[number] for number in sorted(order)]


def _train_set(
    context: Context, model: Model, name: str, examples: Sequence[Mapping[str, Any]]
) -> TrainSet:
    """The examples of one task, encoded for training."""
    spec = model.specs[name]
    items = encode(model, name, examples, train=True)
    cut = sum(item.cut > 0 for item in items)
    if cut:
        context.notify(
            f"{name}: {cut} of {len(items)} inputs are longer than {spec.lengths.max_length}"
            " tokens and were cut"
        )
    return TrainSet(name, items)


def _select_score(
    context: Context,
    module: Module,
    examples_by_task: Mapping[str, Sequence[Mapping[str, Any]]],
    model: Model,
) -> Callable[[], dict[str, float]]:
    """A function that scores select rows with the model as it is; "score" is the mean of the
    tasks' headline metrics, each the mean over the languages of its select rows.
    """
    device, limit = context.plan.device, module.run.hyper.select_examples
    selected = {
        name: examples[:: max(1, -(-len(examples) // limit))] if limit else examples
        for name, examples in examples_by_task.items()
    }

    def score() -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, examples in selected.items():
            task = tasks.load(name)
            by_language: dict[str, list[Mapping[str, Any]]] = {}
            for example in examples:
                by_language.setdefault(example.get("language", "en"), []).append(example)
            of_languages = []
            for language, rows in by_language.items():
                predictions = predict.predict(
                    model, name, rows, device=device, dtype=module.run.dtype
                )
                of_languages.append(scoring.score(task, predictions, language)[task.metric])
            scores[name] = float(sum(of_languages) / len(of_languages))
        mean = sum(scores.values()) / len(scores)
        return {"score": mean, **(scores if len(scores) > 1 else {})}

    return score


@contextmanager
def _failures_explained(context: Context, task: str, run_id: str, what: str) -> Iterator[None]:
    """Turns what goes wrong in a run into one line that begins with `what`.

    After an interruption, one of our own errors or too little memory the partial run stays, to be
    resumed; after any other error it is moved under failed/.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, XtlError):
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0][:200]
        if out_of_memory(error):
            raise RunError(f"{what}: out of memory ({first_line})") from error
        kept = context.store.fail(task, run_id, f"{type(error).__name__}: {error}")
        raise RunError(
            f"{what} failed: {type(error).__name__}: {first_line} (kept in {kept})"
        ) from error


def _train(context: Context, module: Module, rows: RunRows) -> bool:
    """Trains a module and scores it, from its rows to its finished directory. Returns False where
    another process did that meanwhile.
    """
    plan, store, notify = context.plan, context.store, context.notify
    replace_finished = context.force and module is plan.target
    evaluation = module.evaluation
    with store.work(module.task, module.id, notify, replace=replace_finished) as run:
        if run.finished is not None:
            return False
        with _failures_explained(context, module.task, module.id, f"training {module}"):
            notify_left_out(plan.source, rows, notify)
            spec = planned_spec(plan, "training", module, evaluation)
            write_record(run.partial / SPEC, spec)
            provenance = _provenance(context, module, rows)
            if evaluation is not None:
                provenance = replace(provenance, speed=asdict(_speed(plan, module)))
            write_record(run.partial / PROVENANCE, provenance)
            if module.run.compose == "sum":
                metrics = _add_up(context, module, run.partial)
            elif evaluation is None:
                metrics = _draw_untrained(context, module, rows, run.partial)
            else:
                with tracked(spec, plan.request.trackers, store.root, notify) as trackers:
                    metrics, inference = _train_and_score(
                        context, module, evaluation, rows, run.partial, trackers
                    )
                    trackers.scores(metrics)
                provenance = replace(provenance, inference=inference)
            _write_results(run.partial, provenance, metrics)
        store.commit(module.task, module.id)
    return True


def _evaluate(context: Context, rows: RunRows) -> tuple[Path, bool]:
    """Scores a trained module, or the bare backbone, on rows that its own run did not score.

    Returns the evaluation's finished directory, and False where another process has made it
    meanwhile.
    """
    plan, store, notify = context.plan, context.store, context.notify
    evaluation, module = plan.evaluation, plan.target
    with store.work(plan.task, evaluation.id, notify, replace=context.force) as run:
        if run.finished is not None:
            return run.finished, False
        with _failures_explained(context, plan.task, evaluation.id, f"evaluating {plan.task}"):
            notify_left_out(plan.source, rows, notify)
            scored = module or "the bare backbone"
            notify(f"evaluating {scored} on {plan.task}, run {evaluation.id}")
            spec = planned_spec(plan, "evaluation", module, evaluation)
            write_record(run.partial / SPEC, spec)
            provenance = _provenance(context, module, rows)
            head = next((part for part in plan.modules if part.id == evaluation.head), None)
            model = trained_model(context, module, head)
            model.encoded_rows = encoded_rows(context, module.settings.speed if module else Speed())
            model.prefix = prefix_of(context, module, model) if module is not None else None
            metrics, inference = _score(
                context, model, module, evaluation, rows, run.partial, saved=True
            )
            with tracked(spec, plan.request.trackers, store.root, notify) as trackers:
                trackers.scores(metrics)
            _write_results(run.partial, replace(provenance, inference=inference), metrics)
        return store.commit(plan.task, evaluation.id), True


def _provenance(context: Context, module: Module | None, rows: RunRows) -> Provenance:
    plan, threads = context.plan, torch.get_num_threads()
    return planned_provenance(plan, module, context.store, data_record(plan, rows), threads)


def _write_results(partial: Path, provenance: Provenance, metrics: Metrics) -> None:
    write_record(partial / PROVENANCE, provenance)
    write_record(partial / METRICS, metrics)
    atomic_write(partial / "README.md", run_card.run_card(partial))


def _score(
    context: Context,
    model: Model,
    module: Module | None,
    evaluation: Evaluation,
    rows: RunRows,
    partial: Path,
    *,
    saved: bool,
) -> tuple[Metrics, Inference]:
    """Scores of a model and what predicting cost; the predictions are written to `partial`.

    They are kept in work/ too, from where an interrupted evaluation goes on.
    """
    work = partial / WORK
    reset_peak_memory(context.plan.device)
    with _merged(context, model, module, evaluation):
        scores, costs = score_languages(context, model, module, evaluation, rows, work, saved=saved)
    shutil.copytree(work / "predictions", partial / "predictions", copy_function=link_or_copy)
    metrics = Metrics(
        tasks={task: from_json(TaskScores, entry) for task, entry in scores["tasks"].items()},
        score=scores["score"],
        train=None,
    )
    inference = {
        task: {language: from_json(InferenceCost, cost) for language, cost in by_language.items()}
        for task, by_language in costs.items()
    }
    return metrics, inference


@contextmanager
def _merged(
    context: Context, model: Model, module: Module | None, evaluation: Evaluation
) -> Iterator[None]:
    """A context in which the modules are merged into the encoder's weights, where the evaluation
    asks for it.

    States of lower layers are then neither read nor kept: a parent's module may lie there, and
    merging it changes them by rounding, while they are kept under the digest of its own weights.
    """
    if module is None or not evaluation.merged:
        yield
        return
    context.notify("the modules are part of the encoder's weights while they are scored")
    prefix, model.prefix = model.prefix, None
    try:
        with methods.load(module.run.method).merged(model.encoder, context.plan.dtype):
            yield
    finally:
        model.prefix = prefix


def _save_module(context: Context, model: Model, module: Module, partial: Path) -> None:
    name = links(module, context.store, trained=False)[-1].name
    methods.load(module.run.method).save(model.encoder, name, partial / "module")


def _draw_untrained(context: Context, module: Module, rows: RunRows, partial: Path) -> Metrics:
    """A module as it is before its first step; nothing is scored."""
    run = module.run
    context.notify(f"drawing an untrained module ({run.method}, seed {run.seed}), run {module.id}")
    model = fresh_model(context, module, rows.train)
    methods.load(run.method).randomize(model.encoder)
    with explained_save_errors(partial):
        _save_module(context, model, module, partial)
    return Metrics(tasks={}, score=None, train=None)


def _add_up(context: Context, module: Module, partial: Path) -> Metrics:
    """The sum of a module's parents; nothing is trained and nothing is scored."""
    run = module.run
    names = " + ".join(parent.task for parent in module.parents)
    context.notify(f"adding up {names} ({run.method}), run {module.id}")
    model = summed_model(context, module, module.task)
    with explained_save_errors(partial):
        methods.load(run.method).save(model.encoder, module.task, partial / "module")
    return Metrics(tasks={}, score=None, train=None)


def _speed(plan: Plan, module: Module) -> Speed:
    """How a module's training is sped up: as its settings say, but under a memory budget, whose
    plan counts one step's casts.
    """
    speed = module.settings.speed
    return replace(speed, cast_once=speed.cast_once and module.id not in plan.fits)


def _cast_once(plan: Plan, module: Module, model: Model) -> Sequence[nn.Linear]:
    products = methods.load(module.run.method).products(model.encoder)
    return tuple(products) if _speed(plan, module).cast_once else ()


def _train_and_score(
    context: Context,
    module: Module,
    evaluation: Evaluation,
    rows: RunRows,
    partial: Path,
    trackers: TrackedRun,
) -> tuple[Metrics, Inference]:
    plan, run, notify = context.plan, module.run, context.notify
    composed = f", {run.compose}" if run.parents else ""
    notify(
        f"training {module} ({run.method}{composed}, {run.bits} bits, {run.dtype}), run {module.id}"
    )
    model = fresh_model(context, module, rows.train)
    trainable = sum(parameter.numel() for parameter in model.trainable().values())
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    notify(
        f"{trainable:,} of {total:,} parameters train ({trainable - heads:,} in the module,"
        f" {heads:,} in the head)"
    )
    before = frozen_digest(model)
    model.prefix = prefix_of(context, module, model)
    way = plan.fits[module.id].way if module.id in plan.fits else None
    trained = fit(
        Training(
            model=model,
            stages=_stages(context, module, rows, model),
            hyper=run.hyper,
            seed=run.seed,
            dtype=run.dtype,
            device=plan.device,
            work=partial / WORK,
            notify=notify,
            micro_batch=way.micro_batch if way else None,
            checkpointing=way.checkpointing if way else False,
            cast_once=_cast_once(plan, module, model),
            prepare_ahead=module.settings.speed.prepare_ahead,
            on_log=trackers.log,
        )
    )
    if frozen_digest(model) != before:
        raise RunError(
            f"training {module} changed frozen weights; this is a defect, please report it"
        )
    # on a full disk the partial run stays, to be resumed from its checkpoints
    with explained_save_errors(partial):
        _save_module(context, model, module, partial)
        save_heads(model.heads, model.specs, partial / "head")
    log = "".join(json.dumps(entry) + "\n" for entry in trained.log)
    atomic_write(partial / "train_log.jsonl", log)
    metrics, inference = _score(context, model, module, evaluation, rows, partial, saved=False)
    cost = training_cost(
        trained,
        trainable=trainable,
        heads=heads,
        total=total,
        stored_bytes=sum(folder_bytes(partial / part) for part in ("module", "head")),
    )
    return replace(metrics, train=cost), inference
