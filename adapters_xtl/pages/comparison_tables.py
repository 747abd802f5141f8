"""A comparison as terminal tables: scores and averages, published figures, the runs to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

__all__ = ["ahead", "failed", "published", "size", "table"]

_COLUMNS = (
    "task",
    "method",
    "on",
    "settings",
    "score",
    "gap to full",
    "trained",
    "stored",
    "measured\npeak",
    "training",
)
_AVERAGES = {
    "mean": "mean",
    "mean_without_retrieval": "without\nretrieval",
    "mean_retrieval": "retrieval",
}


def size(value: float | None, binary: bool = False) -> str:
    """`1.5 MB`: decimal units, as file sizes have them, or `1.5 MiB`."""
    if value is None:
        return "-"
    base, units = (1024, ("B", "KiB", "MiB", "GiB")) if binary else (1000, ("B", "kB", "MB", "GB"))
    power = 0
    while value >= base and power < 3:
        value, power = value / base, power + 1
    return f"{value:.3g} {units[power]}" if value < 1000 else f"{value:.0f} {units[power]}"


def _score(score: Mapping[str, Any]) -> str:
    bounds = score["interval"]
    return f"{score['mean']:.2f}" + (f"\n{bounds[0]:.2f}…{bounds[1]:.2f}" if bounds else "")


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return "-"
    bounds = gap["interval"]
    low_high = f"{_signed(bounds[0])}…{_signed(bounds[1])}" if bounds else "one seed"
    return f"{_signed(gap['mean'])}\n{low_high}\n{gap['verdict']}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def _settings(row: Mapping[str, Any]) -> str:
    if row["settings"] != "tuned":
        return f"{row['settings']}\nlr {row['hyper']['lr']:g}" if row["hyper"] else "-"
    return "\n".join(
        ["tuned", *(f"{key.partition('.')[2]} {value}" for key, value in row["tuned"].items())]
    )


def table(record: Mapping[str, Any]) -> list[Table | str]:
    """The one table, a section a task, then the averages; below it what to know before
    reading it.
    """
    rows = record["rows"]
    printed = Table(
        title=record["title"], title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in _COLUMNS:
        printed.add_column(
            name, justify="left" if name in _COLUMNS[:4] else "right", no_wrap=name in _COLUMNS[4:]
        )
    for task in dict.fromkeys(row["task"] for row in rows):
        for number, row in enumerate(row for row in rows if row["task"] == task):
            on = f"{'>'.join(row['parents'])}\n{row['composition']}" if row["parents"] else "-"
            method = "bare" if row["method"] == "none" else row["method"]
            printed.add_row(
                "" if number else f"{task}\n{row['metric']}\n{row['split']}",
                f"{method}\n{row['bits']} bits",
                on,
                _settings(row),
                _score(row["score"]),
                _gap(row["gap_to_full"]),
                _count(row["trainable_parameters"]),
                size(row["stored_bytes"]),
                size(row["peak_memory_bytes"], True),
                _training(row),
            )
        printed.add_section()
    for entry in record["averages"]:
        for name, words in _AVERAGES.items():
            if name in entry and (name == "mean" or entry[name]["mean"] != entry["mean"]["mean"]):
                printed.add_row(
                    words,
                    f"{entry['method']}\n{entry['bits'] or 'mixed'} bits",
                    ">".join(entry["parents"]) or "-",
                    "",
                    _score(entry[name]),
                    _gap(entry[name]["gap_to_full"]),
                    "",
                    "",
                    "",
                    "",
                )
    below = [_quantised(row) for row in rows if row["gap_to_unquantised"]] + record["notes"]
    below += [f"failed: {failed(failure)}" for failure in record["failed"]]
    return [printed, *(f"- {line}" for line in below)]


def _quantised(row: Mapping[str, Any]) -> str:
    gap = row["gap_to_unquantised"]
    on = f" on {'>'.join(row['parents'])}" if row["parents"] else ""
    difference = _gap(gap).replace("\n", ", ")
    return (
        f"{row['task']}, {row['method']}{on}: score at {row['bits']} bits minus score at"
        f" {gap['bits']} bits: {difference}"
    )


def _count(value: float) -> str:
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)


def _training(row: Mapping[str, Any]) -> str:
    """Seconds, examples a second and, where the device reports it, energy."""
    if row["seconds"] is None:
        return "-"
    parts = [f"{row['seconds']:,.3g} s" if row["seconds"] < 100 else f"{row['seconds']:,.0f} s"]
    if row["examples_per_second"]:
        parts.append(f"{row['examples_per_second']:.3g} ex/s")
    if row["energy_joules"] is not None:
        parts.append(f"{row['energy_joules'] / 1000:.3g} kJ")
    return "\n".join(parts)


def failed(failure: Mapping[str, Any]) -> str:
    on = f" on {'>'.join(failure['parents'])}" if failure["parents"] else ""
    return (
        f"{failure['task']}, {failure['method']}{on}, seed {failure['seed']} ({failure['kind']}):"
        f" {failure['error'].splitlines()[0]}"
    )


def published(record: Mapping[str, Any]) -> list[Table | str]:
    """Figures of the literature, with their marks; nothing when there is none on these tasks."""
    if not record["figures"]:
        return []
    marks = ", ".join(f"{mark} {words}" for mark, words in record["marks"].items())
    printed = Table(
        title=f"published ({record['note']})",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=marks,
        caption_justify="left",
    )
    for name in ("task", "metric", "value", "mark", "model", "split", "source"):
        printed.add_column(name, justify="right" if name == "value" else "left")
    for figure in record["figures"]:
        printed.add_row(
            figure["task"],
            figure["metric"],
            f"{figure['value']:.1f}",
            figure["mark"],
            figure["model"],
            figure["split"],
            figure["source"],
        )
    return [printed]


def ahead(runs: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> list[Table | str]:
    """The runs to come, a line each."""
    printed = Table(
        title="runs (nothing was run)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("run", "id", "kind", "seed", "settings", "state", "training", "tensors"):
        printed.add_column(
            name, justify="right" if name in ("seed", "training", "tensors") else "left"
        )
    for run in runs:
        values = ", ".join(
            f"{key.partition('.')[2]} {value}" for key, value in run["values"].items()
        )
        trains = run["kind"] not in ("evaluation", "analysis") and not run["state"].endswith(
            "in the store"
        )
        printed.add_row(
            f"{run['stack']}, {run['method']}, {run['bits']} bits",
            run["id"] or "-",
            run["kind"],
            str(run["seed"]),
            values or run["settings"],
            run["state"],
            _seconds(run["predicted_training_seconds"]) if trains else "-",
            size(run["planned_tensor_bytes"], True),
        )
    text = (
        f"{total['cells']} cells, {total['runs']} runs, {total['in_store']} of them in the store;"
        " training time of the rest, one after the other:"
        f" {_seconds(total['predicted_training_seconds'])}"
    )
    if not total["complete"]:
        text += " and more (for some the number of rows is not known)"
    if total["estimated"]:
        text += (
            f" ({total['estimated']} trainings are like no finished run on this machine: theirs is"
            " a rule of thumb)"
        )
    if total["planned_tensor_bytes"]:
        text += f"; largest peak of tensors: {size(total['planned_tensor_bytes'], True)}"
    if total["predicted_stored_bytes"]:
        text += f"; modules on disk: {size(total['predicted_stored_bytes'])}"
    if total["damaged"]:
        text += f"; damaged runs, whose cells fail: {total['damaged']} (see `xtl runs check`)"
    note = (
        "tensors: their planned bytes at the peak of a training on its longest inputs; the process"
        " and CUDA themselves come on top"
    )
    return [printed, text, note]


def _seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    if 0 < value < 1:
        return "under 1 s"
    hours, rest = divmod(round(value), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
