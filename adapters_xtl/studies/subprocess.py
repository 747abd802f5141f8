"""Runs one request in a process of its own.

A process's peak memory never falls again, and an allocator killed for want of memory takes its
process with it: runs that are to be compared, or of which one may fail, share no process.
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
from adapters_xtl.base.errors import RunError, XtlError
from adapters_xtl.base.signals import interrupt_exit_code, interrupt_on_signals
from adapters_xtl.runs.request import Request

__all__ = ["execute"]


def execute(asked: Request, *, preload: bool) -> None:
    """Makes the plan of `asked` and executes it; what it came to is in the store afterwards.

    `preload` keeps the libraries loaded from one call to the next (a server process that forks):
    seconds saved, but not where there is a GPU, which bitsandbytes wakes when it is imported: CUDA
    does not survive a fork. Raises what the run raised, RunError when its process was killed.
    """
    context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
    if preload:
        context.set_forkserver_preload(["adapters_xtl.experiment"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(asked, theirs))
    process.start()
    theirs.close()
    try:
        kind, message = ours.recv()
        process.join(60)  # lets it put its things away
    except EOFError:
        process.join()
        code = process.exitcode or 0
        reason = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        memory = "; it may have needed more memory than there is" if code == -9 else ""
        raise RunError(f"the run's process {reason}{memory}") from None
    finally:
        process.terminate()
        process.join()
        ours.close()
    if kind:
        found = getattr(errors, kind, RunError)
        raise found(message)


def _work(asked: Request, answer: Connection) -> None:
    os.dup2(2, 1)  # libraries print; stdout is the caller's answer
    sys.stdout = sys.stderr
    interrupt_on_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from adapters_xtl import experiment, methods
        from adapters_xtl.planning import plan
        from adapters_xtl.runs.store import Store

        store = Store(Path(asked.runs))
        planned = plan.make(
            asked, {name: methods.load(name) for name in methods.names()}, store=store
        )
        experiment.execute(
            planned, store, notify=lambda text: print(text, file=sys.stderr, flush=True)
        )
    except KeyboardInterrupt:
        os._exit(interrupt_exit_code())
    except XtlError as error:
        answer.send((type(error).__name__, str(error)))
    except MemoryError:
        answer.send(
            ("RunError", "out of memory; a smaller train.batch_size or train.max_length needs less")
        )
    except Exception as error:
        lines = str(error).strip().splitlines()
        answer.send(("RunError", f"{type(error).__name__}: {lines[0] if lines else ''}"))
    else:
        answer.send(("", ""))


def _end_with_parent() -> None:
    """A run whose caller is gone stops; the next call resumes it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
