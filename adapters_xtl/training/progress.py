"""What a training shows while it runs, and what it costs."""

from __future__ import annotations

import time

from adapters_xtl.base import energy
from adapters_xtl.base.progress_lines import ProgressLine

__all__ = ["Cost", "Progress"]


class Progress:
    """Steps, loss, examples/s and time left: one line that is rewritten on a terminal and in a
    notebook, else one every ten seconds.
    """

    def __init__(self, examples_per_step: int) -> None:
        self._per_step = examples_per_step
        self._started = time.monotonic()
        self._first_step: int | None = None
        self._line = ProgressLine(unwatched=10)
        self.loss: float | None = None  # the last one logged

    def step(self, step: int, total: int) -> None:
        """Optimizer step `step` of `total` is done."""
        now = time.monotonic()
        if self._first_step is None:  # it also warms up, and is not timed
            self._first_step, self._started = step, now
        if not self._line.due and step < total:
            return
        timed, left = step - self._first_step, total - step
        rate = timed / max(now - self._started, 1e-9)
        minutes, seconds = divmod(int(left / rate) if rate else 0, 60)
        loss = "-" if self.loss is None else f"{self.loss:.3f}"
        speed = f"{rate * self._per_step:.0f}" if timed else "-"
        time_left = "- left" if left and not timed else f"{minutes}:{seconds:02d} left"
        self._line.show(
            f"step {step}/{total} · loss {loss} · {speed} examples/s · {time_left}", last=not left
        )

    def score(self, step: int, score: float) -> None:
        """The select rows were scored after `step`."""
        self._line.show(f"step {step}: select score {score:.2f}", last=True)


class Cost:
    """Seconds and joules of a training, those of the processes before this one included."""

    def __init__(self, device: str, seconds: float, joules: float | None) -> None:
        self._device = device
        self._seconds_before = seconds
        self._joules_before = joules if device == "cuda" else None
        self._started, self._first_reading = time.monotonic(), self._reading()

    def _reading(self) -> float | None:
        return energy.joules() if self._device == "cuda" else None

    def so_far(self) -> tuple[float, float | None]:
        """(seconds, joules or None where the device reports none)."""
        seconds = self._seconds_before + time.monotonic() - self._started
        reading = self._reading()
        if reading is None or self._first_reading is None or self._joules_before is None:
            return seconds, None
        return seconds, self._joules_before + reading - self._first_reading
