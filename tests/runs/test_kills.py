"""A process is killed at every system call of a commit: nothing is lost, nothing half-done counts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl.cli.commands import recipe
from adapters_xtl.runs.store import Store, verify
from tests.command_line import Running

TASK, RUN = "mnli", "0123456789ab"
CALLS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link"}
KILLED = 87


def _partial_run(root: Path) -> None:
    """A run that has everything but its manifest, and the checkpoint that it was resumed from."""
    partial = root / TASK / f"{RUN}.partial"
    for name in ("spec.json", "module/model.safetensors", "work/checkpoint-8/model.safetensors"):
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_text(f"content of {name}")


def _killed_at(number: int, work: Callable[[], object]) -> bool:
    """Runs `work` in a forked process that ends at its system call `number`, as by SIGKILL. Returns
    whether it came so far.
    """
    child = os.fork()
    if child == 0:
        left = number
        original_sync = os.fsync

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(KILLED)

        def counted_sync(handle: int) -> None:
            count()
            original_sync(handle)

        try:
            sys.addaudithook(lambda event, _: count() if event in CALLS else None)
            os.fsync = counted_sync
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def _commit(store: Store) -> None:
    with store.work(TASK, RUN, lambda text: None) as run:
        for name in ("spec.json", "module/model.safetensors"):
            (run.partial / name).parent.mkdir(exist_ok=True)
            (run.partial / name).write_text(f"content of {name}")
        store.commit(TASK, RUN)


def _whole(path: Path) -> bool:
    verify(path)
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    return names == {"spec.json", "module/model.safetensors", "manifest.json"}


@pytest.mark.parametrize("replaced", [False, True], ids=["new", "again with --force"])
def test_a_commit_that_is_killed_anywhere_loses_nothing(replaced: bool, tmp_path: Path) -> None:
    finished_by_the_kill = 0
    for number in range(1000):
        store = Store(tmp_path / str(number))
        if replaced:
            _commit(store)
        _partial_run(store.root)
        killed = _killed_at(number, lambda store=store: store.commit(TASK, RUN))
        for path in store.all():  # what counts as finished is whole
            assert _whole(path)
        with store.work(TASK, RUN, lambda text: None, replace=replaced) as run:
            if run.finished is None:
                checkpoint = run.partial / "work" / "checkpoint-8" / "model.safetensors"
                # (a forced run that was published is not made again: then there is no work)
                assert (replaced and not killed) or checkpoint.is_file(), f"killed at {number}"
                assert [path.name for path in run.partial.iterdir()] == ["work"]
            else:
                finished_by_the_kill += 1
                assert _whole(run.finished)
        if not killed:
            break
    assert number > 10 and finished_by_the_kill > 2
    left = {path.name for path in (store.root / TASK).iterdir()}
    assert left <= {RUN, f"{RUN}.partial", f".{RUN}.lock"}


def test_what_a_kill_leaves_aside_is_in_no_finished_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _partial_run(tmp_path)
    partial = tmp_path / TASK / f"{RUN}.partial"
    (partial / ".spec.json.71-0a1b2c3d").write_text("{")
    (partial / "module" / ".adapter_config.json.k3v9x_2a").write_text("{")
    (partial / "predictions").mkdir()
    _commit(store)
    assert _whole(store.path(TASK, RUN))


def _die_before_renaming(last: str) -> None:
    """From now on this process ends, as by SIGKILL, where it would rename something to a name that
    ends in `last`.
    """
    rename = os.replace

    def rename_or_die(source: Any, target: Any) -> None:
        if str(target).endswith(last):
            os._exit(KILLED)
        rename(source, target)

    os.replace = rename_or_die  # type: ignore[assignment]


@pytest.mark.parametrize("moment", ["the manifest", "the directory"])
def test_a_training_that_is_killed_in_its_commit_is_not_done_again(moment: str, runs: Path) -> None:
    settings = ["train.max_steps=8", "train.eval_every=4", "train.select_examples=20"]
    request = recipe.request(
        task="qqp",
        on="",
        set_=settings,
        set_parents=[],
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(runs),
    )

    def call(dry_run: bool) -> tuple[dict[str, Any], list[str]]:
        lines: list[str] = []
        payload, _ = recipe.recipe(
            request, baseline=False, force=False, dry_run=dry_run, notify=lines.append
        )
        return payload, lines

    run_id = call(dry_run=True)[0]["id"]
    last = "manifest.json" if moment == "the manifest" else f"/{run_id}"
    flags = [word for setting in settings for word in ("--set", setting)]
    killed = Running(
        *("recipe", "qqp", "--backbone", "tiny", "--data", "embedded", "--device", "cpu"),
        *("--runs", runs, *flags),
        before=partial(_die_before_renaming, last),
    )
    assert killed.wait() == KILLED, killed.said()
    assert Store(runs).all() == []
    payload, lines = call(dry_run=False)
    verify(Path(payload["path"]))
    if moment == "the directory":  # everything was there: nothing is left to do
        assert payload["reused"] and not any("training" in line for line in lines)
    else:
        assert any(line.startswith("resuming from step 8 of 8") for line in lines)
