"""Which jobs may start, and what has become of each: what every engine keeps while it works."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from graphlib import CycleError, TopologicalSorter

from adapters_xtl.base.errors import XtlError
from adapters_xtl.engines.failures import Failure, Failures
from adapters_xtl.engines.job import Event, Job, State

__all__ = ["ENDED", "Schedule"]

ENDED: frozenset[State] = frozenset({"done", "failed", "skipped"})
_KEY = re.compile(r"[A-Za-z0-9_.-]+")


class Schedule:
    """The jobs of one call, each with its state. Every change is reported as an event.

    A job that needs a failed one is skipped as soon as that one has failed. ValueError where keys
    are not unique or no file names, or jobs wait for each other.
    """

    def __init__(
        self, jobs: Sequence[Job], failures: Failures, report: Callable[[Event], None]
    ) -> None:
        self.jobs = {job.key: job for job in jobs}
        self.failures, self._report = failures, report
        if len(self.jobs) < len(jobs):
            raise ValueError("two jobs have the same key")
        for key in self.jobs:
            if not _KEY.fullmatch(key) or key.startswith("."):
                raise ValueError(f"{key!r}: a job's key names files")
        try:
            needed = {job.key: (*job.after, *job.awaits) for job in jobs}
            tuple(TopologicalSorter(needed).static_order())
        except CycleError as error:
            raise ValueError(f"jobs wait for each other: {' → '.join(error.args[1])}") from error
        self._states: dict[str, State] = dict.fromkeys(self.jobs, "waiting")
        self._started: dict[str, float] = {}
        self._last: dict[str, tuple[State, str]] = {}
        self._skip_after_earlier_failures()

    def _skip_after_earlier_failures(self) -> None:
        """Skips what needs a job that failed in an earlier call and is not carried out in this."""
        for job in self.jobs.values():
            for key in job.after:
                if key not in self.jobs and (earlier := self.failures.get(key)) is not None:
                    self._skip(job, earlier.title)

    @property
    def unfinished(self) -> bool:
        """Whether a job has not ended."""
        return not ENDED.issuperset(self._states.values())

    def state(self, key: str) -> State:
        return self._states[key]

    def in_state(self, *states: State) -> list[Job]:
        """The jobs that are in one of these states, in the order in which they were given."""
        return [job for job in self.jobs.values() if self._states[job.key] in states]

    def ready(self) -> list[Job]:
        """The waiting jobs that may start, in the order in which they were given."""
        return [job for job in self.in_state("waiting") if not self.blocking(job)]

    def blocking(self, job: Job) -> list[Job]:
        """The jobs for which a job still waits."""
        waited_for = (self.jobs[key] for key in (*job.after, *job.awaits) if key in self.jobs)
        return [other for other in waited_for if self._states[other.key] not in ENDED]

    def wait(self, key: str, reason: str) -> None:
        """A job that was to start waits again."""
        self._started.pop(key, None)
        self._set(key, "waiting", reason)

    def queue(self, key: str, message: str = "") -> None:
        """The engine's queue has the job."""
        self._set(key, "queued", message)

    def run(self, key: str, message: str = "", began: float | None = None) -> None:
        """A job runs, or says something about its progress. `began`: when, by time.time()."""
        self._started.setdefault(key, began or time.time())
        self._set(key, "running", message)

    def end(self, key: str) -> None:
        """A job has ended well."""
        self.failures.remove(key)
        self._set(key, "done", "")

    def fail(self, failed: Failure) -> None:
        """A job has failed: its failure is recorded, and the jobs that need it are skipped."""
        with contextlib.suppress(XtlError, OSError):  # a full disk: the event tells of it still
            self.failures.record(failed)
        self._set(failed.key, "failed", failed.error)
        for job in self.jobs.values():
            if failed.key in job.after:
                self._skip(job, failed.title)

    def _skip(self, job: Job, failed: str) -> None:
        """Skips a job because the job of the title `failed` failed, and all that need it."""
        if self._states[job.key] in ENDED:
            return
        self._set(job.key, "skipped", failed)
        for other in self.jobs.values():
            if job.key in other.after:
                self._skip(other, failed)

    def _set(self, key: str, state: State, message: str) -> None:
        self._states[key] = state
        if self._last.get(key) == (state, message):
            return
        self._last[key] = state, message
        started = self._started.get(key)
        seconds = 0.0 if started is None else max(0.0, time.time() - started)
        self._report(Event(key, state, message, round(seconds, 3)))
