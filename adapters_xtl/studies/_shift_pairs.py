"""The pairs of row sets that the study of domain shift compares, and their drops seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapters_xtl import tasks
from adapters_xtl.base.errors import Problems, clipped, nearest
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Cell
from adapters_xtl.grid.finished_cells import ContrastResult, FinishedCells
from adapters_xtl.tasks import TOGETHER, Task

__all__ = [
    "ALL_GENRES",
    "IN",
    "OTHER_GENRES",
    "OUT",
    "Shift",
    "changes_by_seed",
    "check_point",
    "contrast_of",
    "drops_by_seed",
    "in_domain_task_of",
    "other_metrics",
    "relative_drops",
    "shift_at",
    "shifts_in",
    "shifts_of",
    "train_repos",
    "trained_genres",
]

IN, OUT = "in", "out"
# values of the axis `genres` beside names of genres: train rows of all, or of all but the domain's
ALL_GENRES, OTHER_GENRES = "all", "others"
# train rows → those that are among them
PART_OF = {
    "google/xtreme udpos.English": ("universal-dependencies/universal_dependencies en_ewt",),
    # Rajpurkar et al. 2018: unanswerable questions beside those of SQuAD 1.1
    "rajpurkar/squad_v2 squad_v2": ("rajpurkar/squad plain_text",),
}
BySeed = dict[int, float]


@dataclass(frozen=True)
class Shift:
    """A pair of row sets under one training: `place` holds the axes but `side`."""

    place: Mapping[str, str]

    def point(self, side: str, **other: str) -> dict[str, str]:
        return {**self.place, **other, "side": side}

    @property
    def of_language(self) -> bool:
        """Whether the two row sets differ in their language."""
        return self.place["language"] not in in_domain_task_of(self.place["task"]).all_languages

    @property
    def of_same_domain(self) -> bool:
        """Whether both row sets are of the training's own domain: what another sample costs."""
        return self.place["domain"] in tasks.load(self.place["task"]).same_domain

    @property
    def label(self) -> str:
        """The rows in words: "squadshifts nyt, en"."""
        start = "English to " if self.of_language else ""
        genres = self.place["genres"]
        trained = f" from {genres}" if genres not in (ALL_GENRES, OTHER_GENRES) else ""
        sample = " (same domain, new sample)" if self.of_same_domain else ""
        rows = f"{self.place['task']} {self.place['domain']}{trained}{sample}"
        return f"{rows}, {start}{self.place['language']}"


def check_point(point: Mapping[str, str], problems: Problems) -> None:
    """Adds what is wrong with the values of a point."""
    with_domains = [task for task in map(tasks.load, tasks.names()) if task.in_domain_task]
    allowed = {
        "task": [task.name for task in with_domains],
        "domain": sorted({domain for task in with_domains for domain in task.domains}),
        "language": sorted({code for task in with_domains for code in task.all_languages}),
        "side": [IN, OUT],
    }
    complaints = {
        "task": "is no task with rows of other domains",
        "domain": "no task has rows of this domain",
        "language": "no task has rows of other domains in this language",
        "side": f"takes {IN} and {OUT}",
    }
    for axis, values in allowed.items():
        if point[axis] not in values:
            shown = f"'{clipped(point[axis])}'"
            problems.add(
                f"[axes] {axis}: {shown}: {complaints[axis]}{nearest(point[axis], values)}"
            )

    genres = sorted({genre for task in with_domains for genre in task.genres})
    chosen = point["genres"]
    for genre in chosen.split(TOGETHER) if chosen not in (ALL_GENRES, OTHER_GENRES) else ():
        if genre not in genres:
            hint = nearest(genre, [ALL_GENRES, OTHER_GENRES, *genres])
            problems.add(f"[axes] genres: no task has train rows of '{clipped(genre)}'{hint}")


def trained_genres(point: Mapping[str, str]) -> tuple[str, ...] | None:
    """The genres that the training of a point is restricted to; () for all rows; None where there
    is no such training, or where it is on the point's domain too.
    """
    task, domain, chosen = tasks.load(point["task"]), point["domain"], point["genres"]
    if not task.genres or (domain not in task.genres and chosen == OTHER_GENRES):
        return ()
    if chosen == ALL_GENRES:
        return None if domain in task.genres else ()
    if chosen == OTHER_GENRES:
        return tuple(genre for genre in task.genres if genre != domain)
    names = tuple(chosen.split(TOGETHER))
    return names if domain not in names and set(names) <= set(task.genres) else None


def in_domain_task_of(name: str) -> Task:
    """The task that reports the in-domain rows of the task `name`."""
    return tasks.load(tasks.load(name).in_domain_task)


def train_repos(name: str) -> set[str]:
    """The data sets that a task's training reads; none for a parent that is no task."""
    if name not in tasks.names():
        return set()
    task = tasks.load(name)
    trained = [tasks.load(member) for member in task.members or (task.train_from or name,)]
    forms = [
        form
        for trained_task in trained
        for rows in trained_task.train
        for form in (rows, *rows.instead)
    ]
    names = {f"{form.repo} {form.config}" for form in forms}
    return names | {part for whole in names for part in PART_OF.get(whole, ())}


def shift_at(point: Mapping[str, str]) -> Shift:
    return Shift({axis: value for axis, value in point.items() if axis != "side"})


def shifts_in(cells: Iterable[Cell]) -> list[Shift]:
    """The pairs that cells belong to, each once."""
    places = [shift_at(dict(cell.point)).place for cell in cells]
    unique = {tuple(place.items()): place for place in places}
    return [Shift(place) for place in unique.values()]


def shifts_of(finished: FinishedCells, method: str) -> list[Shift]:
    """The pairs of a method: those without an intermediate task first, shifts of language last,
    and before them new samples of the training's own domain.
    """
    shifts = [
        shift
        for shift in shifts_in(cell.cell for cell in finished.cells)
        if shift.place["method"] == method
    ]
    order = {on: number for number, on in enumerate(finished.axis("on"))}
    labels = list(dict.fromkeys(shift.label for shift in shifts))
    return sorted(
        shifts,
        key=lambda shift: (
            shift.of_language,
            shift.of_same_domain,
            labels.index(shift.label),
            shift.place["on"] != grid_options.NO_PARENTS,
            order[shift.place["on"]],
        ),
    )


def scores_by_seed(finished: FinishedCells, point: Mapping[str, str], metric: str = "") -> BySeed:
    """Seed → score, in the headline metric or in another."""
    if not metric:
        return finished.scores(point)
    cell = finished.at(point)
    scores: BySeed = {}
    for scored in cell.runs if cell else ():
        for task in scored.outcome.metrics.tasks.values():
            for by_metric in task.languages.values():
                if metric in by_metric:
                    scores[scored.seed] = by_metric[metric]
    return scores


def drops_by_seed(finished: FinishedCells, shift: Shift, metric: str = "") -> BySeed:
    inside, outside = (scores_by_seed(finished, shift.point(side), metric) for side in (IN, OUT))
    return {seed: inside[seed] - outside[seed] for seed in inside if seed in outside}


def relative_drops(finished: FinishedCells, shift: Shift) -> BySeed:
    """Seed → drop in per cent of the in-domain score, of the seeds where that is above 0."""
    inside = finished.scores(shift.point(IN))
    drops = drops_by_seed(finished, shift)
    return {seed: 100 * drop / inside[seed] for seed, drop in drops.items() if inside[seed] > 0}


def changes_by_seed(finished: FinishedCells, shift: Shift) -> BySeed:
    """Seed → drop minus the drop without an intermediate task."""
    drops = drops_by_seed(finished, shift)
    without = drops_by_seed(finished, Shift({**shift.place, "on": grid_options.NO_PARENTS}))
    return {seed: drops[seed] - without[seed] for seed in drops if seed in without}


def contrast_of(finished: FinishedCells, shift: Shift) -> ContrastResult | None:
    of = shift.point(IN)
    return next((result for result in finished.contrasts if dict(result.contrast.of) == of), None)


def other_metrics(finished: FinishedCells, shift: Shift) -> list[str]:
    """The metrics, besides the headline one, that both row sets of a pair were scored in."""
    names: list[set[str]] = []
    for side in (IN, OUT):
        cell = finished.at(shift.point(side))
        for scored in cell.runs if cell else ():
            for task in scored.outcome.metrics.tasks.values():
                scores = [set(by_metric) for by_metric in task.languages.values()]
                names += [of_language - {"n", task.metric} for of_language in scores]
    return sorted(set.intersection(*names)) if names else []
