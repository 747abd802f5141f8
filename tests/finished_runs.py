"""Finished runs on the tiny backbone, each trained once for all tests of a session.

They lie in a store that all processes of the session share and no test is given: each test gets
copies in a store of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters_xtl.backbones import embedded
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.runs.stored_runs import read_run

QUICK = ("train.max_steps=3", "train.eval_every=2", "train.select_examples=20")


def settings(usual: Sequence[str], *own: str) -> list[str]:
    """`key=value` texts: those of `usual` whose key none of `own` has, and these."""
    keys = {setting.partition("=")[0] for setting in own}
    return [*(setting for setting in usual if setting.partition("=")[0] not in keys), *own]


def run_recipe(
    runs: Path,
    task: str,
    *,
    on: str = "",
    set_: Sequence[str] = QUICK,
    set_parents: Sequence[str] = QUICK,
    force: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> dict[str, Any]:
    """What `xtl recipe` answers, in this process, on `tiny` and the sample rows."""
    embedded.prepare(lambda text: None)
    asked = commands.request(
        task=task,
        on=on,
        set_=list(set_),
        set_parents=list(set_parents),
        runs=str(runs),
        **{"backbone": "tiny", "data": "embedded", "device": "cpu", **options},
    )
    payload, _ = commands.recipe(asked, baseline=False, force=force, dry_run=False, notify=notify)
    return payload


def finished_run(runs: Path, task: str, **request: Any) -> dict[str, Any]:
    """The same, of a run that may have been trained for another test: it and what it stands on are
    copied into the store `runs`, and the answer is the one from there ("reused").

    Not for tests of training itself: of what a training says, costs, or leaves behind.
    """
    shared = Path(os.environ["XTL_TEST_RUNS"])
    _copy(Path(run_recipe(shared, task, **request)["path"]), runs)
    payload = run_recipe(runs, task, **request)
    assert payload["reused"], "the copy does not answer the request it was made for"
    return payload


def _copy(run: Path, runs: Path) -> None:
    copy = runs / run.parent.name / run.name
    if not copy.exists():
        shutil.copytree(run, copy)
    spec = read_run(run).spec
    for module in (*spec.parents, *([spec.module] if spec.module else [])):
        if module.id != spec.id:
            _copy(run.parent.parent / module.task / module.id, runs)
