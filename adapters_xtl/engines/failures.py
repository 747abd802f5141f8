"""The errors of a study's jobs, one file a failed job in the study's directory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from adapters_xtl.base.errors import MismatchError, RequestError, XtlError, out_of_memory
from adapters_xtl.engines.job import Job
from adapters_xtl.runs.records import read_record, write_record

__all__ = ["Failure", "Failures", "failure", "utc"]

FOLDER = "failures"


@dataclass(frozen=True)
class Failure:
    """Why a job failed, as its file has it.

    error          in one line
    wrong_request  whether the request was wrong, so that it fails again; else it failed while it
                   ran
    time           when it failed, UTC, as `utc` gives it
    """

    key: str
    title: str
    error: str
    wrong_request: bool
    time: str


def failure(job: Job, error: Exception | str) -> Failure:
    """What is recorded of a job that this error ended now."""
    text = error if isinstance(error, str) else _in_one_line(error)
    return Failure(job.key, job.title, text, isinstance(error, RequestError), utc(time.time()))


def utc(seconds: float) -> str:
    """A time in seconds since the epoch as records have it: "2026-11-28T23:54:37Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _in_one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, XtlError):
        return "; ".join(lines)
    if out_of_memory(error):
        return "out of memory; a smaller train.batch_size or train.max_length needs less"
    return f"{type(error).__name__}: {next(iter(lines), '')}"


class Failures:
    """The recorded failures of the study whose directory is `study`."""

    def __init__(self, study: Path) -> None:
        self.folder = study / FOLDER

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def record(self, failed: Failure) -> None:
        """Writes a failure, whole or not at all. RunError where the disk is full."""
        write_record(self.path(failed.key), failed)

    def remove(self, key: str) -> None:
        """Removes the failure of a job that has ended well; there need be none."""
        self.path(key).unlink(missing_ok=True)

    def get(self, key: str) -> Failure | None:
        """The recorded failure of a job, or None. A file that is damaged still says that the job
        failed: its error is then the damage.
        """
        path = self.path(key)
        if not os.path.lexists(path):
            return None
        try:
            if not path.is_file():
                raise MismatchError(f"{path}: is no file")
            return read_record(Failure, path)
        except MismatchError as error:
            why = f"failed, but the record of why is damaged: {error}"
            return Failure(key, key, why, wrong_request=False, time="")

    def all(self) -> dict[str, Failure]:
        """Key → failure, of every job that failed when it was last tried."""
        paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        names = (path.name.removesuffix(".json") for path in paths if path.name[0] != ".")
        read = ((name, self.get(name)) for name in names)
        return {name: failed for name, failed in read if failed is not None}
