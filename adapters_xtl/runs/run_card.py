"""The README.md of a run, written from its own records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.runs.records import (
    METRICS,
    PROVENANCE,
    SPEC,
    Metrics,
    Provenance,
    Spec,
    read_record,
)
from adapters_xtl.runs.trained_languages import trained_languages

__all__ = ["run_card", "run_facts", "score_table"]


def run_card(run: Path) -> str:
    """Markdown from spec.json, provenance.json and metrics.json of a run directory."""
    spec = read_record(Spec, run / SPEC)
    provenance = read_record(Provenance, run / PROVENANCE)
    metrics = read_record(Metrics, run / METRICS)
    lines = [f"# {_title(spec)} · {spec.id}", ""]
    if provenance.data.source == "embedded":
        lines += [
            "Trained and scored on the package's sample rows: the scores only show that the"
            " pipeline works.",
            "",
        ]
    facts = run_facts(spec, provenance, metrics)
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts), ""]
    for name, scores in metrics.tasks.items():
        task = tasks.load(name)
        lines += [f"## {name}: {task.title}, {scores.split}", ""]
        if scores.selected_on:
            lines += ["The same rows chose the checkpoint, so this score is optimistic.", ""]
        lines += score_table(to_json(scores))
        lines += [f"- {note}" for note in task.notes] + [""] * bool(task.notes)
    if provenance.data.lacking:
        missing = "; ".join(
            f"{name}: {', '.join(codes)}" for name, codes in provenance.data.lacking.items()
        )
        lines += [f"Languages that the source lacks: {missing}.", ""]
    return "\n".join(lines)


def score_table(scores: Mapping[str, Any]) -> list[str]:
    """One task's scores (`TaskScores` as JSON): a row for each language and one for their mean.

    Lines of Markdown, the last one empty.
    """
    names = sorted({key for values in scores["languages"].values() for key in values} - {"n"})
    lines = [f"| language | {' | '.join(names)} | n |", "|---|" + "---:|" * (len(names) + 1)]
    for language, values in scores["languages"].items():
        cells = [f"{values[key]:.2f}" if key in values else "" for key in names]
        lines.append(f"| {language} | {' | '.join(cells)} | {values['n']} |")
    mean = f"| **mean {scores['metric']}** | **{scores['score']:.2f}** |"
    return [*lines, mean + " |" * len(names), ""]


def _title(spec: Spec) -> str:
    stack = spec.stack or spec.backbone.name
    return stack if spec.kind == "training" else f"{spec.task} by {stack}"


def run_facts(spec: Spec, provenance: Provenance, metrics: Metrics) -> list[tuple[str, str]]:
    """(name, value) of what a reader wants to know of a run, in Markdown."""
    backbone, run, trained = spec.backbone, spec.run, metrics.train
    facts = [
        (
            "backbone",
            f"{backbone.name} ({backbone.location}), fingerprint `{backbone.fingerprint[:12]}`",
        )
    ]
    if run is not None:
        options = ", ".join(f"{key} {value}" for key, value in run.options.items())
        facts.append(("method", f"{run.method} ({options or 'no options'})"))
        if run.parents:
            facts.append(("composition", f"{run.compose} ({provenance.composition})"))
        hyper = run.hyper
        if languages := trained_languages(run):
            facts.append(("trained in", languages))
        facts.append(
            (
                "training",
                f"lr {hyper.lr:g}, batch {hyper.batch_size}, epochs {hyper.epochs:g}, max length"
                f" {hyper.max_length}, seed {run.seed}, protocol {run.protocol}",
            )
        )
    for task, shots in provenance.data.shots.items():
        drawn = f"{len(shots.rows)} of {shots.pool} {shots.language} rows, bucket {shots.bucket}"
        regime = f", {run.hyper.shot_regime}" if run is not None else ""
        facts.append((f"shots of {task}", f"{drawn}, from {', '.join(shots.forms)}{regime}"))
    facts.append(("precision", f"{spec.bits}-bit backbone, {spec.dtype} compute"))
    forms = {form for part in provenance.data.train.values() for form in part.forms}
    facts.append(
        ("data", f"{provenance.data.source}: {', '.join(sorted(forms)) or 'none for training'}")
    )
    if trained is not None:
        facts += [
            (
                "trainable parameters",
                f"{trained.trainable_parameters:,} of {trained.total_parameters:,}",
            ),
            ("stored", f"{trained.stored_bytes / 1e6:,.1f} MB (module and head)"),
            (
                "trained",
                f"{trained.steps} steps, {trained.examples:,} examples, {trained.seconds:.0f} s",
            ),
            ("selected", f"step {trained.select.step}, score {trained.select.score:.2f}"),
        ]
    return facts
