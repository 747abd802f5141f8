"""What an engine is given, what it reports, and what every engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from adapters_xtl.engines.analysis import Analysis
from adapters_xtl.runs.request import Request

__all__ = ["Engine", "Event", "Job", "State", "Trial"]

State = Literal["waiting", "queued", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Trial:
    """Settings that are tried, and the trainings that try them, one for each tuning seed."""

    values: tuple[tuple[str, Any], ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Job:
    """One run that a study needs: a training, an evaluation of a trained module, or an analysis.

    key      names the job within its study, and its files: letters, digits, "-", "_" and "."
    title    for people: "mnli>panx, lora, seed 1"
    request  what is planned when the job starts
    module   id of the module of that plan which the job trains (a parent that several requests
             share, say); "" for all that the request asks, its scores included
    trials   the settings of the trial with the best select score are added to the request's
             overrides when the job starts; () where the request is complete. A trial that failed
             does not count; where every trial failed, so does the job
    after    keys of the jobs that must have ended well before this one starts
    awaits   keys of the jobs that must have ended before this one starts, well or not: its trials
    analysis what is computed of the encoder once the request is answered; None for nothing
    memory   predicted peak of the job's tensors in bytes; 0 where it cannot be predicted
    """

    key: str
    title: str
    request: Request
    module: str = ""
    trials: tuple[Trial, ...] = ()
    after: tuple[str, ...] = ()
    awaits: tuple[str, ...] = ()
    memory: int = 0
    analysis: Analysis | None = None


@dataclass(frozen=True)
class Event:
    """What became of a job.

    state    "waiting": for other jobs; "queued": handed to the engine's queue; "skipped": a job
             that it needed failed
    message  the error of a failed job; the job that failed before a skipped one; else what the run
             says about its progress ("step 20/150 · loss 0.9 · 0:40 left")
    seconds  since the job started, where it runs or has ended
    """

    key: str
    state: State
    message: str = ""
    seconds: float = 0.0


class Engine(Protocol):
    """Carries out jobs, each in the order that `after` asks."""

    name: str

    def carry_out(self, jobs: Sequence[Job], folder: Path, report: Callable[[Event], None]) -> None:
        """Returns when every job has ended. Each ends with one event: done, failed or skipped.

        A job's run is afterwards in the store that its request names. A job that fails does not
        stop the others; its error is kept in `folder` (the study's directory), where it is found
        again by the next call. A key that is not among `jobs` but in some `after` stands for a run
        that the store had. KeyboardInterrupt stops the engine in an orderly way and is raised
        again.
        """
        ...
