"""A study's record as sections of the page: question and answer, tables, figures, costs, failures.

A record that has no tables and figures of its own (one of `xtl compare`) gets those that its rows
give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters_xtl.pages import page_study_rows
from adapters_xtl.pages.page_parts import (
    Answer,
    Cell,
    Column,
    Command,
    Facts,
    Grid,
    Listing,
    Part,
    Row,
    Section,
    Text,
)
from adapters_xtl.pages.page_record import Contrast, StudyRecord
from adapters_xtl.pages.page_run_cards import without_places
from adapters_xtl.pages.page_tables import cost_table, plot, table
from adapters_xtl.pages.page_values import joined, point_text, texts, value_text
from adapters_xtl.pages.table_text import one_line

__all__ = ["run_names", "study_sections", "title_of"]


def title_of(record: StudyRecord) -> str:
    """The question; without one what the record calls itself."""
    return one_line(record.question or record.title or record.study or "Study")


def run_names(record: StudyRecord) -> list[str]:
    """`task/id` of every run that the record names: those that scored, then those that trained."""
    scored = [run.run for row in record.rows for run in row.runs]
    trained = [run.module for row in record.rows for run in row.runs if run.module]
    return list(dict.fromkeys([*scored, *trained]))


def study_sections(record: StudyRecord, prefix: str) -> list[Section]:
    """The sections of one study; their ids begin with `prefix`."""
    heat = [figure for figure in record.figures if figure.kind == "heatmap"]
    others = [figure for figure in record.figures if figure.kind != "heatmap"]
    results: list[Part] = [
        plot(figure, prefix=prefix) for figure in heat or page_study_rows.heat_maps(record)
    ]
    results += [
        table(content, prefix=prefix)
        for content in record.tables or page_study_rows.score_tables(record)
    ]
    memory = (
        []
        if any(figure.kind == "scatter" for figure in others)
        else page_study_rows.memory_plots(record)
    )
    bars = (
        []
        if any(page_study_rows.is_of_languages(figure) for figure in others)
        else page_study_rows.language_bars(record)
    )
    languages = [plot(figure, prefix=prefix) for figure in bars]
    costs = cost_table(page_study_rows.costs(record), name=f"{prefix}-cost-table")
    contents: list[tuple[str, str, str, Sequence[Part | None]]] = [
        ("answer", "Answer" if record.answer else "Evidence", "", [_answer(record)]),
        ("asked", "What was asked", "Asked", _asked(record, prefix)),
        ("results", "Results", "", results),
        ("figures", "Figures", "", [plot(figure, prefix=prefix) for figure in others]),
        ("differences", "Differences", "", [_contrasts(record, prefix)]),
        ("languages", "Languages", "", languages),
        (
            "memory",
            "Score against memory and bytes",
            "Memory",
            [plot(figure, prefix=prefix) for figure in memory],
        ),
        ("cost", "Cost", "", [costs]),
        ("failed", "Failed and missing cells", "Failed", [_failures(record)]),
        (
            "notes",
            "Notes",
            "",
            [_notes(record), page_study_rows.published_table(record, f"{prefix}-published")],
        ),
    ]
    sections = []
    for name, title, short, parts in contents:
        kept = tuple(part for part in parts if part is not None)
        if kept:
            sections.append(Section(f"{prefix}-{name}", title, kept, short=short))
    return sections


# ---------------------------------------------------------------------------- question, answer


def _answer(record: StudyRecord) -> Answer | None:
    evidence = tuple(texts(record.evidence.get("for")))
    no_evidence = tuple(texts(record.evidence.get("not_for"))) or record.no_evidence
    answer = record.answer
    limits = [
        limit for limit in texts(answer.limits if answer else None) if limit not in no_evidence
    ]
    if answer is None and not evidence and not no_evidence:
        return None
    return Answer(
        headline=joined(answer.headline) if answer else "",
        verdict=joined(answer.verdict) if answer else "",
        exception=joined(answer.exception) if answer else "",
        limits="; ".join(map(one_line, limits)),
        evidence=evidence,
        no_evidence=tuple(no_evidence),
    )


def _asked(record: StudyRecord, prefix: str) -> list[Part]:
    states = [cell.state for cell in record.cells]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    pairs = [
        ("study", " ".join(filter(None, (record.study or record.kind, record.id)))),
        *((f"axis: {axis.name}", ", ".join(map(value_text, axis.values))) for axis in record.axes),
        ("tasks", ", ".join(record.tasks)),
        ("seeds", ", ".join(map(str, record.seeds))),
        (
            "backbone",
            f"{record.backbone.name}, fingerprint {record.backbone.fingerprint[:12]}"
            if record.backbone.name
            else "",
        ),
        ("data", record.data),
        ("protocol", record.protocol),
        ("device", record.device),
        ("intervals", f"{record.level:.0%}, over seeds"),
        ("tuned", _tuned(record.tuning)),
        ("cells", f"{len(states)}: {counts}" if states else ""),
    ]
    parts: list[Part] = [Facts(tuple((name, one_line(text)) for name, text in pairs if text))]
    if record.title and record.title != title_of(record):
        parts.insert(0, Text((record.title,)))
    if record.command:
        line = without_places(record.command)
        masked = " DIR stands for a directory." if line != record.command else ""
        parts.append(Command(line, f"The command that made this study.{masked}"))
    settings = page_study_rows.settings_table(record, f"{prefix}-settings")
    if settings is not None:
        parts.append(settings)
    return parts


def _tuned(tuning: Any) -> str:
    if not isinstance(tuning, Mapping):
        return ""
    trials, seeds = tuning.get("trials"), tuning.get("seeds")
    if not isinstance(trials, Mapping):
        return ""
    parts = [
        f"{method}: " + " | ".join(point_text(values) for values in choices)
        for method, choices in trials.items()
        if isinstance(choices, list)
    ]
    return "; ".join(parts) + (f"; seeds {joined(seeds)}" if seeds else "")


def _contrasts(record: StudyRecord, prefix: str) -> Grid | None:
    if not record.contrasts:
        return None
    headings = ("difference", "seeds", "verdict", "p", "p after Holm", "after Holm")
    words = {"verdict", "after Holm"}
    return Grid(
        name=f"{prefix}-contrasts",
        title="Contrasts, paired over seeds",
        columns=(
            Column("contrast", numeric=False),
            *(Column(heading, numeric=heading not in words) for heading in headings),
        ),
        rows=tuple(_contrast(contrast) for contrast in record.contrasts),
        notes=(
            "difference: the first minus the second, in points, with its interval over seeds",
            "▲ higher, ▼ lower: the interval of the difference excludes 0",
        ),
    )


def _contrast(contrast: Contrast) -> Row:
    bounds = contrast.bounds
    seeds = contrast.seeds if isinstance(contrast.seeds, list | tuple) else ()
    verdict = str(contrast.verdict or "")
    sides = _sides(contrast.of, contrast.against)
    difference = Cell("–", note="no number")
    if contrast.mean is not None:
        difference = Cell(
            f"{contrast.mean:+.2f}",
            contrast.mean,
            interval=f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]" if bounds else "",
            note="one seed" if len(seeds) == 1 else "",
            verdict=verdict,
        )
    return Row(
        Cell(one_line(contrast.name) or sides, note=sides if contrast.name else ""),
        (
            difference,
            Cell(", ".join(map(str, seeds)) or "–", float(len(seeds))),
            Cell(verdict or "–"),
            _probability(contrast.p),
            _probability(contrast.p_holm),
            Cell(str(contrast.holm or "–")),
        ),
    )


def _sides(of: Any, against: Any) -> str:
    """The two points of a contrast, by the axes in which they differ."""
    if isinstance(of, Mapping) and isinstance(against, Mapping):
        axes = [name for name in of if of[name] != against.get(name)] or list(of)
        of = {name: of[name] for name in axes}
        against = {name: against.get(name) for name in axes}
    return f"{point_text(of)} against {point_text(against)}"


def _probability(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.3g}", value)


def _failures(record: StudyRecord) -> Listing | None:
    """The cells that are not done, with their errors."""
    entries = [
        (f"{point_text(cell.point)} ({cell.state})", "\n".join(map(_failure, cell.failures)))
        for cell in record.cells
        if cell.state != "done" or cell.failures
    ]
    if not any(cell.failures for cell in record.cells):
        entries += [(_failed_run(failure), _failure(failure)) for failure in record.failed]
    entries += [(f"{task} (left out)", joined(why)) for task, why in record.left_out.items()]
    return Listing(tuple(entries), tone="bad") if entries else None


def _failure(failure: Any) -> str:
    return str(failure.get("error", failure)) if isinstance(failure, Mapping) else str(failure)


def _failed_run(failure: Any) -> str:
    if not isinstance(failure, Mapping):
        return "run"
    parents = failure.get("parents") or ()
    on = f" on {'>'.join(map(str, parents))}" if isinstance(parents, list) and parents else ""
    seed = f", seed {failure['seed']}" if "seed" in failure else ""
    return f"{failure.get('task', 'run')}, {failure.get('method', '')}{on}{seed}"


def _notes(record: StudyRecord) -> Text | None:
    notes = [note for note in record.notes if note not in record.no_evidence]
    return Text(tuple(map(one_line, notes)), tone="note") if notes else None
