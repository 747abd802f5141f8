"""Results as tables on a terminal, from JSON that runs wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters_xtl import tasks
from adapters_xtl.base.files import read_json

__all__ = ["checked", "cost", "listed", "planned", "result", "runs", "show", "spread"]


def show(console: Console, *renderables: Table | str) -> None:
    for each in renderables:
        console.print(each, highlight=False, soft_wrap=isinstance(each, str))


def result(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> list[Table]:
    """One table a task: languages × metrics, mean, gap to English; with a baseline, its scores and
    differences.
    """
    tables = []
    for name, entry in metrics["tasks"].items():
        scored = entry["languages"]
        names = list(
            dict.fromkeys(key for scores in scored.values() for key in scores if key != "n")
        )
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
            row = [
                language,
                *(f"{scores[key]:.2f}" if key in scores else "" for key in names),
                str(scores["n"]),
            ]
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
                rest = [
                    scores[entry["metric"]]
                    for language, scores in scored.items()
                    if language != "en"
                ]
                others = sum(rest) / len(rest)
                notes.insert(
                    0, f"English {english:.2f}, others {others:.2f}, gap {english - others:.2f}"
                )
        if "layer" in entry:
            notes.insert(0, f"mean-pooled hidden state {entry['layer']}")
        table.caption, table.caption_justify = "\n".join(notes), "left"
        tables.append(table)
        if "layers" in entry:
            tables.append(_layers(name, entry))
    return tables


def _layers(name: str, entry: Mapping[str, Any]) -> Table:
    """Every layer's score: analysis, never a choice of the layer that is reported."""
    languages = list(entry["languages"])
    table = Table(
        title=f"{name} by layer · {entry['metric']}",
        title_justify="left",
        caption_justify="left",
        caption="analysis: the reported layer is fixed by rule, not chosen here",
    )
    for column in ("layer", *languages, "mean"):
        table.add_column(column, justify="right")
    for layer, scores in entry["layers"].items():
        mean = sum(scores.values()) / len(scores)
        mark = " *" if int(layer) == entry["layer"] else ""
        table.add_row(
            layer + mark, *(f"{scores[language]:.2f}" for language in languages), f"{mean:.2f}"
        )
    return table


def spread(summary: Mapping[str, Any]) -> list[Table]:
    """One table a task over seeds: mean and t-interval of every language and, with a baseline, the
    difference.
    """
    tables = []
    for name, entry in summary["tasks"].items():
        count = len(entry["score"]["seeds"])
        table = Table(
            title=f"{name} · {entry['split']} · {entry['metric']} over {count} seeds",
            title_justify="left",
        )
        differs = "difference" in entry["score"]
        for column in (
            "language",
            "mean",
            "95 % t-interval",
            *(("difference", "verdict") if differs else ()),
        ):
            table.add_column(
                column, justify="left" if column in ("language", "verdict") else "right"
            )
        rows = [*entry["languages"].items(), ("mean", entry["score"])]
        for language, found in rows:
            if language == "mean":
                table.add_section()
            row = [language, f"{found['mean']:.2f}", _between(found["interval"])]
            if "difference" in found:
                difference = found["difference"]
                row += [
                    f"{difference['mean']:+.2f} ({_between(difference['interval'])})",
                    difference["verdict"],
                ]
            table.add_row(*row)
        table.caption = (
            "intervals cover the choice of the seed, not that of the rows; one with 0 in it is"
            " inconclusive"
        )
        table.caption_justify = "left"
        tables.append(table)
    return tables


def _between(found: Mapping[str, Any] | None) -> str:
    return f"{found['low']:.2f} to {found['high']:.2f}" if found else "one seed"


def cost(run: Path) -> list[str]:
    """A line a task on what predicting cost, from a run's provenance."""
    spent = read_json(run / "provenance.json").get("inference", {})
    lines = []
    for name, by in spent.items():
        inputs, seconds = (
            sum(each["inputs"] for each in by.values()),
            sum(each["seconds"] for each in by.values()),
        )
        cached = sum(each["from_cache"] for each in by.values())
        what = "sentences" if tasks.load(name).format == "retrieve" else "inputs"
        rate = inputs / max(seconds, 1e-9)
        lines.append(
            f"{name}: {inputs:,} {what} in {seconds:.1f} s ({rate:,.0f} {what}/s), peak memory "
            f"{max(each['peak_memory_bytes'] for each in by.values()) / 2**30:.2f} GiB"
            + (f"; embeddings of {cached} languages from the cache" if cached else "")
        )
    return lines


def _mean(values: Any) -> str:
    found = [value for value in values if value is not None]
    return f"{sum(found) / len(found):.2f}" if found else ""


def listed(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in ("rows", "train", "examples", "score", "n") else "left",
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def planned(plan: Any, have: Mapping[str, bool]) -> Table:
    """What a plan would do: one line a run."""
    rows = [
        (
            str(module),
            module.id,
            "training",
            "in the store" if have[module.id] else "would train",
            (
                f"lr {module.run.hyper.lr:g}, {module.run.hyper.epochs:g} epochs, {module.run.bits}"
                f" bits, {module.run.dtype}"
            ),
        )
        for module in plan.modules
    ]
    languages = "; ".join(
        f"{task} {split}: {', '.join(plan.evaluation.files[task])}"
        for task, split in plan.evaluation.splits.items()
    )
    rows.append(
        (
            plan.task,
            plan.evaluation.id,
            "evaluation",
            "in the store" if have[plan.evaluation.id] else "would score",
            languages,
        )
    )
    return listed("plan (nothing was run)", ("run", "id", "kind", "state", "what"), rows)


def runs(paths: Sequence[Path]) -> Table:
    """The runs of a store, newest first."""
    rows = []
    for path in paths:
        spec, metrics = read_json(path / "spec.json"), read_json(path / "metrics.json")
        method = spec["run"]["method"] if spec["run"] else "none"
        between = "+" if spec["run"] and spec["run"]["compose"] == "fuse" else ">"
        below = between.join(parent["task"] for parent in spec["parents"])
        stack = ">".join(
            [*([below] if below else []), *([spec["module"]["task"]] if spec["module"] else [])]
        )
        rows.append(
            (
                path.parent.name,
                path.name,
                spec["kind"],
                method,
                stack or "bare",
                spec["backbone"]["name"],
                spec["data"],
                "" if metrics["score"] is None else f"{metrics['score']:.2f}",
            )
        )
    return listed(
        "runs", ("task", "id", "kind", "method", "stack", "backbone", "data", "score"), rows
    )


def checked(rows: Sequence[Sequence[Any]]) -> Table:
    return listed(
        "data",
        (
            "task",
            "split",
            "language",
            "rows",
            "usable",
            "labels or answers",
            "length median/max",
            "unfit",
        ),
        rows,
    )
