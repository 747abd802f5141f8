"""Scores, runs and plans as tables on a terminal, from the JSON that runs wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl import formats, tasks
from adapters_xtl.runs.stored_runs import read_run

__all__ = ["checked", "cost", "intervals", "listed", "planned", "result", "spread"]


def result(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> list[Table]:
    """One table a task of a run's metrics: languages × metrics, their mean and the gap to English.

    With the metrics of a `baseline`, two more columns: its score and the difference to it.
    """
    tables = []
    for name, entry in metrics["tasks"].items():
        tables.append(_scores(name, entry, baseline["tasks"].get(name) if baseline else None))
        if "layers" in entry:
            tables.append(_layers(name, entry))
    return tables


def _scores(task: str, entry: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> Table:
    languages, headline = entry["languages"], entry["metric"]
    metric_names = list(
        dict.fromkeys(key for scores in languages.values() for key in scores if key != "n")
    )
    table = Table(title=f"{task} · {entry['split']}", title_justify="left", min_width=44)
    table.add_column("language")
    for key in metric_names:
        table.add_column(key + (" *" if key == headline else ""), justify="right")
    table.add_column("n", justify="right")
    if baseline:
        table.add_column(f"{headline} without", justify="right")
        table.add_column("difference", justify="right")
    for language, scores in languages.items():
        cells = [f"{scores[key]:.2f}" if key in scores else "" for key in metric_names]
        row = [language, *cells, str(scores["n"])]
        if baseline and language in baseline["languages"]:
            without = baseline["languages"][language][headline]
            row += [f"{without:.2f}", f"{scores[headline] - without:+.2f}"]
        table.add_row(*row)
    if len(languages) > 1:
        table.add_section()
        means = [_mean(scores.get(key) for scores in languages.values()) for key in metric_names]
        row = ["mean", *means, ""]
        if baseline:
            difference = entry["score"] - baseline["score"]
            row += [f"{baseline['score']:.2f}", f"{difference:+.2f}"]
        table.add_row(*row)
    chance = _chance(task, headline)
    if chance is not None:
        table.add_row(
            "chance", *(f"{chance:.2f}" if key == headline else "" for key in metric_names)
        )
    table.caption, table.caption_justify = "\n".join(_score_notes(task, entry)), "left"
    return table


def _chance(task: str, headline: str) -> float | None:
    """What guessing the labels comes to, for an accuracy over labels that the task names."""
    described = tasks.load(task)
    if headline != "accuracy" or described.members:
        return None
    return formats.load(described.format).chance(described.labels)


def _score_notes(task: str, entry: Mapping[str, Any]) -> list[str]:
    """What stands below a table of scores: the layer, the gap to English, what the task notes."""
    notes = []
    if "layer" in entry:
        notes.append(f"mean-pooled hidden state {entry['layer']}")
    scores = {
        code: scores_of_language[entry["metric"]]
        for code, scores_of_language in entry["languages"].items()
    }
    english = scores.pop("en", None)
    if english is not None and scores:
        others = sum(scores.values()) / len(scores)
        notes.append(f"English {english:.2f}, others {others:.2f}, gap {english - others:.2f}")
    notes += tasks.load(task).notes
    if chosen_on := entry.get("selected_on"):
        rows = sum(
            int(scores_of_language["n"]) for scores_of_language in entry["languages"].values()
        )
        which = "these rows" if chosen_on >= rows else f"{chosen_on:,} of these {rows:,} rows"
        notes.append(f"{which} also chose the checkpoint")
    return notes


def _layers(task: str, entry: Mapping[str, Any]) -> Table:
    """Every layer's score: analysis, never a choice of the layer that is reported."""
    languages = list(entry["languages"])
    table = Table(
        title=f"{task} by layer · {entry['metric']}",
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
    difference to it.
    """
    tables = []
    for name, entry in summary["tasks"].items():
        has_difference = "difference" in entry["score"]
        columns = ["language", "mean", "95 % t-interval"]
        columns += ["difference", "verdict"] if has_difference else []
        table = Table(
            title=(
                f"{name} · {entry['split']} · {entry['metric']} over"
                f" {len(entry['score']['seeds'])} seeds"
            ),
            title_justify="left",
            caption=(
                "intervals cover the choice of the seed, not that of the rows; a difference whose"
                " interval includes 0 is inconclusive"
            ),
            caption_justify="left",
        )
        for column in columns:
            left = column in ("language", "verdict")
            table.add_column(column, justify="left" if left else "right")
        for language, scores in [*entry["languages"].items(), ("mean", entry["score"])]:
            if language == "mean":
                table.add_section()
            row = [language, f"{scores['mean']:.2f}", _interval(scores["interval"])]
            if "difference" in scores:
                difference = scores["difference"]
                bounds = _interval(difference["interval"])
                row += [f"{difference['mean']:+.2f} ({bounds})", difference["verdict"]]
            table.add_row(*row)
        tables.append(table)
    return tables


def _interval(bounds: Mapping[str, Any] | None) -> str:
    return f"{bounds['low']:.2f} to {bounds['high']:.2f}" if bounds else "one seed"


def intervals(
    metrics: Mapping[str, Any],
    by_task: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> list[Table]:
    """One table a task of 95 % intervals.

    `by_task`: task → language → metric → (low, high).
    """
    tables = []
    for name, by_language in by_task.items():
        headline = metrics["tasks"][name]["metric"]
        names = list(dict.fromkeys(key for bounds in by_language.values() for key in bounds))
        table = Table(title=f"{name} · 95 % intervals", title_justify="left", min_width=44)
        table.add_column("language")
        for key in names:
            table.add_column(key + (" *" if key == headline else ""), justify="right")
        for language, bounds in by_language.items():
            cells = [
                f"{bounds[key][0]:.2f} to {bounds[key][1]:.2f}" if key in bounds else ""
                for key in names
            ]
            table.add_row(language, *cells)
        tables.append(table)
    return tables


def cost(run: Path) -> list[str]:
    """A line a task on what predicting cost, from a run's provenance."""
    inference = read_run(run).provenance.inference
    lines = []
    for name, by_language in inference.items():
        inputs = sum(spent.inputs for spent in by_language.values())
        seconds = sum(spent.seconds for spent in by_language.values())
        cached = sum(spent.from_cache for spent in by_language.values())
        peak = max(spent.measured_peak_bytes for spent in by_language.values())
        rate = inputs / max(seconds, 1e-9)
        lines.append(
            f"{name}: {inputs:,} inputs in {seconds:.1f} s ({rate:,.0f} inputs/s), peak memory"
            f" measured {peak / 2**30:.2f} GiB"
            + (f"; embeddings of {cached} languages from the cache" if cached else "")
        )
    return lines


def _mean(values: Iterable[float | None]) -> str:
    present = [value for value in values if value is not None]
    return f"{sum(present) / len(present):.2f}" if present else ""


def listed(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A plain table; columns of numbers are known by their names."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in ("rows", "train", "examples", "score", "n") else "left",
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def planned(plan: Any, stored: Mapping[str, bool]) -> Table:
    """What a plan would do, a line a run. `stored`: run id → whether the store has it."""
    rows = [
        (
            str(module),
            module.id,
            "training",
            "in the store" if stored[module.id] else "would train",
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
            "in the store" if stored[plan.evaluation.id] else "would score",
            languages,
        )
    )
    return listed("plan (nothing was run)", ("run", "id", "kind", "state", "what"), rows)


def checked(rows: Sequence[Sequence[Any]]) -> Table:
    """The table of `xtl data check`: a row for each task, split and language."""
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
