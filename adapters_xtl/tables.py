"""Results as tables on a terminal, from JSON that runs wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.canon import read_json

__all__ = ["checked", "listed", "planned", "result", "runs", "show"]


def show(console: Console, *renderables: Table | str) -> None:
    for each in renderables:
        console.print(each, highlight=False, soft_wrap=isinstance(each, str))


def result(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> list[Table]:
    """One table a task: languages × metrics, mean, gap to English; with a baseline, its scores and differences."""
    tables = []
    for name, entry in metrics["tasks"].items():
        scored = entry["languages"]
        names = list(dict.fromkeys(key for scores in scored.values() for key in scores if key != "n"))
        table = Table(title=f"{name} · {entry['split']}", title_justify="left", min_width=44)
        notes = list(tasks.load(name).notes)
        if entry.get("selected_on"):
            notes.append("these rows also chose the checkpoint")
        table.add_column("language")
        for key in names:
            table.add_column(key + (" *" if key == entry["metric"] else ""), justify="right")
        table.add_column("n", justify="right")
        other = baseline["tasks"].get(name) if baseline else None
        if other:
            table.add_column(f"{entry['metric']} without", justify="right")
            table.add_column("difference", justify="right")
        for language, scores in scored.items():
            row = [language, *(f"{scores[key]:.2f}" if key in scores else "" for key in names), str(scores["n"])]
            if other and language in other["languages"]:
                without = other["languages"][language][entry["metric"]]
                row += [f"{without:.2f}", f"{scores[entry['metric']] - without:+.2f}"]
            table.add_row(*row)
        if len(scored) > 1:
            table.add_section()
            means = [_mean(scores.get(key) for scores in scored.values()) for key in names]
            row = ["mean", *means, ""]
            if other:
                row += [f"{other['score']:.2f}", f"{entry['score'] - other['score']:+.2f}"]
            table.add_row(*row)
            if "en" in scored:
                english = scored["en"][entry["metric"]]
                rest = [scores[entry["metric"]] for language, scores in scored.items() if language != "en"]
                others = sum(rest) / len(rest)
                notes.insert(0, f"English {english:.2f}, others {others:.2f}, gap {english - others:.2f}")
        table.caption, table.caption_justify = "\n".join(notes), "left"
        tables.append(table)
    return tables


def _mean(values: Any) -> str:
    found = [value for value in values if value is not None]
    return f"{sum(found) / len(found):.2f}" if found else ""


def listed(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in ("rows", "train", "examples", "score", "n") else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def planned(plan: Any, have: Mapping[str, bool]) -> Table:
    """What a plan would do: one line a run."""
    rows = [
        (str(module), module.id, "training", "in the store" if have[module.id] else "would train",
         f"lr {module.run.hyper.lr:g}, {module.run.hyper.epochs:g} epochs, {module.run.bits} bits, {module.run.dtype}")
        for module in plan.modules
    ]  # fmt: skip
    languages = "; ".join(
        f"{task} {split}: {', '.join(plan.evaluation.files[task])}" for task, split in plan.evaluation.splits.items()
    )
    rows.append((plan.task, plan.evaluation.id, "evaluation",
                 "in the store" if have[plan.evaluation.id] else "would score", languages))  # fmt: skip
    return listed("plan (nothing was run)", ("run", "id", "kind", "state", "what"), rows)


def runs(paths: Sequence[Path]) -> Table:
    """The runs of a store, newest first."""
    rows = []
    for path in paths:
        spec, metrics = read_json(path / "spec.json"), read_json(path / "metrics.json")
        method = spec["run"]["method"] if spec["run"] else "none"
        stack = ">".join(
            [*(parent["task"] for parent in spec["parents"]), *([spec["module"]["task"]] if spec["module"] else [])]
        )
        rows.append((path.parent.name, path.name, spec["kind"], method, stack or "bare", spec["backbone"]["name"],
                     spec["data"], "" if metrics["score"] is None else f"{metrics['score']:.2f}"))  # fmt: skip
    return listed("runs", ("task", "id", "kind", "method", "stack", "backbone", "data", "score"), rows)


def checked(rows: Sequence[Sequence[Any]]) -> Table:
    return listed(
        "data", ("task", "split", "language", "rows", "usable", "labels or answers", "length median/max", "unfit"), rows
    )
