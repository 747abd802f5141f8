"""Carry out the runs of a study: on this machine, on Ray, on Slurm.

What other wings use:

load      the engine of a name, with its options
job       `Job`: one run, with the jobs that must end before it; `Event`: what an engine reports;
          `Engine`: what carries out jobs
failures  `Failures`: the recorded errors of a study's jobs
trials    `resolved_request`: the request of a tuned job, with the settings of its best trial
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

from adapters_xtl.base.errors import RequestError, clipped, nearest
from adapters_xtl.base.files import public_files
from adapters_xtl.engines.job import Engine

__all__ = ["DEFAULT", "load", "names"]

DEFAULT = "local"
# files of this folder that are no engines
_SHARED = (
    "analysis",
    "failures",
    "job",
    "options",
    "remote",
    "schedule",
    "trials",
    "worker",
    "worker_process",
)


def names() -> tuple[str, ...]:
    """Names of all engines, sorted: the files of this folder but for those that they share."""
    return tuple(stem for stem in public_files(*__path__) if stem not in _SHARED)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load(
    name: str = DEFAULT,
    jobs: int = 0,
    options: Mapping[str, str] | None = None,
    notify: Callable[[str], None] = _say,
) -> Engine:
    """The engine `name` that carries out at most `jobs` jobs at a time.

    0 leaves it to the engine: one on this machine, as many as a cluster has room for.

    `options` are its own, as `--engine-set key=value` gives them; `notify` takes lines that are of
    no single job. RequestError, with the nearest name, where there is no such engine or option, or
    a package is missing that it needs.
    """
    if name not in names():
        raise RequestError(f"--engine: unknown engine '{clipped(name)}'{nearest(name, names())}")
    if jobs < 0:
        raise RequestError(f"--jobs {jobs}: takes a whole number, 0 for as many as can run")
    engine: Engine = importlib.import_module(f"{__name__}.{name}").engine(
        jobs, dict(options or {}), notify
    )
    return engine
