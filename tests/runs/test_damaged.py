"""One damaged run in a store: it is named, using it costs one line, and the others work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import file_digest
from adapters_xtl.base.typed_json import to_json
from adapters_xtl.cli.commands import hub
from adapters_xtl.cli.commands import plan as memory_plan
from adapters_xtl.cli.commands import runs as runs_command
from adapters_xtl.runs.records import METRICS, PROVENANCE, SPEC, write_record
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.store import Store, verify
from adapters_xtl.runs.stored_runs import list_runs, read_run
from tests.runs.test_records import METRICS as SCORES
from tests.runs.test_records import PROVENANCE as ORIGIN
from tests.runs.test_records import SPEC as TRAINING


def _run(store: Store, run_id: str) -> Path:
    """A finished run without weights: records are all that is read of it here."""
    with store.work("xnli", run_id, lambda text: None) as run:
        for name, record in ((SPEC, TRAINING), (PROVENANCE, ORIGIN), (METRICS, SCORES)):
            write_record(run.partial / name, record)
        return store.commit("xnli", run_id)


def _manifest(path: Path, text: str) -> None:
    (path / "manifest.json").write_text(text)


def _other_version(path: Path) -> None:
    value = {**to_json(TRAINING), "format": 1}
    (path / SPEC).write_text(json.dumps(value))
    files = {name: file_digest(path / name) for name in (SPEC, PROVENANCE, METRICS)}
    _manifest(path, json.dumps({"files": files}))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "spec is missing": lambda path: (path / SPEC).unlink(),
    "provenance is missing": lambda path: (path / PROVENANCE).unlink(),
    "metrics are cut short": lambda path: (path / METRICS).write_text('{"tasks": {'),
    "spec is binary": lambda path: (path / SPEC).write_bytes(b"\x00\xff\xfe"),
    "another version": _other_version,
    "manifest is empty": lambda path: _manifest(path, ""),
    "manifest is no object": lambda path: _manifest(path, "[1]"),
    "manifest has other files": lambda path: _manifest(path, '{"files": 3}'),
    "manifest leads out": lambda path: _manifest(path, '{"files": {"../x": "0"}}'),
    "manifest is missing": lambda path: (path / "manifest.json").unlink(),
    "manifest is a directory": lambda path: (
        (path / "manifest.json").unlink(),
        (path / "manifest.json").mkdir(),
    )[0],
    "a record is a fifo": lambda path: (  # whoever opened it would wait for ever
        (path / METRICS).unlink(),
        os.mkfifo(path / METRICS),
    )[0],
    "manifest is a fifo": lambda path: (
        (path / "manifest.json").unlink(),
        os.mkfifo(path / "manifest.json"),
    )[0],
    "a record is a directory": lambda path: (
        (path / METRICS).unlink(),
        (path / METRICS).mkdir(),
    )[0],
}


def _plan_on(name: str, store: Store, folder: Path) -> None:
    request = Request("mnli", on=(name,), backbone="tiny", method="lora", runs=str(store.root))
    memory_plan.plan(request, None)


def _push(name: str, store: Store, folder: Path) -> None:
    hub.push(
        name,
        f"file:{folder}/hub#x",
        runs=str(store.root),
        with_parents=False,
        private=False,
        licence="",
        rows="",
        notify=lambda text: None,
    )


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_damaged_run_is_named_and_the_others_work(damage: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    good, bad = _run(store, "a" * 12), _run(store, "b" * 12)
    DAMAGES[damage](bad)

    readable, damaged = list_runs(store)
    assert [run.path for run in readable] == [good] and list(damaged) == [bad]
    payload, _ = runs_command.list_runs([], str(store.root))
    by_id = {entry["id"]: entry for entry in payload["runs"]}
    assert "damaged" not in by_id["a" * 12] and by_id["b" * 12]["damaged"]

    with pytest.raises(RequestError) as refused:  # (MismatchError is one)
        read_run(bad)
    assert str(bad) in str(refused.value) and "\n" not in str(refused.value)
    for name in (str(bad), bad.name):  # by its directory, by its id
        for use in (_plan_on, _push):
            with pytest.raises(RequestError) as refused:
                use(name, store, tmp_path)
            message = str(refused.value)
            assert str(bad) in message and "\n" not in message
    assert not (tmp_path / "hub").exists()


def test_verify_names_what_is_wrong_with_a_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, text in enumerate(("", "3", "{}", '{"files": {"a": 1}}', '{"files": {}, "b": 1}')):
        path = _run(store, f"{number:012d}")
        _manifest(path, text)
        with pytest.raises(MismatchError, match=r"manifest\.json"):
            verify(path)


def test_a_run_that_is_moved_away_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    bad = _run(store, "b" * 12)
    (bad / SPEC).unlink()
    shutil.move(bad, tmp_path / "aside")
    with store.work("xnli", "b" * 12, lambda text: None) as run:
        assert run.finished is None


def test_other_directories_of_a_store_are_no_damaged_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("compare/xnli-0123456789ab", "mnli/0123456789ab.partial/work", "failed/x"):
        (tmp_path / name).mkdir(parents=True)
    assert list_runs(store) == ([], {})
