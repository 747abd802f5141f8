"""Run directories: finished or not, never in between."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.runs.store import Store, verify


def _quiet(text: str) -> None:
    pass


def _finish(store: Store, run_id: str = "0" * 12) -> Path:
    with store.work("mnli", run_id, _quiet) as run:
        (run.partial / "metrics.json").write_text("{}")
        return store.commit("mnli", run_id)


def test_a_run_is_found_only_once_committed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.work("mnli", "a" * 12, _quiet) as run:
        (run.partial / "metrics.json").write_text("{}")
        (run.partial / "work" / "checkpoint").write_text("x")
        assert store.find("mnli", "a" * 12) is None and store.all() == []
        store.commit("mnli", "a" * 12)
    found = store.find("mnli", "a" * 12)
    assert found is not None and store.all() == [found]
    assert (
        not (found / "work").exists()
        and not list(tmp_path.glob("mnli/*.partial"))
        and not list(tmp_path.glob("mnli/.*"))
    )
    verify(found)


def test_a_directory_without_manifest_is_not_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = _finish(store)
    (path / "manifest.json").unlink()
    assert store.find("mnli", path.name) is None
    again = _finish(store)  # what lay there is kept aside, not lost
    assert again == path and list((tmp_path / "failed").iterdir())


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    path = _finish(Store(tmp_path))
    (path / "metrics.json").write_text("{} ")
    with pytest.raises(MismatchError, match=r"metrics\.json"):
        verify(path)
    (path / "metrics.json").unlink()
    with pytest.raises(MismatchError, match="missing"):
        verify(path)


def test_a_failed_run_is_kept_and_never_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.work("mnli", "b" * 12, _quiet):
        kept = store.fail("mnli", "b" * 12, "ValueError: no")
    assert kept is not None and (kept / "error.txt").read_text() == "ValueError: no\n"
    assert store.find("mnli", "b" * 12) is None and store.all() == []


def _hold(root: str, ready: object, seconds: float) -> None:
    store = Store(Path(root))
    with store.work("mnli", "c" * 12, _quiet) as run:
        ready.set()  # type: ignore[attr-defined]
        time.sleep(seconds)
        (run.partial / "metrics.json").write_text("{}")
        store.commit("mnli", "c" * 12)


def test_a_second_process_waits_and_finds_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), ready, 0.7))
    process.start()
    assert ready.wait(30)
    said: list[str] = []
    store = Store(tmp_path)
    with store.work("mnli", "c" * 12, said.append):
        assert store.find("mnli", "c" * 12) is not None
    process.join()
    assert said and "waiting" in said[0]


def test_runs_under_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="is a file"):
        Store(tmp_path / "file" / "runs").check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_root_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match="cannot be written"):
        Store(tmp_path / "runs").check_writable()
