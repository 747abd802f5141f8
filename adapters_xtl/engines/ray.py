"""Carries out jobs as tasks of Ray Core, on a cluster that is there or one that lives for the call.

Every task has a process of its own that ends with it (`max_calls=1`), so that a GPU's memory is
free again. It asks for `cpus`, for `gpus` where the job's device is a GPU, and for its predicted
memory and what the libraries take, at most a node's whole. Ray starts a task again, up to `retries`
times, whose worker was lost: its run goes on from the last checkpoint. All nodes see the study's
directory and the store under the same paths, and have this package.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xtl.base.errors import RequestError, RunError
from adapters_xtl.base.machine import gpu, usable_cores
from adapters_xtl.base.signals import obey_interrupt
from adapters_xtl.engines.failures import Failure, Failures, failure
from adapters_xtl.engines.job import Event, Job
from adapters_xtl.engines.local import PROCESS
from adapters_xtl.engines.options import read_options
from adapters_xtl.engines.remote import carry_out_here, forget_progress, read_progress
from adapters_xtl.engines.schedule import Schedule

__all__ = ["Options", "Ray"]

POLL = 1.0  # seconds between two looks at what the tasks say
PATIENCE = 60.0  # seconds that cancelled tasks have to write a checkpoint and end
OBJECTS = 80 * 2**20  # bytes of a local cluster's object store: tasks pass nothing but their job
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@dataclass(frozen=True)
class Options:
    """Of `--engine-set`.

    address  of a cluster ("auto", "ray://host:10001", "host:6379"); "": $RAY_ADDRESS or, without
             it, a cluster on this machine that ends with the call
    cpus     that a task has; 0: this machine's cores shared by the jobs that run at a time or, on a
             cluster by its address, 1
    gpus     that a task has whose device is a GPU
    retries  times that a task is started again whose worker was lost
    """

    address: str = ""
    cpus: int = 0
    gpus: int = 1
    retries: int = 3


def engine(jobs: int, options: Mapping[str, str], notify: Callable[[str], None]) -> Ray:
    """The engine with at most `jobs` tasks at a time (0: as many as the cluster takes).

    RequestError where an option is wrong or Ray is not installed.
    """
    read = read_options(Options, Ray.name, options)
    try:
        importlib.import_module("ray")
    except ImportError as error:
        raise RequestError(
            "--engine ray: the package ray is not installed (pip install 'adapters-xtl[ray]')"
        ) from error
    return Ray(jobs, read, notify)


class Ray:
    """See `engine`."""

    name = "ray"

    def __init__(self, jobs: int, options: Options, notify: Callable[[str], None]) -> None:
        self.jobs, self.options, self.notify = jobs, options, notify
        self.address = options.address or os.environ.get("RAY_ADDRESS", "")

    def carry_out(self, jobs: Sequence[Job], folder: Path, report: Callable[[Event], None]) -> None:
        """See `Engine`."""
        schedule = Schedule(jobs, Failures(folder), report)
        if not schedule.unfinished:
            return
        with self._connected() as ray:
            tasks = _Tasks(ray, schedule, folder.absolute(), self._resources)
            try:
                while schedule.unfinished:
                    tasks.start(self.jobs)
                    tasks.listen()
            except KeyboardInterrupt:
                obey_interrupt()
                titles = tasks.cancel()
                if titles:
                    self.notify(
                        f"stopping {', '.join(titles)}: the same command goes on from the last"
                        " checkpoint (Ctrl-C again ends at once)"
                    )
                raise

    def _resources(self, job: Job, nodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        """What the task of a job asks of Ray. RequestError where no node has that much."""
        cpus = self.options.cpus
        if not cpus:
            cpus = 1 if self.address else max(1, usable_cores() // max(1, self.jobs))
        device = job.request.device
        on_gpu = device == "cuda" or (device == "auto" and gpu() is not None)
        resources = {"CPU": cpus, "GPU": self.options.gpus if on_gpu else 0}
        for name, count in resources.items():
            most = max((node.get(name, 0) for node in nodes), default=0)
            if count > most:
                raise RequestError(
                    f"--engine ray: {job.title} asks for {count} {name}, and no node has more than"
                    f" {most:g} (--engine-set {name.lower()}s=…)"
                )
        largest = max((node.get("memory", 0) for node in nodes), default=0)
        return {
            "num_cpus": cpus,
            "num_gpus": resources["GPU"],
            "memory": int(min(job.memory + PROCESS, largest)),
            "max_calls": 1,
            "max_retries": self.options.retries,
        }

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """The module `ray`, connected to the cluster. RunError where that is not there."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # it would hide the GPUs from tasks that ask for none, and warns that it will not any more
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray: Any = importlib.import_module("ray")
        if ray.is_initialized():
            yield ray
            return
        in_main_thread = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS if in_main_thread}
        scratch = None
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            settings["address"] = self.address
        else:  # the path to its sockets must be short
            scratch = tempfile.mkdtemp(prefix="xtl-ray-", dir="/tmp")
            settings |= {
                "_node_ip_address": "127.0.0.1",  # nobody else can reach it
                "num_cpus": usable_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECTS,
                "_temp_dir": scratch,
            }
        try:
            try:
                ray.init(**settings)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = f"at {self.address}" if self.address else "on this machine"
                first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise RunError(f"--engine ray: no cluster {where}: {first_line}") from error
            for number, handler in handlers.items():  # Ray takes SIGTERM
                signal.signal(number, handler)
            yield ray
        finally:
            ray.shutdown()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)


class _Tasks:
    """The tasks of one call that Ray has."""

    def __init__(
        self,
        ray: Any,
        schedule: Schedule,
        study: Path,
        resources: Callable[[Job, Sequence[Mapping[str, float]]], dict[str, Any]],
    ) -> None:
        self.ray, self.schedule, self.study, self.resources = ray, schedule, study, resources
        self.jobs: dict[Any, Job] = {}  # reference of a task → its job
        self.pids: dict[str, int] = {}  # key → process that the job ran in when it was last seen

    def start(self, most: int) -> None:
        """Hands Ray the jobs that are ready, `most` at a time (0: all)."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for job in self.schedule.ready():
            if most and len(self.jobs) >= most:
                return
            forget_progress(self.study, job.key)
            task = self.ray.remote(**self.resources(job, nodes))(_carry_out)
            self.jobs[task.remote(job, self.study, os.getcwd())] = job
            self.schedule.queue(job.key)

    def listen(self) -> None:
        """Waits a second for tasks that end; reports those, and what the others say."""
        if not self.jobs:
            return
        ended, _ = self.ray.wait(list(self.jobs), timeout=POLL)
        for task in ended:
            job = self.jobs.pop(task)
            try:
                failed = self.ray.get(task)
            except self.ray.exceptions.RayError as error:
                failed = failure(job, _lost(error))
            if failed is None:
                self.schedule.end(job.key)
            else:
                self.schedule.fail(failed)
            forget_progress(self.study, job.key)
        for job in self.jobs.values():
            progress = read_progress(self.study, job.key)
            if progress is None or progress.state != "running":
                continue
            if self.pids.setdefault(job.key, progress.pid) != progress.pid:
                self.pids[job.key] = progress.pid
                lost = "its worker was lost; another one goes on from the last checkpoint"
                self.schedule.run(job.key, lost, progress.began)
            self.schedule.run(job.key, progress.message, progress.began)

    def cancel(self) -> list[str]:
        """Cancels every task; the titles of those that ran."""
        for task in self.jobs:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(task)
        running = self.schedule.in_state("running")
        for job in running:
            self.schedule.wait(job.key, "interrupted; goes on from its last checkpoint")
        self.ray.wait(list(self.jobs), num_returns=len(self.jobs), timeout=PATIENCE)
        return [job.title for job in running]


def _carry_out(job: Job, study: Path, folder: str) -> Failure | None:
    """What a task does. `folder`: where the paths of the request begin."""
    os.chdir(folder)
    return carry_out_here(job, study)


def _lost(error: Exception) -> str:
    """One line on a task that Ray could not bring to its end."""
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "Ray killed its worker, for the node had no memory left"
    if kind == "WorkerCrashedError":
        return "its worker was lost more often than it is started again (--engine-set retries=…)"
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"Ray lost it ({kind}): {first_line}"
