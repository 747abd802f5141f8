"""Two processes want the same run: one trains it, the other waits and takes it."""

from __future__ import annotations

import time
from pathlib import Path

from adapters_xtl.cli.commands import recipe
from tests.command_line import Running

SETTINGS = ["train.max_steps=60", "train.eval_every=30", "train.select_examples=20"]


def test_who_waited_for_a_run_says_that_it_was_reused(runs: Path) -> None:
    request = recipe.request(
        task="qqp",
        on="",
        set_=SETTINGS,
        set_parents=[],
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(runs),
    )
    flags = [word for setting in SETTINGS for word in ("--set", setting)]
    trainer = Running(
        *("recipe", "qqp", "--backbone", "tiny", "--data", "embedded", "--device", "cpu"),
        *("--runs", runs, *flags),
    )
    # it holds the lock once it says that it trains
    while trainer.poll() is None:
        if any(line.startswith("training qqp") for line in trainer.said()):
            break
        time.sleep(0.01)
    lines: list[str] = []
    payload, _ = recipe.recipe(
        request, baseline=False, force=False, dry_run=False, notify=lines.append
    )
    assert trainer.wait(120) == 0
    assert payload["reused"] is True
    assert not any(line.startswith("training qqp") for line in lines)
    assert payload["metrics"]["train"]["steps"] == 60
