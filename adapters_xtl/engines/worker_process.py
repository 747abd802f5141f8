"""A process of this machine that carries out jobs, and its end of the pipe.

It ends with its parent, and on SIGTERM as on Ctrl-C: what it trains goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from adapters_xtl.base.machine import gpu
from adapters_xtl.base.progress_lines import send_progress_to
from adapters_xtl.base.signals import acknowledge_interrupt, interrupt_on_signals
from adapters_xtl.engines.failures import Failure
from adapters_xtl.engines.job import Job
from adapters_xtl.engines.worker import RunsElsewhere, Worker

__all__ = ["Message", "WorkerProcess"]

SIGKILL = 9  # what the kernel sends to the process that it stops for want of memory
LIBRARIES = ("adapters", "peft")  # of methods; importing them takes seconds too
PATIENCE = 60.0  # seconds that a process has to write a checkpoint and end


@dataclass(frozen=True)
class Message:
    """What a worker process says about its job. `text`: a line of its progress, or why it is put
    off; `failure`: of a job that failed.
    """

    kind: Literal["running", "elsewhere", "done", "failed"]
    text: str = ""
    failure: Failure | None = None


class WorkerProcess:
    """One worker process, seen from its parent.

    The libraries stay loaded, from one process to the next, in a server that forks. That saves
    seconds, but not where there is a GPU: importing bitsandbytes wakes CUDA, which does not survive
    a fork. `threads`: of torch, at most.
    """

    def __init__(self, study: Path, threads: int) -> None:
        preload = gpu() is None and "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
        if preload:
            context.set_forkserver_preload(["adapters_xtl.experiment", *LIBRARIES])
        self.job: Job | None = None  # the one that it carries out
        self.last: Job | None = None  # that one, or the one before
        self.line = ""  # what it said last about its job
        self.connection: Connection
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, study, threads), daemon=True)
        with _no_main_script():
            self.process.start()
        other_end.close()

    def give(self, job: Job) -> bool:
        """Hands a job to the process. False where the process has ended."""
        self.job = self.last = job
        self.line = ""
        try:
            self.connection.send(job)
        except OSError:
            return False
        return True

    def messages(self) -> list[Message]:
        """What it has said since it was last asked."""
        messages: list[Message] = []
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                messages.append(self.connection.recv())
        return messages

    def why_it_ended(self) -> str:
        """One line on the end of a process that has ended by itself."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the run's process ended with exit code {code}"
        memory = "; it may have needed more memory than there is" if code == -SIGKILL else ""
        return f"the run's process was killed by signal {-code}{memory}"

    def interrupt(self) -> None:
        """Asks the process to end as on Ctrl-C, and returns at once."""
        self.process.terminate()

    def end(self) -> None:
        """Ends the process: an idle one at once, one that works as on Ctrl-C, by force where that
        takes longer than PATIENCE.
        """
        if self.job is None:
            with contextlib.suppress(OSError):
                self.connection.send(None)
        else:
            self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.connection.close()
        self.process.close()


@contextlib.contextmanager
def _no_main_script() -> Iterator[None]:
    """Hides the caller's script, which multiprocessing would run again in every process."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _serve(connection: Connection, study: Path, threads: int) -> None:
    """Carries out the jobs that come through the pipe, until None comes or the parent is gone."""
    os.dup2(2, 1)  # libraries print to stdout, which is the caller's answer
    sys.stdout = sys.stderr
    threading.Thread(target=_end_with_parent, daemon=True).start()
    interrupt_on_signals()
    try:
        import torch

        torch.set_num_threads(min(threads, torch.get_num_threads()))

        def tell(text: str) -> None:
            connection.send(Message("running", text))

        send_progress_to(tell)
        worker = Worker(study, tell)
        while (job := connection.recv()) is not None:
            try:
                failed = worker.carry_out(job, lambda: tell(""), wait=False)
            except RunsElsewhere as reason:
                connection.send(Message("elsewhere", str(reason)))
            else:
                connection.send(Message("failed" if failed else "done", failure=failed))
    except (EOFError, BrokenPipeError):  # the parent is gone
        os._exit(1)
    except KeyboardInterrupt:
        sys.exit(acknowledge_interrupt())


def _end_with_parent() -> None:
    """Stops a run whose caller is gone; the next call resumes it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
