"""A store that several users share: the umask decides, and what may not be opened is explained."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import recipe
from adapters_xtl.cli.commands import runs as runs_command
from adapters_xtl.runs.store import Store, verify
from adapters_xtl.runs.stored_runs import list_runs

GROUP, OTHER_USER = 54321, 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root may")


@pytest.fixture
def with_umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda umask: os.umask(umask) and None
    os.umask(before)


def _as_other_user(work: Callable[[], str], group: int = GROUP) -> str:
    """What `work` returns in a forked process of another user of the group."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(OTHER_USER)
            text = work()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(theirs, text.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def _open_to_all(path: Path) -> None:
    """Lets other users come as far as `path` (pytest's own directories are its user's alone)."""
    for above in (path, *path.parents):
        if above.owner() == path.owner() and len(above.parts) > 2:
            above.chmod(above.stat().st_mode | 0o711)


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=oct)
@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_the_umask_decides_for_every_file_of_a_run(
    method: str, umask: int, runs: Path, with_umask: Callable[[int], None]
) -> None:
    with_umask(umask)
    request = recipe.request(
        task="qqp",
        on="",
        set_=["train.max_steps=2", "train.select_examples=20"],
        set_parents=[],
        method=method,
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(runs),
    )
    payload, _ = recipe.recipe(
        request, baseline=False, force=False, dry_run=False, notify=lambda text: None
    )
    path = Path(payload["path"])
    verify(path)
    modes = {
        str(each.relative_to(runs)): stat.S_IMODE(each.stat().st_mode)
        for each in [runs, *runs.rglob("*")]
    }
    expected = {name: (0o777 if (runs / name).is_dir() else 0o666) & ~umask for name in modes}
    assert modes == expected


@root_only
def test_a_group_goes_on_with_each_others_runs(
    tmp_path: Path, with_umask: Callable[[int], None]
) -> None:
    with_umask(0o002)
    _open_to_all(tmp_path)
    root = tmp_path / "runs"
    root.mkdir()
    os.chown(root, -1, GROUP)
    root.chmod(0o2775)
    store = Store(root)
    with store.work("mnli", "a" * 12, lambda text: None) as run:
        (run.partial / "work" / "checkpoint").write_text("x")

    def go_on() -> str:
        with store.work("mnli", "a" * 12, lambda text: None) as run:
            text = (run.partial / "work" / "checkpoint").read_text()
            (run.partial / "metrics.json").write_text("{}")
            store.commit("mnli", "a" * 12)
        return text

    assert _as_other_user(go_on) == "x"
    verify(store.path("mnli", "a" * 12))


@root_only
def test_what_may_not_be_opened_is_named_with_what_to_do(
    tmp_path: Path, with_umask: Callable[[int], None]
) -> None:
    with_umask(0o077)
    root = tmp_path / "runs"
    store = Store(root)
    with store.work("mnli", "a" * 12, lambda text: None) as run:
        (run.partial / "metrics.json").write_text("{}")
        store.commit("mnli", "a" * 12)
    _open_to_all(tmp_path)
    for folder in (tmp_path, root):
        folder.chmod(0o755)

    def work() -> str:
        with store.work("mnli", "a" * 12, lambda text: None):
            return "worked"

    refused = _as_other_user(work)
    assert refused.startswith(RequestError.__name__) and "\n" not in refused
    assert str(root / "mnli") in refused and "root" in refused and "chmod" in refused

    (root / "mnli").chmod(0o777)
    refused = _as_other_user(work)  # the lock file is free, the run's own directory is not
    assert "worked" in refused or refused.startswith(RequestError.__name__)
    listed = _as_other_user(lambda: str(list_runs(store)[1]))
    assert "a" * 12 in listed and "permission denied" in listed
    assert "damaged" in _as_other_user(lambda: str(runs_command.list_runs([], str(root))[0]))
