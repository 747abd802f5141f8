"""Executes a plan: reads the data, trains what the store lacks, scores, and commits each run whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import card, evaluate, fingerprint, formats, methods, provenance, tasks, train
from adapters_xtl.answer import Outcome, from_store, has
from adapters_xtl.canon import atomic_write, digest, file_digest, read_json, write_json
from adapters_xtl.data import labels_of
from adapters_xtl.errors import RequestError, RunError, XtlError
from adapters_xtl.formats.items import Lengths
from adapters_xtl.gather import Gathered, gather, record, tell
from adapters_xtl.methods import Link
from adapters_xtl.model import HeadSpec, Model, build, frozen_digest, head_specs, load_heads, save_heads
from adapters_xtl.plan import own_evaluation
from adapters_xtl.request import Evaluation, Module, Plan
from adapters_xtl.spec import Task
from adapters_xtl.store import Store

__all__ = ["execute"]

Notify = Callable[[str], None]


def execute(plan: Plan, store: Store, *, notify: Notify, force: bool = False) -> Outcome:
    """Runs a plan, or answers it from the store. Nothing is loaded before everything that can be checked was checked."""
    started = time.monotonic()
    answered = None if force else from_store(plan, store)
    if answered is not None:
        return answered
    pending = [each for each in plan.modules if (force and each is plan.target) or not has(each, store)]
    rows = gather(plan, pending)
    for module in pending:
        inline = plan.inline and module is plan.target
        evaluation = plan.evaluation if inline else own_evaluation(plan, module)
        path = _training(plan, module, evaluation, rows[module.id], store, notify, force and module is plan.target)
        if inline:
            return _outcome(path, started)
    path = _scoring(plan, rows["evaluation"], store, notify, force)
    return _outcome(path, started)


def _outcome(path: Path, started: float) -> Outcome:
    return Outcome(path.name, path, False, round(time.monotonic() - started, 3), dict(read_json(path / "metrics.json")))


def _chain(plan: Plan, module: Module, store: Store, *, trained: bool) -> list[Link]:
    """Links of a module's stack. `trained`: the module itself is loaded from its run too."""
    names: list[str] = []

    def unique(name: str) -> str:
        names.append(name)
        return name if names.count(name) == 1 else f"{name}_{names.count(name)}"

    def saved(of: Module) -> Path:
        return (of.existing or store.path(of.task, of.id)) / "module"

    parents = module.parents if module.run.compose != "init" else _below(module.parents)
    links = [Link(unique(parent.task), saved(parent)) for parent in parents]
    start = saved(module.parents[-1]) if module.run.compose == "init" and module.parents else None
    return [*links, Link(unique(module.task), saved(module) if trained else None, None if trained else start)]


def _below(parents: tuple[Module, ...]) -> tuple[Module, ...]:
    """The modules that stay frozen below a child made by `init`: its parent's own ancestors."""
    if not parents:
        return ()
    parent = parents[-1]
    return _below(parent.parents) if parent.run.compose == "init" else parent.parents


def _heads(module: Module, rows: Gathered, hidden: int) -> dict[str, HeadSpec]:
    hyper = module.run.hyper
    lengths = Lengths(hyper.max_length, min(hyper.stride, hyper.max_length // 2))
    return {
        name: HeadSpec(tasks.load(name).format, labels_of(tasks.load(name), part.examples), hidden, hyper.dropout, lengths)
        for name, part in rows.train.items()
    }


def _model(plan: Plan, module: Module, heads: Mapping[str, HeadSpec], store: Store, *, train: bool) -> Model:
    run = module.run
    return build(
        plan.backbone, bits=run.bits, dtype=run.dtype, device=plan.device, method=run.method,
        chain=_chain(plan, module, store, trained=not train), options=run.options, from_layer=run.from_layer, heads=heads,
        train=train, seed=run.seed,
    )  # fmt: skip


def _hidden(plan: Plan) -> int:
    return int(fingerprint.config(plan.backbone)["hidden_size"])


def _train_sets(module: Module, rows: Gathered, model: Model, notify: Notify) -> list[train.TrainSet]:
    sets = []
    for name, part in rows.train.items():
        spec = model.specs[name]
        examples = part.examples
        limit = module.run.hyper.max_examples
        if limit and limit < len(examples):
            order = np.random.default_rng(module.run.seed).permutation(len(examples))[:limit]
            examples = [examples[number] for number in sorted(order)]
        items = formats.load(spec.format).encode(examples, spec.labels, model.tokenizer, spec.lengths, train=True)
        cut = sum(item.cut > 0 for item in items)
        if cut:
            notify(f"{name}: {cut} of {len(items)} inputs are longer than {spec.lengths.max_length} tokens and were cut")
        stages = [examples[item.owner].get("stage", 0) for item in items] if tasks.load(name).ordered else None
        sets.append(train.TrainSet(name, items, stages))
    return sets


def _select_score(module: Module, rows: Gathered, model: Model, device: str, dtype: str) -> Callable[[], dict[str, float]]:
    limit = module.run.hyper.select_examples

    def score() -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, part in rows.select.items():
            examples = part.examples[:: max(1, -(-len(part.examples) // limit))] if limit else part.examples
            predictions = evaluate.predict(model, name, examples, device=device, dtype=dtype)
            task = tasks.load(name)
            scores[name] = float(evaluate.score(task, predictions, "en")[task.metric])
        mean = sum(scores.values()) / len(scores)
        return {"score": mean, **(scores if len(scores) > 1 else {})}

    return score


def _spec_record(plan: Plan, module: Module | None, evaluation: Evaluation, kind: str) -> dict[str, Any]:
    request = asdict(plan.request)
    request.pop("runs")
    return {
        "id": evaluation.id if kind == "evaluation" or module is None else module.id,
        "kind": kind,
        "task": plan.task if kind == "evaluation" or module is None else module.task,
        "request": request,
        "backbone": {key: getattr(plan.backbone, key) for key in ("name", "location", "fingerprint", "revision")},
        "data": str(plan.source) if plan.source.kind != "mirror" else "mirror",
        "bits": plan.bits,
        "dtype": module.run.dtype if module else plan.dtype,
        "run": module.run.identity() if module else None,
        "module": {"task": module.task, "id": module.id} if module else None,
        "parents": [{"task": parent.task, "id": parent.id} for parent in module.parents] if module else [],
        "evaluation": evaluation.record(),
    }  # fmt: skip


def _lineage(plan: Plan, module: Module, store: Store) -> dict[str, Any]:
    """Digest of the backbone and of every parent's weights, in order."""
    parents = []
    for parent in module.parents:
        folder = (parent.existing or store.path(parent.task, parent.id)) / "module"
        parents.append({"task": parent.task, "id": parent.id, "sha256": folder_digest(folder)})
    return {"backbone": plan.backbone.fingerprint, "parents": parents}


def folder_digest(folder: Path) -> str:
    """sha256 over the names and sha256 of a directory's files."""
    return digest({path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()})


def _evaluate(plan: Plan, model: Model, head: Callable[[str], str | None], evaluation: Evaluation, rows: Gathered,
              partial: Path, notify: Notify) -> dict[str, Any]:  # fmt: skip
    """Predicts and scores every language; predictions found in the partial run are scored as they are."""
    found: dict[str, Any] = {}
    for name, by in rows.report.items():
        task = tasks.load(name)
        languages: dict[str, Any] = {}
        for language, part in by.items():
            path = partial / "predictions" / name / f"{language}.jsonl"
            if path.is_file():
                predictions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            else:
                examples = part.examples[: evaluation.limit] if evaluation.limit else part.examples
                predictions = _predictions(plan, model, head(name), task, examples, f"{name} {language}")
                atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions))
            languages[language] = evaluate.score(task, predictions, language)
        mean = sum(scores[task.metric] for scores in languages.values()) / len(languages)
        found[name] = {"split": evaluation.splits[name], "metric": task.metric, "score": mean, "languages": languages}
        if rows.overlap.get(name):
            found[name]["selected_on"] = rows.overlap[name]
    return {"tasks": found, "score": sum(entry["score"] for entry in found.values()) / len(found)}


def _predictions(plan: Plan, model: Model, head: str | None, task: Task, examples: Sequence[Mapping[str, Any]],
                 text: str) -> list[dict[str, Any]]:  # fmt: skip
    progress = evaluate.progress_line(text)
    if task.format != "retrieve":
        if head is None:
            raise RequestError(f"{task.name} needs a trained head; give --on a module that has one")
        return evaluate.predict(model, head, examples, device=plan.device, dtype=plan.dtype, progress=progress)
    encoder: Any = model.encoder
    layer = evaluate.retrieval_layer(encoder.config.num_hidden_layers)
    items, vectors = evaluate.embed(
        model, examples, Lengths(512), layer=layer, device=plan.device, dtype=plan.dtype, progress=progress
    )
    return evaluate.retrieve(task, examples, items, vectors)


def _training(plan: Plan, module: Module, evaluation: Evaluation, rows: Gathered, store: Store, notify: Notify,
              force: bool) -> Path:  # fmt: skip
    """One training run, from its rows to its committed directory."""
    with store.work(module.task, module.id, notify) as partial:
        done = store.find(module.task, module.id)
        if done is not None and not force:
            return done
        partial.mkdir(parents=True, exist_ok=True)
        try:
            tell(rows, notify)
            metrics = _train_and_score(plan, module, evaluation, rows, store, partial, notify)
            write_json(partial / "metrics.json", metrics)
            atomic_write(partial / "README.md", card.run_card(partial))
        except (KeyboardInterrupt, RunError, RequestError, MemoryError):
            raise  # what is there stays, to be resumed
        except Exception as error:
            kept = store.fail(module.task, module.id, f"{type(error).__name__}: {error}")
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise RunError(f"training {module} failed: {type(error).__name__}: {first} (kept in {kept})") from error
        return store.commit(module.task, module.id, replace=force)


def _train_and_score(plan: Plan, module: Module, evaluation: Evaluation, rows: Gathered, store: Store, partial: Path,
                     notify: Notify) -> dict[str, Any]:  # fmt: skip
    run, work = module.run, partial / "work"
    notify(
        f"training {module} ({run.method}{f', {run.compose}' if run.parents else ''}, {run.bits} bits, {run.dtype}), "
        f"run {module.id}"
    )
    write_json(partial / "spec.json", _spec_record(plan, module, evaluation, "training"))
    write_json(partial / "provenance.json", {
        **provenance.record(), "data": record(plan, rows), "notes": list(plan.notes),
        "lineage": _lineage(plan, module, store), "composition": methods.load(run.method).COMPOSES.get(run.compose, ""),
    })  # fmt: skip
    model = _model(plan, module, _heads(module, rows, _hidden(plan)), store, train=True)
    trainable = sum(parameter.numel() for parameter in model.trainable().values())
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    notify(f"{trainable:,} of {total:,} parameters train ({trainable - heads:,} in the module, {heads:,} in the head)")
    before = frozen_digest(model) if run.method != "full" else ""
    sets = _train_sets(module, rows, model, notify)
    fitted = train.fit(
        model, sets, run.hyper, seed=run.seed, dtype=run.dtype, device=plan.device, work=work,
        score=_select_score(module, rows, model, plan.device, run.dtype), notify=notify,
    )  # fmt: skip
    if run.method != "full" and frozen_digest(model) != before:
        raise RunError(f"training {module} changed frozen weights; this is a defect, please report it")
    shutil.rmtree(partial / "module", ignore_errors=True)
    methods.load(run.method).save(model.encoder, _chain(plan, module, store, trained=False)[-1].name, partial / "module")
    save_heads(model, partial / "head")
    atomic_write(partial / "train_log.jsonl", "".join(json.dumps(entry) + "\n" for entry in fitted.log))
    scores = _evaluate(plan, model, lambda name: name if name in model.specs else None, evaluation, rows, partial, notify)
    return {
        **scores,
        "train": {
            "seconds": round(fitted.seconds, 2), "examples": fitted.examples, "tokens": fitted.tokens, "steps": fitted.steps,
            "peak_memory_bytes": fitted.peak_memory_bytes, "trainable_parameters": trainable, "head_parameters": heads,
            "total_parameters": total, "select": {"step": fitted.step, **fitted.select},
        },
    }  # fmt: skip


def _scoring(plan: Plan, rows: Gathered, store: Store, notify: Notify, force: bool) -> Path:
    """One evaluation run: a trained module, or the bare backbone, on rows that its own run did not score."""
    evaluation, module = plan.evaluation, plan.target
    with store.work(plan.task, evaluation.id, notify) as partial:
        done = store.find(plan.task, evaluation.id)
        if done is not None and not force:
            return done
        partial.mkdir(parents=True, exist_ok=True)
        tell(rows, notify)
        notify(f"evaluating {module or 'the bare backbone'} on {plan.task}, run {evaluation.id}")
        write_json(partial / "spec.json", _spec_record(plan, module, evaluation, "evaluation"))
        write_json(partial / "provenance.json", {
            **provenance.record(), "data": record(plan, rows), "notes": list(plan.notes),
            "lineage": _lineage(plan, module, store) if module else {"backbone": plan.backbone.fingerprint, "parents": []},
        })  # fmt: skip
        model = trained_model(plan, module, store)

        def head(name: str) -> str | None:
            return next((each for each in (name, tasks.load(name).train_from) if each in model.specs), None)

        try:
            scores = _evaluate(plan, model, head, evaluation, rows, partial, notify)
        except (KeyboardInterrupt, XtlError, MemoryError):
            raise
        except Exception as error:
            kept = store.fail(plan.task, evaluation.id, f"{type(error).__name__}: {error}")
            raise RunError(f"evaluating {plan.task} failed: {type(error).__name__}: {error} (kept in {kept})") from error
        write_json(partial / "metrics.json", {**scores, "train": None})
        atomic_write(partial / "README.md", card.run_card(partial))
        return store.commit(plan.task, evaluation.id, replace=force)


def trained_model(plan: Plan, module: Module | None, store: Store) -> Model:
    """The model of a finished run, or the bare backbone, ready to predict."""
    if module is None:
        return build(plan.backbone, bits=plan.bits, dtype=plan.dtype, device=plan.device, method=plan.request.method,
                     chain=(), options={}, from_layer=0, heads={}, train=False, seed=0)  # fmt: skip
    path = module.existing or store.path(module.task, module.id)
    model = _model(plan, module, head_specs(path / "head"), store, train=False)
    load_heads(model, path / "head")
    return model
