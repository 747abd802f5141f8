"""Runs one request in a separate process.

The peak memory of a process never falls again, and a process that is killed for want of memory
takes all its runs with it: runs that are compared, or of which one may fail, share no process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from adapters_xtl.base import errors
from adapters_xtl.base.errors import RunError, XtlError, out_of_memory
from adapters_xtl.base.signals import acknowledge_interrupt, interrupt_on_signals
from adapters_xtl.runs.request import Request

__all__ = ["execute"]

SIGKILL = 9  # what the kernel sends to the process that it stops for want of memory


def execute(request: Request, *, preload: bool) -> None:
    """Plans and executes a request in a new process; the store has its runs afterwards.

    `preload` keeps the libraries loaded from one call to the next, in a server process that forks.
    That saves seconds, but not where there is a GPU: importing bitsandbytes wakes CUDA, which does
    not survive a fork. Raises what the run raised, RunError when its process was killed.
    """
    context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
    if preload:
        context.set_forkserver_preload(["adapters_xtl.experiment"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_execute_and_report, args=(request, sender))
    process.start()
    sender.close()
    try:
        error_type, message = receiver.recv()
        process.join(60)  # time to release what it holds
    except EOFError:
        process.join()
        raise RunError(_how_it_ended(process.exitcode or 0)) from None
    finally:
        process.terminate()
        process.join()
        receiver.close()
    if error_type:
        raise getattr(errors, error_type, RunError)(message)


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"the run's process ended with exit code {exit_code}"
    memory = "; it may have needed more memory than there is" if exit_code == -SIGKILL else ""
    return f"the run's process was killed by signal {-exit_code}{memory}"


def _execute_and_report(request: Request, sender: Connection) -> None:
    """Sends the name of the error's type and its message; two empty texts when all went well."""
    os.dup2(2, 1)  # libraries print to stdout, which is the caller's answer
    sys.stdout = sys.stderr
    threading.Thread(target=_end_with_parent, daemon=True).start()
    interrupt_on_signals()
    try:
        from adapters_xtl import experiment
        from adapters_xtl.planning.plan import Planner
        from adapters_xtl.runs.store import Store

        store = Store(Path(request.runs))
        experiment.execute(
            Planner(store).plan(request),
            store,
            notify=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        os._exit(acknowledge_interrupt())
    except XtlError as error:
        sender.send((type(error).__name__, str(error)))
    except Exception as error:
        sender.send(("RunError", _in_one_line(error)))
    else:
        sender.send(("", ""))


def _in_one_line(error: Exception) -> str:
    if out_of_memory(error):
        return "out of memory; a smaller train.batch_size or train.max_length needs less"
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line}"


def _end_with_parent() -> None:
    """Stops a run whose caller is gone; the next call resumes it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
