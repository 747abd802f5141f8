"""What a job does in a process that another system starts, and the file in which it tells of it.

Every machine sees the study's directory: `progress/<key>.json` there says what a job does now.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.progress_lines import send_progress_to
from adapters_xtl.base.signals import acknowledge_interrupt, interrupt_on_signals
from adapters_xtl.engines.failures import Failure
from adapters_xtl.engines.job import Job
from adapters_xtl.engines.worker import Worker
from adapters_xtl.runs.records import read_record, write_record

__all__ = ["Progress", "carry_out_here", "forget_progress", "read_progress"]

FOLDER = "progress"
EVERY = 1.0  # seconds between two writings of the file


@dataclass(frozen=True)
class Progress:
    """What a job says of itself. `began`: seconds since the epoch; `message`: its last line."""

    state: Literal["running", "done", "failed"]
    message: str
    began: float
    host: str
    pid: int


def _path(study: Path, key: str) -> Path:
    return study / FOLDER / f"{key}.json"


def read_progress(study: Path, key: str) -> Progress | None:
    """What a job said last, or None where it has said nothing, or its file is damaged."""
    with contextlib.suppress(XtlError):
        return read_record(Progress, _path(study, key))
    return None


def forget_progress(study: Path, key: str) -> None:
    """Removes what a job said when it ran before."""
    _path(study, key).unlink(missing_ok=True)


def carry_out_here(job: Job, study: Path) -> Failure | None:
    """Carries out a job in this process, which was started for it. Returns its failure, which is
    recorded. An interrupt or SIGTERM ends the process; the run goes on from its checkpoint.
    """
    interrupt_on_signals()
    began, written = time.time(), 0.0

    def write(state: Literal["running", "done", "failed"], message: str) -> None:
        nonlocal written
        written = time.time()
        progress = Progress(state, message, began, socket.gethostname(), os.getpid())
        with contextlib.suppress(XtlError, OSError):  # a full disk: the run itself will say so
            write_record(_path(study, job.key), progress)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        if time.time() - written >= EVERY:
            write("running", text)

    try:
        write("running", "")
        send_progress_to(tell)
        failed = Worker(study, tell).carry_out(job)
        write("failed" if failed else "done", failed.error if failed else "")
    except KeyboardInterrupt:
        sys.exit(acknowledge_interrupt())
    finally:
        send_progress_to(None)
    return failed
