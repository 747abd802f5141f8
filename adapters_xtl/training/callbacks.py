"""What watches a training go by: progress on stderr, its cost, and a last look at the loss."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from adapters_xtl.base import energy
from adapters_xtl.base.errors import RunError

__all__ = ["Cost", "Guard", "Progress"]


class Progress(TrainerCallback):  # type: ignore[misc]
    """Steps, loss, examples/s and time left on stderr: one line rewritten on a terminal, else one
    every ten seconds.
    """

    def __init__(self, per_step: int) -> None:
        self.per_step = per_step
        self.started = self.last = time.monotonic()
        self.first: int | None = None
        self.loss = float("nan")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = state.global_step, now
        terminal = sys.stderr.isatty()
        if now - self.last < (0.5 if terminal else 10) and state.global_step < state.max_steps:
            return
        self.last = now
        done, left = state.global_step - self.first, state.max_steps - state.global_step
        rate = done / max(now - self.started, 1e-9)
        minutes, seconds = divmod(int(left / rate) if rate else 0, 60)
        loss = "-" if math.isnan(self.loss) else f"{self.loss:.3f}"  # none is logged yet
        speed = (
            f"{rate * self.per_step:.0f}" if done else "-"
        )  # the first step also warms up, and is not timed
        text = (
            f"step {state.global_step}/{state.max_steps} · loss {loss} · "
            f"{speed} examples/s · {minutes}:{seconds:02d} left"
        )
        end = "\n" if not terminal or not left else ""
        print(("\r\x1b[K" if terminal else "") + text, end=end, file=sys.stderr, flush=True)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            self.loss = logs["loss"]
        if logs and "eval_score" in logs:
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""
            print(
                f"{clear}step {state.global_step}: select score {logs['eval_score']:.2f}",
                file=sys.stderr,
                flush=True,
            )


class Cost(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Seconds and joules of a training; checkpoints carry what they had cost, so that a resumed one
    counts whole.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds, self.joules = 0.0, 0.0 if device == "cuda" else None  # before this process
        self.started, self.reading = time.monotonic(), self._reading()

    def _reading(self) -> float | None:
        return energy.joules() if self.device == "cuda" else None

    def so_far(self) -> tuple[float, float | None]:
        now = self._reading()
        known = None not in (now, self.reading, self.joules)
        used = self.joules + now - self.reading if known else None  # type: ignore[operator]
        return self.seconds + time.monotonic() - self.started, used

    def state(self) -> dict[str, Any]:
        seconds, used = self.so_far()
        return {"args": {"device": self.device}, "attributes": {"seconds": seconds, "joules": used}}


class Guard(TrainerCallback):  # type: ignore[misc]
    """Evaluates after the last step too (the flow callback only saves there), and stops on a loss
    that is no number.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise RunError(
                f"the loss is {logs['loss']} at step {state.global_step}: lower train.lr or raise"
                " train.warmup"
            )
