"""A finished run becomes a bundle directory: module and heads as they are, bundle.json, the card,
the manifest.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters_xtl.backbones import Backbone, registry
from adapters_xtl.backbones.fingerprint import identity
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, folder_digest, read_json, write_json
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.base.untrusted import printable, safe_name
from adapters_xtl.runs.records import Metrics, ParentRecord, RowsCount, Spec, TaskScores
from adapters_xtl.runs.store import is_finished, verify
from adapters_xtl.runs.stored_runs import StoredModule, StoredRun, read_run
from adapters_xtl.sharing import bundle, bundle_record
from adapters_xtl.sharing.bundle_card import bundle_card
from adapters_xtl.sharing.bundle_record import (
    BackboneIdentity,
    BundleBackbone,
    BundleParent,
    BundleRecord,
    BundleScores,
    BundleTraining,
    RowsUsed,
    TrainedRows,
)
from adapters_xtl.sharing.licences import combined, sources_of
from adapters_xtl.sharing.mirror_rows import stated_rows
from adapters_xtl.sharing.parents import parent_on_this_machine

__all__ = ["check_licence", "check_rows", "default_name", "pack", "record_of_run", "training_run"]


def training_run(path: Path) -> StoredRun:
    """The run that holds the module of a run: itself or, for an evaluation, the one that it scored.

    RequestError where there is none, MismatchError for a damaged run.
    """
    run = read_run(path)
    if run.spec.kind == "training":
        return run
    if run.spec.module is None:
        raise RequestError(f"{path}: an evaluation of the bare backbone; it has no module to share")
    beside = path.parent.parent / run.spec.module.task / run.spec.module.id
    if not is_finished(beside):
        raise RequestError(
            f"{path}: an evaluation, and the run whose module it scored is not at {beside}"
        )
    return read_run(beside)


def default_name(module: StoredModule) -> str:
    """`xnli-on-mnli-lora-xlmr-large`: what a bundle is called where nobody names it."""
    below = "-".join(parent.task for parent in module.parents)
    stack = f"{module.task}-on-{below}" if below else module.task
    last = module.backbone.name.rstrip("/").split("/")[-1]
    backbone = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "backbone"
    return re.sub(r"\.{2,}", ".", f"{stack}-{module.run.method}-{backbone}"[:96])


def pack(
    run: StoredRun,
    into: Path,
    *,
    where: Callable[[str], Sequence[str]],
    licence: str = "",
    rows: str = "",
) -> None:
    """Writes the bundle of a run into the empty directory `into`.

    where    sha256 of a parent's module → the places that hold it
    licence  by the hub's name; "" for the one that follows from the training data
    rows     a mirror's rows, described in words

    MismatchError where the run's files are not those of its manifest.
    """
    verify(run.path)
    check_rows(rows, run.provenance.data.source)
    for part in ("module", "head"):
        for source in sorted((run.path / part).rglob("*")):
            if source.is_file():
                target = into / source.relative_to(run.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                # without its mode: libraries write weights for the owner only
                shutil.copyfile(source, target)
    record = _record(run, folder_digest(into / "module"), where, licence, rows)
    write_json(into / bundle_record.RECORD, record.to_json())
    fused = into / "module" / "adapter_fusion_config.json"
    names = read_json(fused)["name"].split(",") if fused.is_file() else ()
    stack = [*_tasks_below(run.module), record.task]
    (into / "README.md").write_text(bundle_card(record, stack, names), encoding="utf-8")
    bundle.seal(into)
    bundle.read(into, str(run.path))  # a bundle that a reader would refuse is not shared


def record_of_run(run: StoredRun) -> BundleRecord:
    """What a bundle of a run would say of it, without places that hold its parents."""
    return _record(run, run.module.module_sha256, lambda sha256: (), "", "")


def _record(
    run: StoredRun,
    module_sha256: str,
    where: Callable[[str], Sequence[str]],
    licence: str,
    rows: str,
) -> BundleRecord:
    module = run.module
    data = _trained_rows(run, rows)
    sources = sources_of(run, _parent_here)
    follows, reasons = combined(sources)
    record = BundleRecord(
        format=bundle_record.FORMAT,
        task=module.task,
        id=run.spec.id,
        method=module.run.method,
        options=module.run.options,
        labels=module.labels,
        compose=module.run.compose,
        composition=module.composition,
        seed=module.run.seed,
        protocol=module.run.protocol,
        run=module.run,
        backbone=_backbone(run.spec, module),
        module_sha256=module_sha256,
        parents=tuple(
            BundleParent(parent.task, parent.id, parent.sha256, tuple(where(parent.sha256)))
            for parent in module.parents
        ),
        metrics={} if data.source == "embedded" else _scores(run, module.run.protocol),
        trained=_training(run.metrics),
        data=data,
        versions=run.provenance.versions,
        licence=licence or follows,
        made_from=tuple(_line(str(source)) for source in sources),
        licence_reasons=tuple(map(_line, reasons)),
        own_rows=run.spec.own_rows,
    )
    return from_json(BundleRecord, record.to_json())


def _scores(run: StoredRun, protocol: str) -> dict[str, BundleScores]:
    limit = run.spec.evaluation.max_examples if run.spec.evaluation else 0

    def kept(task: str, scores: TaskScores) -> BundleScores:
        counts = run.provenance.data.report.get(task, {}).values()
        cut = any(count.examples > limit for count in counts)
        return BundleScores(
            split=scores.split,
            metric=scores.metric,
            score=scores.score,
            protocol=protocol,
            languages=scores.languages,
            selected_on=scores.selected_on,
            layer=scores.layer,
            max_examples=limit if cut else 0,
        )

    return {task: kept(task, scores) for task, scores in run.metrics.tasks.items()}


def _training(metrics: Metrics) -> BundleTraining | None:
    cost = metrics.train
    if cost is None:
        return None
    return BundleTraining(
        steps=cost.steps,
        examples=cost.examples,
        trainable_parameters=cost.trainable_parameters,
        head_parameters=cost.head_parameters,
        total_parameters=cost.total_parameters,
    )


def _tasks_below(module: StoredModule) -> list[str]:
    """Tasks of the modules that are loaded below a module: its parents or, for a copy, what its
    parent stands on.
    """
    if module.run.compose != "init":
        return [parent.task for parent in module.parents]
    start = parent_on_this_machine(module, module.parents[-1], lambda text: None)
    if start is None:
        raise MismatchError(f"{module.path}: its parent is neither in its store nor in the cache")
    return _tasks_below(start)


def _backbone(spec: Spec, module: StoredModule) -> BundleBackbone:
    """The backbone with what its fingerprint is the digest of. Of a directory only the name is
    said: where it lies is nobody else's affair.
    """
    record = spec.backbone
    if record.name in registry.NAMED:
        named: Backbone = registry.NAMED[record.name]
    else:
        pinned = f"@{record.revision}" if record.revision else ""
        named = registry.resolve(record.location + pinned)
    parts = identity(named)
    if digest(parts) != record.fingerprint:
        raise MismatchError(
            f"backbone {record.name}: its fingerprint is {digest(parts)[:12]} now, and the"
            f" run was trained on {record.fingerprint[:12]}"
        )
    local = named.source == "directory"
    folder = Path(record.location).name
    return BundleBackbone(
        name=folder if local else record.name,
        location=folder if local else record.location,
        fingerprint=record.fingerprint,
        revision=record.revision,
        bits=spec.bits,
        dtype=module.run.dtype,
        identity=from_json(BackboneIdentity, parts),
    )


def _trained_rows(run: StoredRun, rows: str) -> TrainedRows:
    """The rows that a run read: counts and forms by task, and what a mirror says of its own."""
    data, hyper = run.provenance.data, run.module.run.hyper

    def used(count: RowsCount, limit: int) -> RowsUsed:
        return RowsUsed(count.rows, min(count.examples, limit or count.examples), count.forms)

    train = {task: used(count, hyper.max_examples) for task, count in data.train.items()}
    select = {task: used(count, 0) for task, count in data.select.items()}
    report = {
        task: tuple(dict.fromkeys(form for count in counts.values() for form in count.forms))
        for task, counts in data.report.items()
    }
    mirror = Path(run.spec.request.get("data") or "").expanduser()
    stated: dict[str, str] = {}
    if data.source == "mirror":
        forms = {form for read in (*train.values(), *select.values()) for form in read.forms}
        forms |= {form for names in report.values() for form in names}
        stated = stated_rows(mirror, forms, run.module.run.data["train"])
    return TrainedRows(
        source=data.source,
        mirror=printable(mirror.name) if data.source == "mirror" else "",
        revisions=data.revisions,
        train=train,
        select=select,
        report=report,
        stated=stated,
        rows=rows,
    )


def _parent_here(child: StoredModule, parent: ParentRecord) -> StoredModule | None:
    return parent_on_this_machine(child, parent, lambda text: None)


def _line(text: str) -> str:
    """A text that a record takes: one line, cut where it is too long."""
    return printable(text, 490)


def check_rows(text: str, source: str) -> str:
    """`text`, the user's description of a mirror's rows, for the card.

    RequestError where the rows are no mirror's, or the text is not one line.
    """
    if text and source not in ("mirror", "files"):
        kind = "an imported module's" if source == "foreign" else source
        raise RequestError(
            f"--rows: says what rows of a mirror or of one's own are, and this run's data is {kind}"
        )
    if not text.isprintable() or len(text) > 300:
        raise RequestError("--rows: takes one line of at most 300 characters")
    return text


def check_licence(text: str) -> str:
    """A licence by the hub's name (`apache-2.0`, `cc-by-4.0`). RequestError for text that cannot be
    one.
    """
    if text and not safe_name(text):
        raise RequestError(
            f"--licence {printable(text)}: the hub's name of a licence, e.g. apache-2.0 or"
            " cc-by-4.0"
        )
    return text.lower()
