"""The cells of the study `source-language` that differ in nothing but their source language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters_xtl import tasks
from adapters_xtl.grid import grid_options
from adapters_xtl.grid.cells import Cell
from adapters_xtl.grid.finished_cells import FinishedCells
from adapters_xtl.tasks import BACK_TRANSLATED

__all__ = ["ENGLISH", "Group", "groups", "groups_of", "left_out", "trained_task"]

ENGLISH = "en"
Point = Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """The cells that differ in their source language alone.

    place    the axes that they share
    sources  their source languages, in the order of the axis
    """

    place: Point
    sources: tuple[str, ...]

    def point(self, source: str) -> dict[str, str]:
        return {**self.place, "source": source}

    @property
    def trained(self) -> str:
        """The task whose language varies."""
        return trained_task(self.place["task"], self.place["on"])

    @property
    def others(self) -> tuple[str, ...]:
        """The sources that are held against English: all others that people's languages are."""
        return tuple(code for code in self.sources if code not in (ENGLISH, BACK_TRANSLATED))

    @property
    def title(self) -> str:
        on = self.place["on"]
        training = "its own training" if on == grid_options.NO_PARENTS else f"{on}'s training"
        return f"{self.place['task']} by the language of {training}, {self.place['method']}"

    @property
    def name(self) -> str:
        """For the names of files."""
        return "-".join(self.place.values()).replace("@", "-")


def trained_task(task: str, on: str) -> str:
    """The task whose training is in the source language: the intermediate task or, without one, the
    task that the target's own module is trained on.
    """
    name = task if on == grid_options.NO_PARENTS else on
    return tasks.load(name).train_from or name


def groups(cells: Sequence[Cell]) -> list[Group]:
    """The cells as groups that differ in their source language alone."""
    sources: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for cell in cells:
        place = dict(cell.point)
        source = place.pop("source")
        sources.setdefault(tuple(place.items()), []).append(source)
    return [Group(dict(place), tuple(codes)) for place, codes in sources.items()]


def groups_of(finished: FinishedCells) -> list[Group]:
    """The groups of a grid, of the cells that it kept."""
    return groups([cell.cell for cell in finished.cells])


def left_out(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The languages that the headline leaves out: every source and English, in which a target is
    trained whose intermediate task's language varies.
    """
    sources = dict.fromkeys(dict(cell.point)["source"] for cell in cells)
    return tuple(code for code in {ENGLISH: None, **sources} if code != BACK_TRANSLATED)
