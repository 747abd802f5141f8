"""The live view of a study: one screen in a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_xtl.cli.live import JobStates, LiveView, duration
from adapters_xtl.engines.job import Event, Job
from adapters_xtl.runs.request import Request

JOBS = [
    Job("a", "mnli, lora, seed 1", Request("mnli")),
    Job("b", "mnli>panx, lora, seed 1", Request("panx"), after=("a",)),
    Job("c", "panx, lora, seed 1", Request("panx")),
    Job("d", "panx, full, seed 1", Request("panx")),
]
SCORES = {"a": 61.5, "c": 40.25, "d": 44.75}


def _carry_out(view: LiveView) -> None:
    """One job does well, one fails, and one is skipped for it; one does best."""
    for event in (
        Event("a", "running"),
        Event("a", "running", "step 3/20 · loss 0.91 · 0:40 left", 2.0),
        Event("a", "failed", "the loss is nan at step 4\nTraceback", 3.0),
        Event("b", "skipped", "mnli, lora, seed 1"),
        Event("c", "running"),
        Event("c", "done", "", 65.0),
        Event("d", "running"),
        Event("d", "done", "", 4000.0),
    ):
        view.report(event)


def _piped(use: Callable[[LiveView], None]) -> list[str]:
    """The lines that a view writes into a real pipe."""
    ours, theirs = os.pipe()
    with (
        os.fdopen(theirs, "w") as stream,
        LiveView(JOBS, score_of=lambda job: SCORES[job.key], stream=stream) as view,
    ):
        use(view)
    with os.fdopen(ours) as written:
        return written.read().splitlines()


def test_a_pipe_gets_one_line_for_each_start_and_each_end() -> None:
    assert _piped(_carry_out) == [
        "0 of 4 done · 4 left",
        "[0/4] mnli, lora, seed 1: started",
        "[1/4] mnli, lora, seed 1: failed after 0:03: the loss is nan at step 4",
        "[2/4] mnli>panx, lora, seed 1: skipped: mnli, lora, seed 1",
        "[2/4] panx, lora, seed 1: started",
        "[3/4] panx, lora, seed 1: done in 1:05, score 40.25",
        "[3/4] panx, full, seed 1: started",
        "[4/4] panx, full, seed 1: done in 1:06:40, score 44.75",
        "2 of 4 done · 1 failed · 1 skipped · 0 left",
    ]


class _Heard(io.StringIO):
    """A stream that tells when a line about steps was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = threading.Event()

    def write(self, text: str) -> int:
        if "step" in text:
            self.steps.set()
        return super().write(text)


def test_long_runs_that_say_nothing_are_told_of() -> None:
    stream = _Heard()
    with LiveView(JOBS, stream=stream, quiet=0.02) as view:
        view.report(Event("a", "running"))
        view.report(Event("a", "running", "step 3/20", 3.0))
        assert stream.steps.wait(30)
    signs = [line for line in stream.getvalue().splitlines() if "step" in line]
    expected = "0 of 4 done · 1 running · 3 left; mnli, lora, seed 1: step 3/20"
    assert set(signs) == {expected}


def test_no_line_is_written_for_every_step() -> None:
    def many_steps(view: LiveView) -> None:
        for step in range(50):
            view.report(Event("a", "running", f"step {step}/50", float(step)))

    assert len(_piped(many_steps)) == 3


def _on_a_terminal(use: Callable[[LiveView], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a view writes to a real pseudo-terminal, with escapes."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with LiveView(JOBS, score_of=lambda job: SCORES[job.key], clock=lambda: 0.0) as view:
            use(view)
        assert sys.stderr is stream
        monkeypatch.undo()
    return _all_of(master)


def _all_of(master: int) -> str:
    """What was written to a pseudo-terminal that is closed now."""
    text = b""
    with contextlib.suppress(OSError):  # its end is an error on Linux
        while part := os.read(master, 1 << 16):
            text += part
    os.close(master)
    return text.decode()


def _last_screen(written: str) -> str:
    """What the screen shows in the end: the text after the last time that it was cleared."""
    last = written[written.rindex("\x1b[2K") :]
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "")


def test_a_terminal_gets_one_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _last_screen(_on_a_terminal(_carry_out, monkeypatch))
    assert "2 of 4 done · 1 failed · 1 skipped · 0 left" in screen
    assert "best panx: 44.75 (panx, full, seed 1)" in screen and "40.25" not in screen
    assert "failed: mnli, lora, seed 1: the loss is nan at step 4" in screen


def test_what_runs_is_on_the_screen_and_other_output_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unfinished(view: LiveView) -> None:
        view.report(Event("c", "running", "step 3/20 · loss [red]0.91[/red]", 62.0))
        print("a library warns", file=sys.stderr)
        assert not sys.stderr.isatty(), "whoever rewrites lines would write over the screen"

    written = _on_a_terminal(unfinished, monkeypatch)
    assert written.count("a library warns") == 1
    screen = _last_screen(written)
    assert "panx, lora, seed 1" in screen and "loss [red]0.91[/red]" in screen
    assert "1:02" in screen and "1 running · 3 left" in screen


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "dumb")
    with os.fdopen(slave, "w") as stream, LiveView(JOBS, stream=stream) as view:
        view.report(Event("a", "running"))
    text = _all_of(master)
    assert "[0/4] mnli, lora, seed 1: started" in text and "\x1b" not in text


def test_the_time_left_follows_from_the_jobs_that_ended() -> None:
    now = [0.0]
    states = JobStates(JOBS, lambda: now[0])
    states.take(Event("a", "running"))
    assert states.seconds_left() is None
    states.take(Event("a", "done", "", 100.0))
    assert states.seconds_left() == 300.0  # three to go, one at a time
    states.take(Event("b", "running"))
    states.take(Event("c", "running"))
    assert states.seconds_left() == 150.0  # two at once
    now[0] = 60.0
    assert states.seconds_left() == (40 + 40 + 100) / 2
    for key in ("b", "c"):
        states.take(Event(key, "failed", "x", 70.0))
    assert states.seconds_left() == 100.0, "one is left, and runs alone"
    assert [duration(s) for s in (0.4, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]


def test_an_interruption_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(view: LiveView) -> None:
        view.report(Event("a", "running"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _on_a_terminal(interrupted, monkeypatch)
    monkeypatch.undo()
    assert not isinstance(sys.stderr, type(None)) and "Above" not in type(sys.stderr).__name__
