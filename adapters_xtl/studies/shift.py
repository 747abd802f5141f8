"""Domain shift: does a model lose less outside the domain of its target training when it was
trained on an intermediate task first?

A difference of differences: the drop from in-domain to out-of-domain rows with the intermediate
task, minus the same drop without. A pair of row sets has one language and one label set, and one
trained module is scored on both; which rows are of which domain, a task's file says
(`Task.in_domain_task`). Where the in-domain task lacks the language (AmericasNLI), the pair goes
from its English rows to another language: a shift of language, which stands in a row of its own and
counts in no mean of domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, RequestError
from adapters_xtl.base.statistics import UNLIMITED, Difference, interval, paired
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Axis, Cell
from adapters_xtl.grid.finished_cells import LEVEL, FinishedCells
from adapters_xtl.grid.results import Entry, Figure, Line, Point, Series, Table
from adapters_xtl.grid.study import Answer, Contrast, Study
from adapters_xtl.planning.compositions import SELF
from adapters_xtl.studies._shift_answer import answer_of
from adapters_xtl.studies._shift_pairs import (
    ALL_GENRES,
    IN,
    OTHER_GENRES,
    OUT,
    Shift,
    check_point,
    contrast_of,
    drops_by_seed,
    in_domain_task_of,
    other_metrics,
    relative_drops,
    shifts_in,
    shifts_of,
    train_repos,
    trained_genres,
)
from adapters_xtl.tasks import TOGETHER

__all__ = ["STUDY"]


class DomainShift(Study):
    title = "Domain shift"
    question = (
        "Does a model lose less outside the domain of its target training after an intermediate"
        " task?"
    )
    axes = (
        Axis(
            "task",
            ("squadshifts", "mnli_genres", "gum", "ewt", "masakhaner", "m2qa", "americasnli"),
        ),
        Axis("on", (grid_options.NO_PARENTS, "mnli", "squad2", SELF)),
        Axis("method", ("lora",)),
        Axis("language", ("en", "de", "tr", "zh", "sw", "yo", "quy")),
        Axis(
            "domain",
            (
                *("new_wiki", "nyt", "reddit", "amazon"),
                *("facetoface", "letters", "nineeleven", "oup", "verbatim"),
                *("academic", "bio", "interview", "voyage", "whow"),
                *("weblog", "newsgroup", "email", "reviews", "answers"),
                *("news", "product_reviews", "creative_writing", "americas"),
            ),
        ),
        Axis("genres", (OTHER_GENRES,)),
        Axis("side", (IN, OUT)),
    )
    complete_axes = ("task", "on", "language", "domain")
    evidence_for = (
        "whether the drop from in-domain to out-of-domain test rows is smaller or larger after an"
        " intermediate task, for one language and label set at a time, with the same training of"
        " the target",
    )
    no_evidence = (
        "the domain as the cause of a drop: in-domain and out-of-domain test sets also differ in"
        " annotators, guidelines, difficulty and origin (translated or native text, automatic or"
        " manual labels). These differences are the same with and without the intermediate task,"
        " but an intermediate task may act on them",
        "the intermediate task as the cause: it adds training steps and rows of its own domain."
        " Compare its change with that under on = self (same number of extra steps); the study"
        " tests neither against the other",
        "effective robustness (Taori et al. 2020): neither drop is corrected for chance, nor for"
        " the usual relation between in-domain and out-of-domain scores",
        "texts that are new to the backbone: what it read before, of either domain, is unknown",
    )
    to_know = (
        "a difference below 0: the drop is smaller with the intermediate task",
        "a model that scores more in its domain has more to lose: beside the drop in points stands"
        " the drop in per cent of the in-domain score, which has no margin of equivalence",
        "the mean for an intermediate task weighs the target tasks alike, however many domains and"
        " languages each has, and averages points of F1 and of accuracy",
        "the means are the main result and are not corrected for multiple testing; Holm's"
        " correction applies to the single contrasts",
        "with few seeds and many contrasts Holm's correction leaves only effects of several"
        " standard deviations: that none remains significant does not mean that there is no effect",
        "where a task's train rows name their genre, a training leaves out the genre that is scored"
        " as the other domain (genres = others), or is on chosen genres; in-domain rows are then"
        " those of the genres that it is on",
        "the domains of a task share its in-domain rows, or most of them, so that their contrasts"
        " are correlated",
        "all training is in English: in other languages the in-domain scores are zero-shot too",
        "points whose intermediate task has the target's own train rows are left out, also where it"
        " has them among others (SQuAD 2.0 has SQuAD 1.1's); on = self stays, as the control for"
        " the steps",
        "new rows of the training's own domain (squadshifts new_wiki) are a control for what"
        " another sample costs, and count in no mean",
        "a line from English to another language shows a shift of language, not of domain: it has a"
        " mean of its own",
    )

    # --- cells

    def cell(
        self, point: Mapping[str, str], bits: Sequence[str], problems: Problems
    ) -> tuple[Cell, ...]:
        """The cell of a point; none for a domain or language that the task lacks, and none where
        an intermediate task has the target's own train rows.
        """
        check_point(point, problems)
        if problems.messages:
            return ()
        task, chain = tasks.load(point["task"]), grid_options.chain(point["on"])
        if point["domain"] not in task.domains or point["language"] not in task.all_languages:
            return ()
        if any(train_repos(name) & train_repos(task.name) for name in chain):
            return ()
        genres = trained_genres(point)
        if genres is None:
            return ()
        if point["genres"] == ALL_GENRES or not genres:
            point = {**point, "genres": ALL_GENRES}
        other_side = OUT if point["side"] == IN else IN
        scored, split, language = task, point["domain"], point["language"]
        if point["side"] == IN:
            scored = in_domain_task_of(task.name)
            split = TOGETHER.join(genres) or next(iter(scored.report))
            language = language if language in scored.all_languages else "en"
        # the target trained twice stays on the same genres, or it would know the other domain
        twice = [number for number, name in enumerate(chain, start=1) if name == SELF and genres]
        return tuple(
            Cell(
                scored.name,
                variant,
                chain,
                tuple({**point, "method": str(variant)}.items()),
                (("train.genres", genres),) if genres else (),
                languages=language,
                split=split,
                partner=tuple({**point, "method": str(variant), "side": other_side}.items()),
                parent_overrides=tuple((f"{number}:train.genres", genres) for number in twice),
            )
            for variant in self.variants(point, bits, problems)
        )

    def together(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells as they are. RequestError where one of the two sides is missing."""
        sides = {dict(cell.point)["side"] for cell in cells}
        if cells and sides != {IN, OUT}:
            raise RequestError(f"[axes] side: takes both, {IN} and {OUT}: a drop is between them")
        return tuple(cells)

    def contrasts(self, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
        """For each pair and intermediate task its drop minus that without; all contrasts of the
        study are one family.
        """
        points = {cell.point for cell in cells}
        contrasts = []
        for shift in shifts_in(cells):
            on = shift.place["on"]
            inside, outside = shift.point(IN), shift.point(OUT)
            none = grid_options.NO_PARENTS
            without = (shift.point(IN, on=none), shift.point(OUT, on=none))
            everything = {tuple(point.items()) for point in (inside, outside, *without)}
            if on != none and everything <= points:
                name = f"drop on {on} minus drop on none, {shift.label}, {shift.place['method']}"
                contrasts.append(Contrast(name, inside, outside, minus=without))
        return tuple(contrasts)

    # --- what is shown

    def tables(self, finished: FinishedCells) -> tuple[Table, ...]:
        """For each method the scores and drops, and the changes of the drops by the intermediate
        tasks: absolute, relative, and in the task's other metrics.
        """
        tables = []
        for method in finished.axis("method"):
            shifts = shifts_of(finished, method)
            tables += [_drops(finished, method, shifts), self._changes(finished, method, shifts)]
        return tuple(table for table in tables if table.lines)

    def _changes(self, finished: FinishedCells, method: str, shifts: Sequence[Shift]) -> Table:
        changed = [shift for shift in shifts if contrast_of(finished, shift) is not None]
        metrics = list(
            dict.fromkeys(name for shift in changed for name in other_metrics(finished, shift))
        )
        lines = []
        for shift in changed:
            without = Shift({**shift.place, "on": grid_options.NO_PARENTS})
            relative = paired(
                relative_drops(finished, shift),
                relative_drops(finished, without),
                LEVEL,
                limits=UNLIMITED,  # a score can be many times another
            )
            others = [
                _entry(
                    paired(
                        drops_by_seed(finished, shift, metric),
                        drops_by_seed(finished, without, metric),
                        LEVEL,
                        margin=self.margin,
                    )
                )
                for metric in metrics
            ]
            absolute = finished.difference(shift.point(IN), shift.point(OUT))
            label = f"{shift.label}, {shift.place['on']}"
            lines.append(Line(label, (absolute, _entry(relative), *others), difference=True))
        return Table(
            f"changes-{file_part(method)}",
            f"Effect of an intermediate task on the drop, {method}",
            "test set, intermediate task",
            ("points", "relative", *metrics),
            tuple(lines),
            (
                "points: drop with the intermediate task minus drop without, in the task's headline"
                " metric; negative: the drop is smaller with the intermediate task. Relative: the"
                " same of the drops in per cent of the in-domain scores. The other columns: in"
                " points of those metrics",
                f"paired over the seeds, with {LEVEL:.0%} t-intervals; {finished.verdict_rule()};"
                " a relative change has no margin, and is never equivalent;"
                f" {finished.holm_rule()}, which stand in the column of points",
            ),
            decimals=2,
        )

    def figures(self, finished: FinishedCells) -> tuple[Figure, ...]:
        """For each method a dumbbell from in-domain to out-of-domain rows, and a forest plot of
        the changes of the drops.
        """
        figures = []
        for method in finished.axis("method"):
            shifts = shifts_of(finished, method)
            figures.append(
                Figure(
                    f"dumbbell-{file_part(method)}",
                    "dumbbell",
                    f"In-domain and out-of-domain scores, {method}",
                    "test set, intermediate task",
                    "score",
                    series=tuple(
                        Series(name, tuple(_dot(finished, shift, side) for shift in shifts))
                        for side, name in ((IN, "in-domain"), (OUT, "out-of-domain"))
                    ),
                    caption="Means over seeds. The bar from the dot to the square is the drop.",
                )
            )
            parents = [on for on in finished.axis("on") if on != grid_options.NO_PARENTS]
            series = [
                Series(
                    on,
                    tuple(
                        _forest_point(finished, shift)
                        for shift in shifts
                        if shift.place["on"] == on and contrast_of(finished, shift) is not None
                    ),
                )
                for on in parents
            ]
            if any(of_parent.points for of_parent in series):
                figures.append(
                    Figure(
                        f"forest-{file_part(method)}",
                        "forest",
                        f"Effect of an intermediate task on the drop, {method}",
                        "test set",
                        "drop with minus drop without, points",
                        series=tuple(of_parent for of_parent in series if of_parent.points),
                        caption=(
                            "Negative: the drop is smaller with the intermediate task."
                            f" {LEVEL:.0%} t-intervals over seeds, without Holm's correction."
                        ),
                    )
                )
        return tuple(figures)

    def answer(self, finished: FinishedCells) -> Answer | None:
        return answer_of(finished, self.no_evidence)


def file_part(method: str) -> str:
    """A method at a precision as part of a file's name."""
    return method.replace("@", "-")


# ------------------------------------------------------------------ entries, lines and dots


def _entry(difference: Difference | None) -> Entry:
    if difference is None:
        return Entry(note="not scored")
    bounds = difference.interval
    if bounds is None:
        return Entry(difference.mean, note="one seed")
    return Entry(difference.mean, bounds.low, bounds.high, difference.verdict)


def _mean_entry(by_seed: Mapping[int, float]) -> Entry:
    values = list(by_seed.values())
    if not values:
        return Entry(note="not scored")
    bounds = interval(values, LEVEL, limits=UNLIMITED)
    mean = sum(values) / len(values)
    return Entry(mean, bounds.low, bounds.high) if bounds else Entry(mean, note="one seed")


def _drops(finished: FinishedCells, method: str, shifts: Sequence[Shift]) -> Table:
    lines = tuple(
        Line(
            f"{shift.label}, {shift.place['on']}",
            (
                finished.score(shift.point(IN)),
                finished.score(shift.point(OUT)),
                _mean_entry(drops_by_seed(finished, shift)),
                _mean_entry(relative_drops(finished, shift)),
            ),
        )
        for shift in shifts
    )
    return Table(
        f"drops-{file_part(method)}",
        f"In-domain and out-of-domain scores, {method}",
        "test set, intermediate task",
        ("in-domain", "out-of-domain", "drop", "drop in %"),
        lines,
        (
            f"means over the seeds with {LEVEL:.0%} t-intervals; a drop is the in-domain score"
            " minus the out-of-domain one, in points and in per cent of the in-domain score",
        ),
    )


def _dot(finished: FinishedCells, shift: Shift, side: str) -> Point:
    entry = finished.score(shift.point(side))
    return Point(f"{shift.label}, {shift.place['on']}", entry.value, note=entry.note)


def _forest_point(finished: FinishedCells, shift: Shift) -> Point:
    entry = finished.difference(shift.point(IN), shift.point(OUT))
    return Point(shift.label, entry.value, entry.low, entry.high, entry.verdict, entry.note)


STUDY = DomainShift()
