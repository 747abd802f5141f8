"""Does the language that an intermediate task, or the target task itself, is trained in matter?

Every source language trains on the same items, where its task's rows are translations of each
other, else on equally many rows, and on as many steps. The axis `on` says whose language varies:
with an intermediate task its own, and the target is trained on its English rows; with `none` that
of the target task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.base.statistics import Difference, paired
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import LEVEL, FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.studies._source_language_groups import (
    ENGLISH,
    Group,
    groups,
    groups_of,
    left_out,
    trained_task,
)
from adapters_xtl.studies._source_language_tables import distance_figure, origin, training_table
from adapters_xtl.tasks import BACK_TRANSLATED

__all__ = ["STUDY"]

UNSEEN = "unseen languages"  # the column of the headline: languages that no condition trains in


class SourceLanguage(Study):
    title = "Source language"
    question = (
        "Does a task, intermediate or target, transfer better to languages without training rows"
        " when it is trained in another language than English?"
    )
    axes = (
        Axis("task", ("xnli",)),
        Axis("on", ("none", "mnli")),
        Axis("source", ("en", "de", "ar", "zh", "hi", "sw")),
        Axis("method", ("lora",)),
    )
    complete_axes = ("task", "on", "source")
    evidence_for = (
        "the difference between training in each language and in English, on the same items"
        " (equally many rows, where a task's rows are no translations of each other), for equally"
        " many steps",
    )
    no_evidence = (
        "what rows that people wrote in a language would give, where its train rows are machine"
        " translations (the source en-bt, English translated and translated back, shows what"
        " translation costs)",
        "the source language alone as the cause: the backbone was pretrained on more text of some"
        " languages than of others",
        "an effect of the distance between languages: it comes from a small table of family, script"
        " and word order, and the pairs of languages in the scatter plot are not independent",
    )
    to_know = (
        "headline scores are means over the languages that no condition trains in, English left out"
        " too",
        "the rows that choose a checkpoint are in the language of its training",
    )

    # --- cells

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cell of a point; none where the task whose language varies has no rows in it."""
        chain, source = grid_options.chain(point["on"]), point["source"]
        trainable = [name for name in tasks.names() if tasks.load(name).train_in]
        every = sorted({code for name in trainable for code in tasks.load(name).train_in})
        if len(chain) > 1 or (chain and chain[0] not in trainable):
            problems.add(
                f"[axes] on: '{clipped(point['on'])}': takes none or one task with train rows in"
                f" other languages{nearest(point['on'], trainable)}"
            )
            return ()
        if source not in every:
            problems.add(
                f"[axes] source: no task has train rows in '{clipped(source)}'"
                f"{nearest(source, every)}"
            )
            return ()
        if source not in tasks.load(trained_task(point["task"], point["on"])).train_in:
            return ()
        return tuple(
            Cell(point["task"], variant, chain, tuple({**point, "method": str(variant)}.items()))
            for variant in self.variants(point, bits, problems)
        )

    def together(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """Each cell with its source language, matched with those of the cells beside it."""
        sources_of = {tuple(group.place.items()): group.sources for group in groups(cells)}
        finished = []
        for cell in cells:
            place = dict(cell.point)
            source = place.pop("source")
            settings = (
                ("train.languages", (source,)),
                ("train.matched", sources_of[tuple(place.items())]),
            )
            finished.append(
                replace(cell, parent_overrides=settings)
                if cell.chain
                else replace(cell, overrides=settings)
            )
        return tuple(finished)

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """Each source against English and, where it is there, against back-translated English; all
        contrasts of the study are one family.
        """
        leave_out = left_out(cells)
        contrasts = []
        for group in groups(cells):
            baselines = [code for code in (ENGLISH, BACK_TRANSLATED) if code in group.sources]
            for source in group.sources:
                for baseline in baselines[: baselines.index(source) if source in baselines else 2]:
                    contrasts.append(
                        Contrast(
                            f"{source} against {baseline}, {group.title}",
                            group.point(source),
                            group.point(baseline),
                            leave_out=leave_out,
                        )
                    )
        return tuple(contrasts)

    # --- what is shown

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """For each task and intermediate task: source × evaluation language; what each source was
        trained on; and, where tasks differ in it, native rows against translated ones.
        """
        tables = []
        for group in groups_of(finished):
            tables += [self._by_language(finished, group), training_table(finished, group)]
        natives = self._native_against_translated(finished)
        return (*tables, *([natives] if natives else []))

    def _by_language(self, finished: FinishedCells, group: Group) -> Table:
        points = [group.point(source) for source in group.sources]
        languages = finished.languages(points)
        leave_out = left_out([cell.cell for cell in finished.cells])
        has_english = ENGLISH in group.sources
        lines = []
        for source in sorted(group.sources, key=lambda code: code != ENGLISH):
            point = group.point(source)
            if source == ENGLISH or not has_english:
                entries = [finished.score(point, leave_out)]
                entries += [finished.language_score(point, code) for code in languages]
            else:
                english = group.point(ENGLISH)
                entries = [finished.difference(point, english)]
                entries += [
                    finished.language_difference(point, english, code) for code in languages
                ]
            is_difference = has_english and source != ENGLISH
            lines.append(Line(source, tuple(entries), difference=is_difference))
        notes = (
            f"{UNSEEN}: the mean over the languages that no condition trains in, all but"
            f" {', '.join(leave_out)}; where a column is a line's own source, the training was in"
            " the language that is scored",
        )
        return finished.finish_table(
            Table(
                f"sources-{group.name}",
                f"{group.title}: scores, and differences to English",
                "source \\ scored in",
                (UNSEEN, *languages),
                tuple(lines),
                notes,
            )
        )

    def _native_against_translated(self, finished: FinishedCells) -> Table | None:
        """For a language whose rows one task has translated and another native: how much more, or
        less, the translated ones lose against that task's English.
        """
        leave_out = left_out([cell.cell for cell in finished.cells])
        lines = []
        groups = [group for group in groups_of(finished) if ENGLISH in group.sources]
        for group in groups:
            for other in groups:
                if any(group.place[axis] != other.place[axis] for axis in ("task", "method")):
                    continue
                for source in group.others:
                    kinds = [origin(side.trained, source) for side in (group, other)]
                    if kinds == ["translated", "native"] and source in other.sources:
                        losses = [
                            _difference_by_seed(finished, side, source, leave_out)
                            for side in (group, other)
                        ]
                        entry = _entry(paired(losses[0], losses[1], LEVEL, margin=self.margin))
                        label = (
                            f"{source}: {group.trained} (translated) - {other.trained} (native),"
                            f" {group.place['task']}, {group.place['method']}"
                        )
                        lines.append(Line(label, (entry,), difference=True))
        if not lines:
            return None
        return Table(
            "native-against-translated",
            "Translated against native rows of the same language",
            "language and tasks",
            ("difference of the differences to English",),
            tuple(lines),
            (
                "the two tasks differ in more than the origin of their rows: each is held against"
                " its own English first",
            ),
        )

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """For each task and intermediate task a heat map of the differences to English, and those
        differences against the distance between languages.
        """
        figures = []
        for group in groups_of(finished):
            table = self._by_language(finished, group)
            lines = tuple(line for line in table.lines if line.difference)
            if not lines:
                continue
            heights = Table(table.name, table.title, table.corner, table.columns, lines)
            figures.append(
                Figure(
                    f"heatmap-{group.name}",
                    "heatmap",
                    f"{group.title}: differences to English",
                    "scored in",
                    "source",
                    heights,
                    caption=(
                        "Points gained over the same training in English. Hatched: the interval"
                        " over seeds includes 0, or there is one seed."
                    ),
                )
            )
            figures.append(distance_figure(finished, group))
        return tuple(figures)

    def answer(self, finished: FinishedCells) -> Answer | None:
        """The mean of all source languages against English, in languages that none is."""
        summary = finished.summary_of_contrasts(self.no_evidence)
        average = _average(finished, self.margin)
        if summary is None or average is None:
            return None
        difference, count = average
        bounds = difference.interval
        interval = f" [{bounds.low:+.2f}, {bounds.high:+.2f}]" if bounds else " (one seed)"
        against = [
            result.difference.mean
            for result in finished.contrasts
            if result.difference and dict(result.contrast.against)["source"] == ENGLISH
        ]
        best, least = max(against), min(against)
        headline = (
            f"another source language against English, in languages that no condition is trained"
            f" in, mean of {count}: {difference.mean:+.2f} points{interval}; single ones from"
            f" {least:+.2f} to {best:+.2f}."
            f" {summary.headline[:1].upper()}{summary.headline[1:]}"
        )
        return Answer(headline, difference.verdict, summary.exception, summary.limits)


def _difference_by_seed(
    finished: FinishedCells, group: Group, source: str, leave_out: Sequence[str]
) -> dict[int, float]:
    """Seed → the source's score minus English's."""
    of = finished.scores(group.point(source), leave_out)
    english = finished.scores(group.point(ENGLISH), leave_out)
    return {seed: of[seed] - english[seed] for seed in of if seed in english}


def _differences(finished: FinishedCells) -> Iterator[dict[int, float]]:
    leave_out = left_out([cell.cell for cell in finished.cells])
    for group in groups_of(finished):
        if ENGLISH in group.sources:
            for source in group.others:
                by_seed = _difference_by_seed(finished, group, source, leave_out)
                if by_seed:
                    yield by_seed


def _average(finished: FinishedCells, margin: float) -> tuple[Difference, int] | None:
    """(the mean over all sources and groups of the differences to English, their number); None
    without one.
    """
    by_source = list(_differences(finished))
    if not by_source:
        return None
    seeds = set.intersection(*map(set, by_source))
    means = {seed: sum(by[seed] for by in by_source) / len(by_source) for seed in seeds}
    difference = paired(means, dict.fromkeys(seeds, 0.0), LEVEL, margin=margin)
    return (difference, len(by_source)) if difference else None


def _entry(difference: Difference | None) -> Entry:
    if difference is None:
        return Entry(note="no seed in common")
    bounds = difference.interval
    if bounds is None:
        return Entry(difference.mean, note="one seed")
    return Entry(difference.mean, bounds.low, bounds.high, difference.verdict)


STUDY = SourceLanguage()
