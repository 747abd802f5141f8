"""Carries out jobs as jobs of Slurm, one for each, submitted at once with their dependencies.

A job is not an array's, since each waits for others of its own: `afterok` for those that it needs,
`afterany` for its trials, and Slurm removes it when one that it needs has failed. So the process
that submits may end; `slurm/<key>.json` in the study's directory remembers a job's number until its
end was reported, and the next call finds it there.

What a job asks for: one task on one node; `cpus`; `memory` or, where that is not set, 1.25 times
its predicted memory and what the libraries take, in whole GiB, or nothing where that is not
predicted; `gpus` where the device of its request is a GPU. The rest is the cluster's own default.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import MismatchError, RequestError, RunError, XtlError
from adapters_xtl.base.files import digest
from adapters_xtl.base.machine import gpu
from adapters_xtl.base.signals import obey_interrupt
from adapters_xtl.engines.failures import Failure, Failures, failure, utc
from adapters_xtl.engines.job import Event, Job
from adapters_xtl.engines.local import PROCESS
from adapters_xtl.engines.options import read_options
from adapters_xtl.engines.remote import carry_out_here, forget_progress, read_progress
from adapters_xtl.engines.schedule import ENDED, Schedule
from adapters_xtl.engines.worker import Worker
from adapters_xtl.memory.peak import GIB
from adapters_xtl.runs.outcome import from_store
from adapters_xtl.runs.records import read_record, write_record

__all__ = ["Options", "Slurm"]

FOLDER = "slurm"
MARGIN = 1.25  # of the predicted memory
# states in which Slurm has still something to do for a job
ALIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD"),
    *(
        "REQUEUE_FED",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "STOPPED",
        "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
    ),
}
REASONS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "reached its time limit (--engine-set time=…)",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "needed more memory than it asked for (--engine-set memory=…)",
    "PREEMPTED": "was preempted",
    "DEADLINE": "reached its deadline",
    "BOOT_FAIL": "could not start: its node did not boot",
    "FAILED": "ended without a result",
    "COMPLETED": "ended, but its run is not in the store",
}
QUESTIONS = 60  # without an answer, after which following is given up; the jobs go on
SETTLING = 10.0  # seconds that a file of another node may take to be seen here


@dataclass(frozen=True)
class Options:
    """Of `--engine-set`; those that are "" are left to the cluster.

    cpus    of a job
    gpus    of a job whose device is a GPU
    memory  as sbatch takes it: "16G"
    time    limit, as sbatch takes it: minutes, "4:00:00", "2-12"
    poll    seconds between two questions about the jobs
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    nodelist: str = ""
    exclude: str = ""
    time: str = ""
    memory: str = ""
    cpus: int = 2
    gpus: int = 1
    poll: int = 5


@dataclass(frozen=True)
class Submitted:
    """A job's number in Slurm, as its file has it, and the keys of the jobs that it waits for."""

    number: str
    time: float
    waits_for: tuple[str, ...] = ()


def engine(jobs: int, options: Mapping[str, str], notify: Callable[[str], None]) -> Slurm:
    """The engine. RequestError where an option is wrong, submitit is not installed, or this machine
    does not submit to Slurm.
    """
    read = read_options(Options, Slurm.name, options)
    if jobs > 1:
        raise RequestError(f"--jobs {jobs}: Slurm decides how many jobs run at a time")
    try:
        importlib.import_module("submitit")
    except ImportError as error:
        raise RequestError(
            "--engine slurm: the package submitit is not installed"
            " (pip install 'adapters-xtl[slurm]')"
        ) from error
    if not shutil.which("sbatch"):
        raise RequestError(
            "--engine slurm: there is no sbatch here; call it where jobs are submitted"
        )
    return Slurm(read, notify)


class Slurm:
    """See `engine`."""

    name = "slurm"

    def __init__(self, options: Options, notify: Callable[[str], None]) -> None:
        self.options, self.notify = options, notify

    def carry_out(self, jobs: Sequence[Job], folder: Path, report: Callable[[Event], None]) -> None:
        """See `Engine`. KeyboardInterrupt leaves the jobs in Slurm."""
        schedule = Schedule(jobs, Failures(folder), report)
        queue = _Queue(schedule, folder.absolute(), self.options)
        try:
            queue.submit()
            unanswered = 0  # questions in a row: Slurm's controller may be restarted meanwhile
            while schedule.unfinished:
                try:
                    queue.follow()
                    unanswered = 0
                except RunError:
                    unanswered += 1
                    if unanswered == QUESTIONS:
                        raise
                if schedule.unfinished:
                    time.sleep(self.options.poll)
        except KeyboardInterrupt:
            obey_interrupt()
            if left := len(schedule.in_state("queued", "running")):
                self.notify(
                    f"{left} job{'s stay' if left > 1 else ' stays'} in Slurm's queue; the same"
                    f" command shows how far they are, and scancel ends them: scancel"
                    f" {' '.join(queue.numbers())}"
                )
            raise


class _Queue:
    """The jobs of one call that are in Slurm."""

    def __init__(self, schedule: Schedule, study: Path, options: Options) -> None:
        self.schedule, self.study, self.options = schedule, study, options
        self.folder = study / FOLDER
        self.logs = self.folder / "logs"
        self.prefix = f"xtl-{digest(str(study))[:8]}-"  # of the names of this study's jobs
        self.submitted: dict[str, Submitted] = {}
        self.anew: set[str] = set()  # keys of the jobs that this call submitted
        self.worker = Worker(study, lambda text: None)  # plans; it carries out nothing
        self.gone_since: dict[str, float] = {}  # key → when its job was first seen to have ended

    def numbers(self) -> list[str]:
        """Numbers of the jobs that have not ended."""
        left = {job.key for job in self.schedule.in_state("queued", "running")}
        return [entry.number for key, entry in self.submitted.items() if key in left]

    def submit(self) -> None:
        """Submits every job that is not in Slurm, after those that it waits for."""
        states = _states(self.prefix)
        jobs = self.schedule.jobs
        order = TopologicalSorter({key: (*job.after, *job.awaits) for key, job in jobs.items()})
        for key in order.static_order():
            if key in jobs and self.schedule.state(key) == "waiting":
                entry = self._remembered(key, states) or self._submit(jobs[key])
                self.submitted[key] = entry
                self.schedule.queue(key, f"Slurm job {entry.number}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _remembered(self, key: str, states: Mapping[str, _State]) -> Submitted | None:
        """The job as an earlier call submitted it, whose end is still to come or to be reported.

        None where it is to be submitted: for the first time, again after a failure that is known,
        or because a job that it waits for was submitted anew.
        """
        entry = None
        if self._path(key).is_file():
            with contextlib.suppress(MismatchError):  # damaged: the queue still tells
                entry = read_record(Submitted, self._path(key))
        if entry is None:  # an earlier call may have been killed before it wrote the number down
            own = [state.number for state in states.values() if state.key == key and state.alive]
            if not own:
                return None
            entry = Submitted(own[-1], time.time())
            write_record(self._path(key), entry)
        state = states.get(entry.number)
        alive = state is not None and state.alive
        if not self.anew.isdisjoint(entry.waits_for):
            if alive:
                _call("scancel", entry.number)
            return None
        progress = read_progress(self.study, key)
        finished = progress is not None and progress.state == "done"
        known_failure = self.schedule.failures.get(key) is not None
        return entry if alive or finished or not known_failure else None

    def _submit(self, job: Job) -> Submitted:
        """Submits a job and writes its number down. RunError where Slurm refuses it."""
        submitit: Any = importlib.import_module("submitit")
        forget_progress(self.study, job.key)
        needs = [key for key in job.after if key in self.submitted]
        awaits = [key for key in job.awaits if key in self.submitted]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # submitit's, of its own defaults
            executor = submitit.SlurmExecutor(folder=self.logs)
            executor.update_parameters(**self._parameters(job, needs, awaits))
            try:
                number = executor.submit(_carry_out, job, self.study).job_id
            except (submitit.core.utils.FailedJobError, OSError) as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise RunError(f"--engine slurm: {job.title}: sbatch: {lines[-1]}") from error
        entry = Submitted(number, time.time(), (*needs, *awaits))
        write_record(self._path(job.key), entry)
        self.anew.add(job.key)
        return entry

    def _parameters(self, job: Job, needs: Sequence[str], awaits: Sequence[str]) -> dict[str, Any]:
        """What is asked of sbatch, in submitit's names."""
        options = self.options
        names = ("partition", "account", "qos", "constraint", "nodelist", "exclude")
        parameters: dict[str, Any] = {name: getattr(options, name) or None for name in names}
        others = {}
        conditions = [
            ":".join([condition, *(self.submitted[key].number for key in keys)])
            for condition, keys in (("afterok", needs), ("afterany", awaits))
            if keys
        ]
        if conditions:
            others = {"dependency": ",".join(conditions), "kill-on-invalid-dep": "yes"}
        if options.time:
            others["time"] = options.time
        memory = options.memory
        if not memory and job.memory:
            memory = f"{math.ceil((job.memory + PROCESS) * MARGIN / GIB)}G"
        device = job.request.device
        on_gpu = device == "cuda" or (device == "auto" and gpu() is not None)
        return parameters | {
            "job_name": f"{self.prefix}{job.key}",
            "cpus_per_task": options.cpus or None,
            "gpus_per_node": options.gpus if on_gpu and options.gpus else None,
            "mem": memory or None,
            "time": None,  # submitit's own would be five minutes
            "wckey": None,
            "additional_parameters": others or None,
        }

    def follow(self) -> None:
        """Reports what has become of the jobs. RunError where Slurm does not answer."""
        states = _states(self.prefix)
        for job in self.schedule.in_state("queued", "running"):
            if self.schedule.state(job.key) in ENDED:  # skipped, for one before it has failed
                continue
            entry = self.submitted[job.key]
            state, progress = states.get(entry.number), read_progress(self.study, job.key)
            if progress is not None and progress.state == "done":
                self.schedule.end(job.key)
            elif progress is not None and progress.state == "failed":
                recorded_failure = self.schedule.failures.get(job.key)
                self.schedule.fail(recorded_failure or failure(job, progress.message))
            elif state is not None and state.alive:
                if progress is not None:
                    self.schedule.run(job.key, progress.message, progress.began)
                elif state.name == "PENDING":
                    self.schedule.queue(job.key, f"Slurm job {entry.number}: {state.reason}")
            elif self._in_store(job):  # another call has seen its end, and forgotten what it said
                self.schedule.end(job.key)
            elif (lost := self._lost(job, entry, state)) is not None:
                self.schedule.fail(lost)
        for key in [key for key in self.submitted if self.schedule.state(key) in ENDED]:
            del self.submitted[key]
            self._path(key).unlink(missing_ok=True)
            forget_progress(self.study, key)

    def _in_store(self, job: Job) -> bool:
        """Whether the store has the job's run."""
        with contextlib.suppress(XtlError):
            plan = self.worker.plan(job)
            return from_store(plan, self.worker.planner(job).store) is not None
        return False

    def _lost(self, job: Job, entry: Submitted, state: _State | None) -> Failure | None:
        """The failure of a job that has ended and told nothing; None where it may still tell."""
        if self.schedule.blocking(job):  # Slurm removes it where one that it needs has failed
            return None
        recorded_failure = self.schedule.failures.get(job.key)
        if recorded_failure is not None and recorded_failure.time >= utc(entry.time):
            return recorded_failure
        name = state.name if state else ""
        reason = REASONS.get(name, "has left the queue without a result")
        since = self.gone_since.setdefault(job.key, time.monotonic())
        may_tell = name in ("", "FAILED", "COMPLETED")
        if may_tell and time.monotonic() - since < SETTLING:
            return None
        logs = sorted(self.logs.glob(f"{entry.number}_*log.err"))
        where = f"; its log: {logs[0]}" if logs else ""
        return failure(job, f"Slurm job {entry.number} {reason}{where}")


@dataclass(frozen=True)
class _State:
    """A job as squeue shows it."""

    number: str
    name: str
    reason: str
    key: str

    @property
    def alive(self) -> bool:
        """Whether Slurm has still something to do for it."""
        return self.name in ALIVE and self.reason != "DependencyNeverSatisfied"


def _states(prefix: str) -> dict[str, _State]:
    """Number → state, of the jobs of a study that Slurm knows: those that have ended too, for the
    minutes that it remembers them. RunError where Slurm does not answer.
    """
    form = ["--noheader", "--states=all", "--format=%i|%T|%r|%j"]
    states = {}
    for line in _call("squeue", *form, f"--user={getpass.getuser()}").splitlines():
        number, name, reason, title = line.strip().split("|", 3)
        if title.startswith(prefix):
            states[number] = _State(number, name, reason, title.removeprefix(prefix))
    return states


def _call(*command: str) -> str:
    """What a command of Slurm prints. RunError with its own words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"--engine slurm: {command[0]}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"--engine slurm: {command[0]}: {lines[-1]}")
    return done.stdout


def _carry_out(job: Job, study: Path) -> None:
    """What a job of Slurm does. It exits with 1 where it fails: then none that needs it starts."""
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    # submitit would end the job at this warning of the time limit, and Slurm call it failed
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if carry_out_here(job, study) is not None:
        sys.exit(1)
