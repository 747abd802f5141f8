"""What becomes of a study's runs while an engine carries them out, on stderr.

In a terminal one screen that is drawn again; elsewhere a line for each run that starts, ends or
fails, and once a minute a line that says how things stand.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adapters_xtl.base.untrusted import printable
from adapters_xtl.engines.job import Event, Job, State

__all__ = ["LiveView", "duration"]

QUIET = 60.0  # seconds without a line, after which one says how things stand
SHOWN_RUNNING, SHOWN_FAILED, SHOWN_BEST = 8, 4, 6  # lines of the screen
LONGEST = 200  # characters of a message
ENDED: tuple[State, ...] = ("done", "failed", "skipped")
SIGNS = {"done": "green", "running": "cyan", "failed": "red", "skipped": "yellow"}


def duration(seconds: float) -> str:
    """`0:41`, `12:03`, `2:00:05`."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class JobStates:
    """The last event of every job, and what follows from all of them.

    `clock` gives seconds; they say how long a job has been running since its last event.
    """

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        self.titles = {job.key: job.title for job in jobs}
        self.events: dict[str, Event] = {job.key: Event(job.key, "waiting") for job in jobs}
        self.heard: dict[str, float] = {}  # key → when its last event came
        self.most_at_once = 1
        self.clock = clock

    def take(self, event: Event) -> State:
        """Keeps an event; returns the state that the job had before it."""
        before = self.events.get(event.key, Event(event.key, "waiting")).state
        self.titles.setdefault(event.key, event.key)
        self.events[event.key] = event
        self.heard[event.key] = self.clock()
        self.most_at_once = max(self.most_at_once, len(self.having("running")))
        return before

    def having(self, state: State) -> list[Event]:
        return [event for event in self.events.values() if event.state == state]

    def elapsed(self, event: Event) -> float:
        """Seconds since a running job started."""
        return event.seconds + self.clock() - self.heard.get(event.key, self.clock())

    def seconds_left(self) -> float | None:
        """Predicted from the mean duration of the jobs that have ended well, and from how many ran
        at once; None before the first has.
        """
        durations = [event.seconds for event in self.having("done") if event.seconds > 0]
        if not durations:
            return None
        usual, running = sum(durations) / len(durations), self.having("running")
        open_jobs = sum(event.state not in ENDED for event in self.events.values())
        work = usual * (open_jobs - len(running))
        work += sum(max(usual - self.elapsed(event), 0.0) for event in running)
        return work / min(self.most_at_once, max(open_jobs, 1))

    @property
    def ended(self) -> int:
        return sum(event.state in ENDED for event in self.events.values())

    def summary(self) -> str:
        """`3 of 40 done · 2 running · 1 failed · 34 left · 0:41:00 to go`."""
        counts = Counter(event.state for event in self.events.values())
        left = counts["waiting"] + counts["queued"]
        parts = [f"{counts['done']} of {len(self.events)} done"]
        parts += [
            f"{counts[state]} {state}"
            for state in ("running", "queued", "failed", "skipped")
            if counts[state]
        ]
        parts.append(f"{left} left")
        seconds = self.seconds_left()
        if seconds is not None and self.ended < len(self.events):
            parts.append(f"about {duration(seconds)} to go")
        return " · ".join(parts)


class LiveView:
    """Shows what an engine reports, as a context manager: `report` takes the engine's events.

    jobs      what the engine carries out
    score_of  a finished job's score (0 to 100), or None where it has none: for "best so far"
    stream    where to write; stderr by default. A terminal gets a screen, anything else lines
    clock     seconds; for tests
    quiet     seconds without a line after which one says how things stand

    Events may come from several threads.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        score_of: Callable[[Job], float | None] | None = None,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: float = QUIET,
    ) -> None:
        self._jobs = {job.key: job for job in jobs}
        self._states = JobStates(jobs, clock)
        self._score_of = score_of
        self._best: dict[str, tuple[float, str]] = {}  # task → score, title of the job
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._streams = (sys.stdout, sys.stderr)  # what they were before the screen
        self._written = time.monotonic()
        self._over = threading.Event()
        self._timer: threading.Thread | None = None

    def __enter__(self) -> LiveView:
        self._streams = sys.stdout, sys.stderr
        if self._stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            console = Console(file=self._stream)
            self._live = Live(
                console=console,
                get_renderable=self._screen,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            above = _AboveTheScreen(console, self._stream)
            if sys.stdout is sys.stderr:  # as while a command runs: stdout is its answer's alone
                sys.stdout = above
            sys.stderr = above
            self._live.start(refresh=True)
        else:
            self._line(self._states.summary())
            self._timer = threading.Thread(target=self._sign_of_life, daemon=True)
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            sys.stdout, sys.stderr = self._streams
        if self._timer is not None:
            self._timer.join()
            self._line(self._states.summary())

    def report(self, event: Event) -> None:
        """Shows an event."""
        job, score = self._jobs.get(event.key), None
        if job is not None and event.state == "done" and self._score_of is not None:
            score = self._score_of(job)  # outside the lock: it may write above the screen
        with self._lock:
            before = self._states.take(event)
            if job is not None and score is not None:
                self._best[job.request.task] = max(
                    (score, job.title), self._best.get(job.request.task, (score, job.title))
                )
            if self._live is None and event.state != before:
                self._line_about(event, score)

    # lines

    def _line_about(self, event: Event, score: float | None) -> None:
        took = f" in {duration(event.seconds)}" if event.seconds > 0 else ""
        reason = f": {_one_line(event.message)}" if event.message else ""
        if event.state == "running":
            text = "started"
        elif event.state == "done":
            text = "done" + took + ("" if score is None else f", score {score:.2f}")
        elif event.state in ("failed", "skipped"):
            text = event.state + (took.replace(" in ", " after ")) + reason
        else:
            return
        ended = f"[{self._states.ended}/{len(self._states.events)}]"
        self._line(f"{ended} {self._states.titles[event.key]}: {text}")

    def _line(self, text: str) -> None:
        self._written = time.monotonic()
        print(text, file=self._stream, flush=True)

    def _sign_of_life(self) -> None:
        while not self._over.wait(min(1.0, self._quiet / 4)):
            with self._lock:
                if time.monotonic() - self._written >= self._quiet:
                    running = [
                        f"{self._states.titles[event.key]}: "
                        + (_one_line(event.message) or duration(self._states.elapsed(event)))
                        for event in self._states.having("running")[:3]
                    ]
                    self._line("; ".join([self._states.summary(), *running]))

    # the screen

    def _screen(self) -> RenderableType:
        with self._lock:
            states = self._states
            parts: list[RenderableType] = [Text(states.summary(), style="bold"), self._bar()]
            running = states.having("running")
            table = Table.grid(padding=(0, 2), expand=True)
            table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
            table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
            table.add_column(justify="right", no_wrap=True)
            for event in running[:SHOWN_RUNNING]:
                table.add_row(
                    Text(states.titles[event.key]),
                    Text(_one_line(event.message), style="dim"),
                    duration(states.elapsed(event)),
                )
            if running:
                parts.append(table)
            parts += [
                Text(text, style=style, no_wrap=True, overflow="ellipsis")
                for text, style in [
                    *_rest(len(running) - SHOWN_RUNNING, "more running", SIGNS["running"]),
                    *self._best_lines(),
                    *self._failure_lines(),
                ]
            ]
            return Group(*parts)

    def _bar(self) -> Text:
        """One character for each of at most 60 parts of the jobs, coloured by their states."""
        states = [event.state for event in self._states.events.values()]
        order: tuple[State, ...] = (*ENDED, "running")
        width, bar = min(60, max(len(states), 1)), Text(no_wrap=True)
        filled = 0
        for position, state in enumerate(order):
            count = sum(states.count(name) for name in order[: position + 1])
            until = round(count * width / max(len(states), 1))
            bar.append("█" * (until - filled), style=SIGNS[state])
            filled = until
        return bar.append("░" * (width - filled), style="dim")

    def _best_lines(self) -> list[tuple[str, str]]:
        best = sorted(self._best.items())
        lines = [
            (f"best {task}: {score:.2f} ({title})", SIGNS["done"])
            for task, (score, title) in best[:SHOWN_BEST]
        ]
        return [*lines, *_rest(len(best) - SHOWN_BEST, "more tasks", SIGNS["done"])]

    def _failure_lines(self) -> list[tuple[str, str]]:
        failed = self._states.having("failed")
        lines = [
            (f"failed: {self._states.titles[event.key]}: {_one_line(event.message)}", "red")
            for event in failed[-SHOWN_FAILED:]
        ]
        return [*_rest(len(failed) - SHOWN_FAILED, "more failed before these", "red"), *lines]


class _AboveTheScreen(FileProxy):
    """What else is written to stderr, above the screen; no terminal for whoever asks, so that
    nothing rewrites its lines there.
    """

    def isatty(self) -> bool:
        return False


def _one_line(message: str) -> str:
    return printable(next(iter(message.strip().splitlines()), ""), LONGEST)


def _rest(count: int, what: str, style: str) -> list[tuple[str, str]]:
    return [(f"and {count} {what}", style)] if count > 0 else []
