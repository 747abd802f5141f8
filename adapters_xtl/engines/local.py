"""Carries out jobs in processes of this machine that stay alive, so that the backbone stays loaded.

Jobs run side by side only where they fit together: a worker process counts with the predicted
memory of its job, an idle one with that of its last, whose backbone it keeps, and PROCESS bytes for
the libraries. On a GPU the device's memory is what they share, and CONTEXT what CUDA takes for each
process. A job whose memory cannot be predicted counts with the process alone, and one that fits
nowhere runs by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from adapters_xtl.base.machine import gpu, usable_cores, usable_memory
from adapters_xtl.base.signals import obey_interrupt
from adapters_xtl.engines.failures import Failures, failure
from adapters_xtl.engines.job import Event, Job
from adapters_xtl.engines.options import read_options
from adapters_xtl.engines.schedule import Schedule
from adapters_xtl.engines.worker_process import WorkerProcess
from adapters_xtl.memory.peak import CONTEXT, GIB

__all__ = ["PROCESS", "Local"]

# bytes: what a worker process takes beside the predicted tensors, as measured with backbone `tiny`
# (libraries, rows, what the allocator keeps)
PROCESS = int(0.6 * GIB)
AGAIN = 2.0  # seconds after which a job on which another process works is tried again


@dataclass(frozen=True)
class Options:
    """The local engine has no options."""


def engine(jobs: int, options: Mapping[str, str], notify: Callable[[str], None]) -> Local:
    """The engine with at most `jobs` jobs at a time (0: one). RequestError: it has no options."""
    read_options(Options, Local.name, options)
    return Local(jobs or 1, notify)


class Local:
    """The engine of this machine, with at most `processes` jobs at a time.

    `notify` takes lines that are of no single job.
    """

    name = "local"

    def __init__(self, processes: int, notify: Callable[[str], None]) -> None:
        self.processes, self.notify = processes, notify

    def carry_out(self, jobs: Sequence[Job], folder: Path, report: Callable[[Event], None]) -> None:
        """See `Engine`."""
        schedule = Schedule(jobs, Failures(folder), report)
        pool = _Pool(schedule, folder, self.processes, self.notify)
        try:
            while schedule.unfinished:
                pool.hand_out()
                pool.listen()
        except KeyboardInterrupt:
            obey_interrupt()
            pool.interrupt()
            raise
        finally:
            pool.end()


class _Pool:
    """The worker processes of one call."""

    def __init__(
        self, schedule: Schedule, study: Path, processes: int, notify: Callable[[str], None]
    ) -> None:
        self.schedule, self.study, self.notify = schedule, study, notify
        self.processes = processes
        self.threads = max(1, usable_cores() // processes)
        self.workers: list[WorkerProcess] = []
        # key of a job on which another process works → when it is tried again
        self.put_off: dict[str, float] = {}
        self.said_that_one_waits = False

    def hand_out(self) -> None:
        """Gives jobs to idle workers, and to new ones, as long as there are both and they fit."""
        handed_out = {worker.job.key for worker in self.workers if worker.job}
        now = time.monotonic()
        ready = [
            job
            for job in self.schedule.ready()
            if job.key not in handed_out and self.put_off.get(job.key, now) <= now
        ]
        while ready and len(self._busy()) < self.processes:
            job, worker = self._next(ready)
            if not self._make_room(job, worker):
                self._say_that_one_waits(job)
                return
            if worker is None:
                worker = WorkerProcess(self.study, self.threads)
                self.workers.append(worker)
            ready.remove(job)
            worker.give(job)  # where it has ended, `listen` notices

    def _next(self, ready: Sequence[Job]) -> tuple[Job, WorkerProcess | None]:
        """The job that is next, and the idle worker for it; None for a new one.

        A worker goes on with the backbone that it has, where a job needs that.
        """
        idle = [worker for worker in self.workers if worker.job is None]
        for job in ready:
            for worker in idle:
                if worker.last is not None and _backbone(worker.last) == _backbone(job):
                    return job, worker
        if len(self.workers) < self.processes:
            return ready[0], None
        return ready[0], idle[0]

    def _make_room(self, job: Job, chosen: WorkerProcess | None) -> bool:
        """Whether a job fits beside the others. Idle workers that are in its way are ended."""
        device, needed = _memory(job)
        room = _room(device)
        if room is None:
            return True
        others = [worker for worker in self.workers if worker is not chosen and worker.last]
        for idle in [None, *(worker for worker in others if worker.job is None)]:
            if idle is not None:
                others.remove(idle)
                self._remove(idle)
            taken = [_memory(worker.last) for worker in others if worker.last]
            if needed + sum(size for where, size in taken if where == device) <= room:
                return True
        return not self._busy()

    def _say_that_one_waits(self, job: Job) -> None:
        if not self.said_that_one_waits:
            self.said_that_one_waits = True
            device, needed = _memory(job)
            self.notify(
                f"{job.title} waits: its predicted {needed / GIB:.1f} GiB do not fit beside what"
                f" runs, in {(_room(device) or 0) / GIB:.1f} GiB; fewer than --jobs"
                f" {self.processes} run at a time"
            )

    def listen(self) -> None:
        """Waits until a worker says something or ends, or a job may be tried again."""
        pipes = {worker.connection: worker for worker in self.workers}
        ends = {worker.process.sentinel: worker for worker in self.workers}
        now = time.monotonic()
        times = [max(0.0, when - now) for when in self.put_off.values() if when > now]
        ready = wait([*pipes, *ends], timeout=min(times, default=None))
        for worker in self.workers.copy():
            ended = worker.process.sentinel in ready
            if worker.connection in ready or ended:
                self._hear(worker)
            if ended:
                self._bury(worker)

    def _hear(self, worker: WorkerProcess) -> None:
        for message in worker.messages():
            job = worker.job
            if job is None:
                continue
            if message.kind == "running":
                self.put_off.pop(job.key, None)
                worker.line = message.text or worker.line
                self.schedule.run(job.key, message.text)
                continue
            worker.job = None
            if message.kind == "elsewhere":
                self.put_off[job.key] = time.monotonic() + AGAIN
                self.schedule.wait(job.key, message.text)
            elif message.failure is not None:
                self.schedule.fail(message.failure)
            else:
                self.schedule.end(job.key)

    def _bury(self, worker: WorkerProcess) -> None:
        """Fails the job of a process that has ended; the next job gets a new one."""
        if worker.job is not None:
            self.schedule.fail(failure(worker.job, worker.why_it_ended()))
            worker.job = None
        self._remove(worker)

    def _remove(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        worker.end()

    def _busy(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker.job is not None]

    def interrupt(self) -> None:
        """Says what runs and where it goes on, and asks the workers to end."""
        busy = self._busy()
        for worker in busy:
            worker.interrupt()
        running = []
        for worker in busy:
            assert worker.job is not None
            step = re.match(r"step [\d/]+", worker.line)
            running.append(f"{worker.job.title}{f' ({step[0]})' if step else ''}")
            self.schedule.wait(worker.job.key, "interrupted; goes on from its last checkpoint")
        if running:
            self.notify(
                f"stopping {', '.join(running)}: the same command goes on from the last checkpoint"
                " (Ctrl-C again ends at once)"
            )

    def end(self) -> None:
        """Ends every worker."""
        for worker in self.workers:
            if worker.job is not None:
                worker.interrupt()  # all at once, before one is waited for
        for worker in self.workers:
            worker.end()
        self.workers.clear()


def _backbone(job: Job) -> tuple[str | None, ...]:
    """What two jobs have in common that can use the same loaded backbone."""
    request = job.request
    return request.backbone, request.bits, request.device, request.method


def _memory(job: Job) -> tuple[str, int]:
    """(device, bytes of its memory that a job's worker counts with)."""
    if job.request.device in ("auto", "cuda") and gpu() is not None:
        return "cuda", job.memory + CONTEXT
    return "cpu", job.memory + PROCESS


def _room(device: str) -> int | None:
    """Bytes that the jobs on a device may take together; None where that is not known."""
    first_gpu = gpu()
    if device == "cuda" and first_gpu is not None:
        return first_gpu.memory_bytes
    return usable_memory()
