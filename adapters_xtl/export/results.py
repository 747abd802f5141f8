"""`export_results`: the scores of runs, in the JSON of mteb and of Every Eval Ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import RequestError
from adapters_xtl.export.every_eval_ever import write_every_eval_ever
from adapters_xtl.export.mteb_results import write_mteb_results
from adapters_xtl.export.output_directory import new_directory
from adapters_xtl.export.scored_runs import scored_runs
from adapters_xtl.runs.store import Store

__all__ = ["ExportedResults", "export_results"]

UNSTATED = "not stated"


@dataclass(frozen=True)
class ExportedResults:
    """How many files of each form were written below `path`."""

    path: Path
    mteb: int
    every_eval_ever: int


def export_results(
    runs: Sequence[str],
    directory: str | Path,
    *,
    store: str | Path = "runs",
    organisation: str = UNSTATED,
    notify: Callable[[str], None] = lambda text: None,
) -> ExportedResults:
    """Writes the scores of `runs` (directories or ids of trainings and evaluations) into a new
    directory: `mteb/` and `every_eval_ever/`.

    RequestError for what is no finished run; then nothing is written.
    """
    if not organisation.strip() or not organisation.isprintable() or len(organisation) > 200:
        raise RequestError("--organisation: takes one line of at most 200 characters")
    scored = scored_runs(runs, Store(Path(store)), notify)
    path = Path(directory)
    with new_directory(path) as aside:
        mteb = write_mteb_results(aside / "mteb", scored, notify)
        files = write_every_eval_ever(aside / "every_eval_ever", scored, organisation)
    return ExportedResults(path, mteb, files)
