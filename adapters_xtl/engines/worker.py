"""Carries out job after job in this process, and keeps the backbone loaded between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RunError, XtlError, out_of_memory
from adapters_xtl.base.process_memory import release_freed_memory
from adapters_xtl.engines import analysis
from adapters_xtl.engines.failures import Failure, Failures, failure
from adapters_xtl.engines.job import Job
from adapters_xtl.engines.trials import resolved_request
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.analyses import intact_analysis
from adapters_xtl.runs.outcome import finished_directory, from_store
from adapters_xtl.runs.request import Plan
from adapters_xtl.runs.store import ANALYSES, Store

__all__ = ["RunsElsewhere", "Worker"]


class RunsElsewhere(Exception):
    """Another process works on a run that the job needs; the text says so."""


class Worker:
    """Carries out jobs of the study whose directory is `study`. `notify` takes their lines."""

    def __init__(self, study: Path, notify: Callable[[str], None]) -> None:
        self.failures, self.notify = Failures(study), notify
        self._planners: dict[str, Planner] = {}
        self._host: Any = None

    def carry_out(
        self, job: Job, begin: Callable[[], None] = lambda: None, *, wait: bool = True
    ) -> Failure | None:
        """Carries out a job; the store has its run afterwards. Returns, and records, its failure.

        `begin` is called when it is known that the job can begin. `wait`: where another process
        works on a run that the job needs, this one waits for it; else it raises RunsElsewhere.
        """
        try:
            self._execute(job, begin, wait)
        except RunsElsewhere:
            raise
        except Exception as error:
            if out_of_memory(error) or not isinstance(error, XtlError):
                self._host = None  # it may hold what the next job needs
            failed = failure(job, error)
            with contextlib.suppress(XtlError, OSError):  # a full disk: the caller has it still
                self.failures.record(failed)
            return failed
        self.failures.remove(job.key)
        return None

    def planner(self, job: Job) -> Planner:
        """The planner of the job's store, which looks up once what several jobs need."""
        runs = job.request.runs
        if runs not in self._planners:
            self._planners[runs] = Planner(Store(Path(runs)))
        return self._planners[runs]

    def plan(self, job: Job) -> Plan:
        """What the job comes to, now that those it waited for have ended."""
        planner = self.planner(job)
        plan = planner.plan(resolved_request(job, planner))
        if not job.module:
            return plan
        try:
            return plan.part(job.module)
        except KeyError:
            named = ", ".join(f"{module} ({module.id})" for module in plan.modules)
            raise RunError(
                f"{job.title}: the request has no module {job.module}; it has {named or 'none'}"
            ) from None

    def _execute(self, job: Job, begin: Callable[[], None], wait: bool) -> None:
        plan = self.plan(job)
        store, lookups = Store(Path(job.request.runs)), self.planner(job).lookups
        key = analysis.analysis_id(job.analysis, plan, lookups) if job.analysis else ""
        analysed = not key or intact_analysis(store, key) is not None
        if analysed and from_store(plan, store) is not None:
            begin()
            return
        if not wait:
            _check_free(plan, store, key)
        begin()
        if plan.backbone.source in ("embedded", "random"):
            embedded.prepare(self.notify)
        from adapters_xtl import experiment  # imports torch, which an answer from the store spares
        from adapters_xtl.models.network import Host

        self._host = self._host or Host()
        release_freed_memory()  # the peak that is measured is this run's own
        experiment.execute(plan, store, notify=self.notify, host=self._host)
        if job.analysis is not None:
            analysis.compute(job.analysis, plan, lookups, store, self._host, self.notify)


def _check_free(plan: Plan, store: Store, analysis_key: str) -> None:
    """Raises RunsElsewhere where another process works on a run that the plan lacks, or on the
    analysis of that id.
    """
    lacking = [
        (module.task, module.id)
        for module in plan.modules
        if finished_directory(module, store) is None
    ]
    if not plan.inline:
        lacking.append((plan.task, plan.evaluation.id))
    if analysis_key:
        lacking.append((ANALYSES, analysis_key))
    for task, run_id in lacking:
        if store.in_progress(task, run_id):
            raise RunsElsewhere(f"another process works on {task}/{run_id}")
