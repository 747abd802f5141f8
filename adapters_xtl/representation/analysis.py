"""The analysis that a study asks for: features of parallel rows in a finished run's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xtl import tasks
from adapters_xtl.base.errors import RequestError, clipped, nearest
from adapters_xtl.planning.evaluations import report_splits
from adapters_xtl.planning.lookups import Lookups, ReportFiles
from adapters_xtl.representation.parallel_items import ENGLISH
from adapters_xtl.representation.record import RepresentationRecord
from adapters_xtl.runs.analyses import encoder_identity
from adapters_xtl.runs.records import read_record
from adapters_xtl.runs.request import Plan

if TYPE_CHECKING:
    from adapters_xtl.models.context import Context

__all__ = ["FORMS", "PARALLEL_TASKS", "RANDOM_SEEDS", "ParallelRows", "RepresentationAnalysis"]

PARALLEL_TASKS = ("xnli", "xquad", "tatoeba")  # their rows are translations of each other
RANDOM_SEEDS = (1, 2, 3)  # of the encoders of random weights
FORMS = ("diagonal", "interactions")  # of the distance by features that is fitted
VERSION = 1  # raised whenever the same encoder and rows would give other numbers


@dataclass(frozen=True)
class ParallelRows:
    """The report rows that are compared, before any is read."""

    split: str
    files: ReportFiles


@dataclass(frozen=True)
class RepresentationAnalysis:
    """Which features of a task's parallel rows an encoder's representations follow.

    task          one of PARALLEL_TASKS
    items         about how many items are compared; groups of them are taken whole
    form          one of FORMS; with interactions, see `metric_learning.FitOptions`
    """

    task: str
    items: int = 144
    form: str = FORMS[0]

    def rows(self, plan: Plan, lookups: Lookups) -> ParallelRows:
        """Where the rows lie, in the plan's languages as far as the task has them, and in English.
        RequestError where the source has none of them.
        """
        if self.task not in PARALLEL_TASKS:
            raise RequestError(
                f"rows of '{clipped(self.task)}' are no translations of each other; takes"
                f" {', '.join(PARALLEL_TASKS)}{nearest(self.task, PARALLEL_TASKS)}"
            )
        if self.form not in FORMS:
            raise RequestError(
                f"form '{clipped(self.form)}': takes {' or '.join(FORMS)}"
                f"{nearest(self.form, FORMS)}"
            )
        task, source, request = tasks.load(self.task), plan.source, plan.request
        splits = report_splits(task, source)
        split = request.split if request.split in splits else splits[0]
        sets = {**task.languages, "all": task.all_languages}
        default = "all" if source.kind == "embedded" else next(iter(task.languages))
        wanted = request.languages or default
        named = sets.get(wanted) or tuple(code.strip() for code in wanted.split(","))
        codes = tuple(code for code in task.all_languages if code in named or code == ENGLISH)
        files = lookups.report(source, task, split, codes)
        has_english = ENGLISH in files.files or ENGLISH not in task.all_languages
        others = [code for code in files.files if code != ENGLISH]
        if not others or not has_english:
            reasons = "; ".join(dict.fromkeys(files.lacking.values()))
            raise RequestError(
                f"parallel rows of '{self.task}': takes English and another language, and {wanted}"
                f" has {', '.join(files.files) or 'none'} of them{': ' if reasons else ''}{reasons}"
            )
        return ParallelRows(split, files)

    def identity(self, plan: Plan, lookups: Lookups) -> Mapping[str, Any]:
        """See `engines.analysis.Analysis`."""
        rows = self.rows(plan, lookups)
        return {
            "analysis": "representation",
            "version": VERSION,
            "encoder": encoder_identity(plan),
            "task": [self.task, tasks.load(self.task).version],
            "split": rows.split,
            "files": {code: list(shas) for code, shas in rows.files.digests.items()},
            "items": self.items,
            "form": self.form,
            "random_seeds": [] if plan.target else list(RANDOM_SEEDS),
        }

    def compute(self, context: Context, lookups: Lookups, work: Path) -> RepresentationRecord:
        """See `engines.analysis.Analysis`."""
        from adapters_xtl.representation import encoder_results  # imports torch

        return encoder_results.analyse(self, context, self.rows(context.plan, lookups), work)

    def read(self, path: Path) -> RepresentationRecord:
        """See `engines.analysis.Analysis`."""
        return read_record(RepresentationRecord, path)
