"""Inputs of `xtl predict`: JSON lines of a file or a pipe, in chunks, each with its line number."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from adapters_xtl.base.errors import DataError, Problems
from adapters_xtl.evaluation.inputs import example_of
from adapters_xtl.tasks import Task

__all__ = ["JsonLines", "NumberedExample"]

CHUNK = 256  # lines predicted together: enough to batch by length, few enough to stream
LONGEST = 64 << 20  # bytes of a line
PAUSE = 0.05  # seconds without a line, after which those that came are answered


@dataclass(frozen=True)
class NumberedExample:
    """An example and the number of its line, from 1."""

    line: int
    example: dict[str, Any]


class JsonLines:
    """The examples of a stream of JSON lines, for one task.

    `skip_bad`: lines that are none are counted in `skipped`, reported and left out; otherwise they
    are a DataError that names every bad line of the chunk.
    """

    def __init__(
        self, name: str, task: Task, skip_bad: bool, notify: Callable[[str], None]
    ) -> None:
        self._name, self._task = name, task
        self._skip_bad, self._notify = skip_bad, notify
        self.skipped = 0

    def chunks(self, file: IO[bytes]) -> Iterator[list[NumberedExample]]:
        """The examples as they come, up to CHUNK at once; blank lines are passed over."""
        start = 1
        for block in _blocks(file, self._name):
            problems, examples = Problems(), []
            for number, line in enumerate(block, start):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    if text:
                        example = example_of(self._task, json.loads(text))
                        examples.append(NumberedExample(number, example))
                except (DataError, ValueError, RecursionError) as error:
                    problems.add(f"{self._name}: line {number}: {_reason(error)}")
            start += len(block)
            self.skipped += len(problems.messages)
            if problems.messages and not self._skip_bad:
                problems.add("--skip-bad leaves such lines out")
                problems.raise_if_any(DataError)
            for message in problems.messages:
                self._notify(f"skipped: {message}")
            if examples:
                yield examples


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return "not in UTF-8" if isinstance(error, UnicodeDecodeError) else "not a line of JSON"


def _blocks(file: IO[bytes], name: str) -> Iterator[list[bytes]]:
    """Lines of a file or a pipe: CHUNK at once, or as many as there are when whoever writes them
    pauses. DataError for a line that no text could fill: /dev/zero has no other.
    """
    handle = file.fileno()
    lines: list[bytes] = []
    parts: list[bytes] = []
    length = 0  # bytes of the line that is not yet whole
    while data := os.read(handle, 1 << 16):
        first, *rest = data.split(b"\n")
        parts.append(first)
        length += len(first)
        if rest:
            lines += [b"".join(parts), *rest[:-1]]
            parts, length = [rest[-1]], len(rest[-1])
        if length > LONGEST:
            raise DataError(
                f"{name}: a line of more than {LONGEST >> 20} MiB: this is no file of JSON lines"
            )
        while len(lines) >= CHUNK:
            yield lines[:CHUNK]
            del lines[:CHUNK]
        # Windows cannot wait for a file or a pipe
        if lines and (os.name == "nt" or not select.select([handle], [], [], PAUSE)[0]):
            yield lines
            lines = []
    lines.append(b"".join(parts))
    yield lines
