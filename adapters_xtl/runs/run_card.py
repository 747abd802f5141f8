"""The README.md of a run, written from its own JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters_xtl import tasks
from adapters_xtl.base.files import read_json

__all__ = ["run_card", "score_table"]


def run_card(run: Path) -> str:
    """Markdown from spec.json, provenance.json and metrics.json of a run directory."""
    spec, provenance, metrics = (
        read_json(run / f"{name}.json") for name in ("spec", "provenance", "metrics")
    )
    lines = [f"# {_stack(spec)} · {spec['id']}", ""]
    if provenance["data"]["source"] == "embedded":
        lines += [
            "Trained and scored on the package's sample rows: the scores only show that the"
            " pipeline works.",
            "",
        ]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(spec, provenance, metrics)),
        "",
    ]
    for name, entry in metrics["tasks"].items():
        lines += [f"## {name}: {tasks.load(name).title}, {entry['split']}", ""]
        if entry.get("selected_on"):
            lines += ["The same rows chose the checkpoint, so this score is optimistic.", ""]
        lines += score_table(entry)
        lines += [f"- {note}" for note in tasks.load(name).notes] + [""] * bool(
            tasks.load(name).notes
        )
    if provenance["data"]["lacking"]:
        lacking = "; ".join(
            f"{name}: {', '.join(codes)}" for name, codes in provenance["data"]["lacking"].items()
        )
        lines += [f"Languages that the source lacks: {lacking}.", ""]
    return "\n".join(lines)


def score_table(entry: Mapping[str, Any]) -> list[str]:
    """One task's languages and their mean, as lines of Markdown that end with an empty one."""
    names = sorted({key for scores in entry["languages"].values() for key in scores if key != "n"})
    lines = [f"| language | {' | '.join(names)} | n |", "|---|" + "---:|" * (len(names) + 1)]
    for language, scores in entry["languages"].items():
        cells = [f"{scores[key]:.2f}" if key in scores else "" for key in names]
        lines.append(f"| {language} | {' | '.join(cells)} | {scores['n']} |")
    return [
        *lines,
        f"| **mean {entry['metric']}** | **{entry['score']:.2f}** |" + " |" * len(names),
        "",
    ]


def _stack(spec: dict[str, Any]) -> str:
    own = [spec["module"]["task"]] if spec["module"] else [spec["backbone"]["name"]]
    between = "+" if spec["run"] and spec["run"]["compose"] == "fuse" else ">"
    below = between.join(parent["task"] for parent in spec["parents"])
    chain = ">".join([*([below] if below else []), *own])
    return chain if spec["kind"] == "training" else f"{spec['task']} by {chain}"


def _facts(
    spec: dict[str, Any], provenance: dict[str, Any], metrics: dict[str, Any]
) -> list[tuple[str, str]]:
    backbone, run, trained = spec["backbone"], spec["run"], metrics["train"]
    facts = [
        (
            "backbone",
            f"{backbone['name']} ({backbone['location']}), fingerprint"
            f" `{backbone['fingerprint'][:12]}`",
        )
    ]
    if run:
        options = ", ".join(f"{key} {value}" for key, value in run["options"].items())
        facts.append(("method", f"{run['method']} ({options or 'no options'})"))
        if run["parents"]:
            facts.append(("composition", f"{run['compose']} ({provenance.get('composition', '')})"))
        hyper = run["hyper"]
        text = (
            f"lr {hyper['lr']:g}, batch {hyper['batch_size']},"
            f" epochs {hyper['epochs']:g}, max length {hyper['max_length']}"
        )
        facts.append(("training", f"{text}, seed {run['seed']}, protocol {run['protocol']}"))
    facts.append(("precision", f"{spec['bits']}-bit backbone, {spec['dtype']} compute"))
    forms = {form for part in provenance["data"]["train"].values() for form in part["forms"]}
    facts.append(
        (
            "data",
            f"{provenance['data']['source']}: {', '.join(sorted(forms)) or 'none for training'}",
        )
    )
    if trained:
        facts.append(
            (
                "trainable parameters",
                f"{trained['trainable_parameters']:,} of {trained['total_parameters']:,}",
            )
        )
        facts.append(("stored", f"{trained['stored_bytes'] / 1e6:,.1f} MB (module and head)"))
        facts.append(
            (
                "trained",
                f"{trained['steps']} steps, {trained['examples']:,} examples,"
                f" {trained['seconds']:.0f} s",
            )
        )
        facts.append(
            (
                "selected",
                f"step {trained['select']['step']}, score {trained['select']['score']:.2f}",
            )
        )
    return facts
