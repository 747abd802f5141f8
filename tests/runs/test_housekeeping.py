"""Runs listed by filters, checked, removed and cleared up, on stores in every state."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters_xtl.base.errors import RequestError
from adapters_xtl.cli.commands import runs as command
from adapters_xtl.runs import removal
from adapters_xtl.runs.leftovers import find_leftovers
from adapters_xtl.runs.records import METRICS, SPEC, write_record
from adapters_xtl.runs.run_filters import select
from adapters_xtl.runs.run_index import RunIndex, open_store
from adapters_xtl.runs.store import Store
from adapters_xtl.runs.stored_runs import list_runs
from tests.runs.stores import evaluation, partial, spec_of, training
from tests.runs.test_shared_store import (
    _as_other_user,
    _open_to_all,
    root_only,
)

A, B, C, D, E = (letter * 12 for letter in "abcde")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """mnli, xnli on mnli, an evaluation of that; panx alone; an interrupted run on mnli."""
    store = Store(tmp_path / "runs")
    mnli = training(store, "mnli", A, score=60)
    xnli = training(store, "xnli", B, [mnli], score=72.5, seed=2)
    evaluation(store, "pawsx", C, xnli)
    training(store, "panx", D, score=41, method="bottleneck")
    partial(store, "udpos", E, [mnli])
    return store


def _rm(store: Store, *ids: str, **flags: bool) -> list[str]:
    """Ids of the runs that `xtl runs rm` removes, in order."""
    options = {"with_children": False, "dry_run": False, **flags}
    payload, _ = command.remove_runs(ids, str(store.root), **options)
    return [entry["id"] for entry in payload["removed"]]


def _ids(store: Store, *filters: str) -> set[str]:
    return {run.id[0] for run in select(RunIndex.read(store), filters)}


def _everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*")}


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ("", "abcde"),
        ("task=xnli", "b"),
        ("task=x*,panx", "bd"),
        ("on=mnli", "be"),
        ("on=none", "acd"),
        ("method=lora kind=training state=finished", "ab"),
        ("method!=lora", "d"),
        ("kind=evaluation", "c"),
        ("state=partial", "e"),
        ("seed=2", "b"),
        ("seed=2,1 task=*nli", "ab"),
        ("bits=8", "abcde"),
        ("score>60", "b"),
        ("score>=60", "ab"),
        ("score<41", "c"),
        ("id=bb", "b"),
        ("id!=b,c", "ade"),
        ("compose=stack", "be"),
        ("backbone=mini data=hub protocol=clean", "abcde"),
        ("bytes>1000000", ""),
        ("age<0.5", "abcde"),
        ("age>0.5", ""),
        ("seconds<2 task=mnli", "a"),
    ],
)
def test_filters_select(store: Store, filters: str, ids: str) -> None:
    assert _ids(store, *filters.split()) == set(ids)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("taks=xnli", "did you mean 'task'"),
        ("task=xnlli", "did you mean 'xnli'"),
        ("task=zz*", "zz*"),
        ("method=Lora", "did you mean 'lora'"),
        ("kind=train", "did you mean 'training'"),
        ("on=mnlli", "did you mean 'mnli'"),
        ("backbone=minni", "did you mean 'mini'"),
        ("task=xnli,", "empty"),
        ("seed=one", "'one'"),
        ("bits=7", "32, 16, 8, 4"),
        ("score=70", "<="),
        ("task>xnli", "= and !="),
        ("id=xyz", "hex"),
        ("score", "'score>VALUE'"),
        ("bbbb", "id=bbbb"),
        ("", "KEY=VALUE"),
    ],
)
def test_what_no_run_can_have_is_refused(store: Store, text: str, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        _ids(store, text, "task=xnli")
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_all_that_is_wrong_with_filters_is_said_at_once(store: Store) -> None:
    with pytest.raises(RequestError) as refused:
        _ids(store, "taks=xnli", "seed=x", "kind=no")
    assert len(str(refused.value).split("\n")) == 3


def test_a_damaged_run_is_not_hidden_by_what_it_cannot_tell(store: Store) -> None:
    (store.path("xnli", B) / METRICS).write_text("{")
    assert _ids(store, "score>99") == {"b"} and _ids(store, "task=panx") == {"d"}
    assert _ids(store, "state=damaged") == {"b"}
    payload, shown = command.list_runs(["on=squad1"], str(store.root))
    assert payload["runs"][0]["damaged"] and any("damaged: xnli/" in str(part) for part in shown)


def test_a_list_tells_of_every_run(store: Store) -> None:
    payload, shown = command.list_runs([], str(store.root))
    by_id = {entry["id"]: entry for entry in payload["runs"]}
    assert set(by_id) == {A, B, C, D} and payload["partial"][0]["id"] == E
    entry = by_id[B]
    told = {key: entry[key] for key in ("task", "stack", "method", "seed", "score", "seconds")}
    assert told == {
        "task": "xnli",
        "stack": "mnli>xnli",
        "method": "lora",
        "seed": 2,
        "score": 72.5,
        "seconds": 1.5,
    }
    folder = store.path("xnli", B)
    assert entry["bytes"] == sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file()
    )
    assert any("partial: udpos/" in str(part) for part in shown)


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    training(store, "mnli", "abc" + "0" * 9)
    training(store, "panx", "abd" + "0" * 9)
    index = RunIndex.read(store)
    assert index.find("abc")[0].task == "mnli"
    assert index.find("panx/a")[0].task == "panx"
    assert index.find(str(tmp_path / "mnli" / ("abc" + "0" * 9)) + "/")[0].task == "mnli"
    with pytest.raises(RequestError, match=r"mnli/abc000000000, panx/abd000000000|panx.*mnli"):
        index.find("ab")
    for text in ("zz", "mnli/abd", "udpos/abc", "mnli/"):
        with pytest.raises(RequestError, match="no run"):
            index.find(text)


def test_show_tells_of_parents_children_and_files(store: Store) -> None:
    payload, _ = command.show_run("bbb", str(store.root))
    assert payload["parent_runs"] == [{"task": "mnli", "id": A, "path": str(store.path("mnli", A))}]
    assert [child["id"] for child in payload["children"]] == [C]
    assert {"name": "module/weights.safetensors", "bytes": 600} in payload["files"]
    assert payload["metrics"]["score"] == 72.5 and payload["spec"]["run"]["seed"] == 2


@pytest.mark.parametrize("state", ["damaged", "without manifest", "partial"])
def test_show_tells_what_can_be_read_of_other_runs(store: Store, state: str) -> None:
    path = store.path("xnli", B)
    if state == "damaged":
        (path / METRICS).write_text("{")
    elif state == "without manifest":
        (path / "manifest.json").unlink()
    payload, shown = command.show_run("e" if state == "partial" else "b", str(store.root))
    assert payload["metrics"] is None and payload["spec"]["id"] in (B, E)
    assert ("damaged" in payload) == (state != "partial") and shown


def test_a_run_that_others_stand_on_is_not_removed(store: Store) -> None:
    before = _everything(store)
    with pytest.raises(RequestError) as refused:
        _rm(store, "a", "zz")
    text = str(refused.value)
    for name in (f"xnli/{B}", f"pawsx/{C}", f"udpos/{E}", "--with-children", "zz"):
        assert name in text
    assert _rm(store, "a", with_children=True, dry_run=True)[-1] == A
    assert _everything(store) == before


def test_children_go_before_what_they_stand_on(store: Store) -> None:
    removed = _rm(store, "a", with_children=True)
    assert set(removed) == {A, B, C, E}
    assert removed.index(C) < removed.index(B) < removed.index(A)
    assert removed.index(E) < removed.index(A)
    assert [path.name for path in store.all()] == [D]
    assert not [path for path in store.root.rglob(".*")], "no lock, no scratch, nothing half gone"
    assert store.partial() == []


def test_several_runs_stand_on_each_other_and_go_together(store: Store) -> None:
    assert set(_rm(store, "c", "b")) == {C, B}
    assert store.find("mnli", A) is not None


@pytest.mark.parametrize("run_id", ["d", "e"])
def test_finished_and_partial_runs_go_by_their_id(store: Store, run_id: str) -> None:
    assert _rm(store, run_id)[0][0] == run_id
    assert _ids(store) == set("abcde") - {run_id}


def test_damaged_runs_go_by_their_id(store: Store) -> None:
    (store.path("panx", D) / "manifest.json").unlink()
    assert _rm(store, "d") == [D] and not store.path("panx", D).exists()


def test_a_run_that_is_a_link_goes_without_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    path = store.path("panx", D)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert _rm(store, "d") == [D]
    assert not os.path.lexists(path) and (tmp_path / "elsewhere" / SPEC).is_file()


def _in_another_process(work: Callable[[], None]) -> tuple[int, int]:
    """Forks a process that does `work`, tells so and waits; (its id, a pipe that ends it)."""
    told, tell = os.pipe()
    wait, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        try:
            work_context = work()
            os.write(tell, b"x")
            os.read(wait, 1)
            del work_context
        finally:
            os._exit(0)
    os.close(wait)
    os.read(told, 1)
    for handle in (told, tell):
        os.close(handle)
    return child, end


def test_a_run_that_a_process_works_on_is_not_removed(store: Store) -> None:
    def work() -> object:
        context = store.work("udpos", E, print)
        partial_run = context.__enter__().partial
        write_record(partial_run / SPEC, spec_of("udpos", E, [store.path("mnli", A)]))
        return context

    child, end = _in_another_process(work)
    try:
        with pytest.raises(RequestError, match=f"udpos/{E}: another process works on it"):
            _rm(store, "a", with_children=True)
        assert _ids(store) == set("abcde"), "all or nothing"
        payload, _ = command.collect_garbage(str(store.root), older_than=0, dry_run=False)
        assert payload["leftovers"] == [] and "a process works on it" in str(payload["kept"])
    finally:
        os.close(end)
        os.waitpid(child, 0)
    assert set(_rm(store, "e")) == {E}


def test_a_run_that_begins_may_stand_on_any(store: Store) -> None:
    def work() -> object:
        context = store.work("udpos", E, print)
        context.__enter__()  # it has not written yet what it is
        return context

    child, end = _in_another_process(work)
    try:
        with pytest.raises(RequestError, match=f"udpos/{E}.*try again"):
            _rm(store, "d")
    finally:
        os.close(end)
        os.waitpid(child, 0)
    assert _rm(store, "d") == [D]


def test_a_kill_while_removing_leaves_no_run_that_looks_finished(store: Store) -> None:
    child = os.fork()
    if child == 0:
        removal.shutil.rmtree = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        _rm(store, "d")
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert _ids(store) == set("abce") and list_runs(store)[1] == {}
    payload, _ = command.collect_garbage(str(store.root), older_than=7, dry_run=False)
    assert {entry["kind"] for entry in payload["leftovers"]} == {"half removed", "lock"}
    assert os.listdir(store.root / "panx") == []


def _check(store: Store, *filters: str) -> dict[str, str]:
    """Run's id → its problems in one text."""
    payload, _ = command.check_runs(filters, str(store.root))
    return {entry["id"]: "\n".join(entry["problems"]) for entry in payload["damaged"]}


def test_check_of_a_sound_store(store: Store) -> None:
    payload, shown = command.check_runs([], str(store.root))
    assert payload["checked"] == 4 and payload["damaged"] == payload["missing_parents"] == []
    sizes = (
        path.stat().st_size
        for run in store.all()
        for path in run.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    )
    assert payload["bytes"] == sum(sizes)
    assert "none damaged" in str(shown[-1])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte of the weights": (
        lambda path: (path / "module" / "weights.safetensors").write_bytes(b"y"),
        "module/weights.safetensors: sha256",
    ),
    "no weights": (
        lambda path: (path / "module" / "weights.safetensors").unlink(),
        "module/weights.safetensors: missing",
    ),
    "more weights": (
        lambda path: (path / "module" / "more").write_text("x"),
        "module/more: not in the manifest",
    ),
    "half a record": (lambda path: (path / METRICS).write_text('{"tasks'), "metrics.json: sha256"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json"),
    "half a manifest": (lambda path: (path / "manifest.json").write_text('{"fi'), "manifest.json"),
    "a directory for a file": (
        lambda path: ((path / METRICS).unlink(), (path / METRICS).mkdir()),
        "metrics.json",
    ),
    "a link in a circle": (
        lambda path: ((path / METRICS).unlink(), (path / METRICS).symlink_to(METRICS)),
        "metrics.json: cannot be read (Too many levels of symbolic links)",
    ),
    "another run's directory": (
        lambda path: (shutil.rmtree(path), shutil.copytree(path.parents[1] / "mnli" / A, path)),
        f"spec.json: is that of run {A}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_check_names_the_file_and_the_reason(damage: str, store: Store) -> None:
    work, words = DAMAGES[damage]
    work(store.path("panx", D))
    problems = _check(store)
    assert list(problems) == [D] and words in problems[D]
    assert _check(store, "task=xnli") == {} and list(_check(store, "task=panx")) == [D]
    assert str(store.root) not in problems[D]


def test_check_names_every_file_that_differs(store: Store) -> None:
    for name in (METRICS, "module/weights.safetensors"):
        (store.path("panx", D) / name).write_text("x")
    assert _check(store)[D].count("sha256") == 2


def test_check_names_parents_that_are_gone_or_are_others(store: Store) -> None:
    shutil.rmtree(store.path("mnli", A))
    payload, shown = command.check_runs([], str(store.root))
    assert payload["damaged"] == []
    (missing,) = payload["missing_parents"]
    assert missing["id"] == B and missing["parent"] == {"task": "mnli", "id": A}
    assert any(f"mnli/{A} is not in this store" in str(line) for line in shown)

    with store.work("mnli", A, print) as run:  # made again, with other weights
        shutil.copytree(store.path("panx", D), run.partial, dirs_exist_ok=True)
        (run.partial / "module" / "weights.safetensors").write_text("other")
        spec = json.loads((run.partial / SPEC).read_text())
        (run.partial / SPEC).write_text(json.dumps({**spec, "id": A, "task": "mnli"}))
        store.commit("mnli", A)
    assert "trained on mnli weights" in _check(store)[B]


def test_gc_takes_what_is_left_and_nothing_else(store: Store) -> None:
    root = store.root
    with store.work("qqp", A, print) as run:
        (run.partial / "x").write_text("1234")
        store.fail("qqp", A, "it failed")
    (root / "panx" / f".{D}.work").mkdir()
    (root / "panx" / f".{D}.work" / "checkpoint").write_bytes(b"z" * 5000)
    (root / "panx" / f".{'f' * 12}.lock").touch()
    (root / "studies" / "transfer-0123").mkdir(parents=True)
    (root / "studies" / "transfer-0123" / "study.json").write_text("{}")
    finished = {path: sorted(os.listdir(path)) for path in store.all()}
    before = _everything(store)

    payload, _ = command.collect_garbage(str(root), older_than=7, dry_run=True)
    kinds = {entry["kind"]: entry["bytes"] for entry in payload["leftovers"]}
    assert set(kinds) == {"failed run", "scratch", "lock"} and kinds["scratch"] == 5000
    assert payload["bytes"] == sum(kinds.values()) and _everything(store) == before
    assert [entry["path"] for entry in payload["kept"]] == [str(root / "udpos" / f"{E}.partial")]

    command.collect_garbage(str(root), older_than=7, dry_run=False)
    gone = before - _everything(store)
    assert all(name.startswith(("failed/", "panx/.")) for name in gone) and len(gone) > 4
    assert finished == {path: sorted(os.listdir(path)) for path in store.all()}
    assert (root / "studies" / "transfer-0123" / "study.json").is_file()

    old = time.time() - 8 * 86400
    for path in (*(root / "udpos").rglob("*"),):
        os.utime(path, (old, old))
    payload, _ = command.collect_garbage(str(root), older_than=9, dry_run=False)
    assert payload["leftovers"] == []
    payload, _ = command.collect_garbage(str(root), older_than=7, dry_run=False)
    (entry,) = payload["leftovers"]
    assert entry["kind"] == "partial run" and entry["bytes"] > 1000
    assert os.listdir(root / "udpos") == [], "its lock went with it"


def test_gc_leaves_a_run_that_lacks_but_its_name(store: Store) -> None:
    folder = store.root / "panx"
    os.replace(folder / D, folder / f"{D}.partial")  # killed between the manifest and the renaming
    found, kept = find_leftovers(store, 0)
    assert all(one.path.name != f"{D}.partial" for one in found)
    assert "finished but for its name" in kept[folder / f"{D}.partial"]


def test_studies_are_no_runs(store: Store) -> None:
    """Whatever their directories are called, and wherever they were put."""
    for name in ("studies/abcabcabcabc", "compare/abcabcabcabc", "mnli/abcabcabcabc"):
        folder = store.root / name
        folder.mkdir(parents=True)
        record = "comparison.json" if name.startswith("compare") else "study.json"
        (folder / record).write_text("{}")
    (store.root / "studies" / "mnli" / "0123456789ab").mkdir(parents=True)
    (store.root / "tensorboard" / "abcabcabcabc").mkdir(parents=True)
    assert {path.name for path in store.all()} == {A, B, C, D}
    assert list_runs(store)[1] == {} and store.without_manifest() == []


def test_links_that_lead_in_circles_are_no_runs(store: Store) -> None:
    (store.root / "loop").symlink_to("loop")
    (store.root / "mnli" / "loop").symlink_to("loop")
    (store.root / "up").symlink_to("..")
    (store.root / "panx" / D / "circle").symlink_to("..")
    assert _ids(store) == set("abcde") and _check(store) == {}
    command.collect_garbage(str(store.root), older_than=7, dry_run=True)
    assert _rm(store, "d") == [D]


def test_names_that_a_terminal_cannot_show_break_nothing(store: Store) -> None:
    root = os.fsencode(store.root)
    for name in (b"mnli/\xff", b"\x1b[2J", b"panx/a\nb"):
        os.makedirs(os.path.join(root, name))
        with open(os.path.join(root, name, b"manifest.json"), "w") as manifest:
            manifest.write("{}")
    with open(os.path.join(root, b"panx", D.encode(), b"module", b"\xff\x1b"), "w") as more:
        more.write("x")
    assert _ids(store) == set("abcde")
    problems = _check(store)
    assert list(problems) == [D] and problems[D].isprintable()
    payload, _ = command.show_run("d", str(store.root))
    assert all(entry["name"].isprintable() for entry in payload["files"])


def test_an_empty_store(tmp_path: Path) -> None:
    runs = str(tmp_path)
    payload, shown = command.list_runs([], runs)
    assert payload == {"runs": [], "partial": [], "unreadable": []} and shown == ["no runs"]
    assert command.check_runs([], runs)[0]["checked"] == 0
    assert command.collect_garbage(runs, older_than=7, dry_run=False)[0]["bytes"] == 0
    with pytest.raises(RequestError, match="no run"):
        command.show_run("abc", runs)


@pytest.mark.parametrize("left", [f".{A}.lock", f".{A}.removed-17"])
def test_a_store_whose_last_run_is_gone_is_still_one(left: str, tmp_path: Path) -> None:
    """Of a task of own rows, whose name is not known here; what a kill left of it can be freed."""
    task = tmp_path / "classify-0a1b2c3d"
    task.mkdir()
    (task / left).touch() if "lock" in left else (task / left).mkdir()
    assert command.list_runs([], str(tmp_path))[0]["runs"] == []
    freed, _ = command.collect_garbage(str(tmp_path), older_than=7, dry_run=False)
    assert freed["bytes"] == 0
    if "removed" in left:
        assert not list(tmp_path.rglob(left))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nowhere", "no such directory"),
        ("file", "not a directory"),
        ("other", "no store"),
        ("runs/mnli", "the store is"),
        (f"runs/mnli/{A}", "the store is"),
    ],
)
def test_what_is_no_store_is_refused(store: Store, place: str, words: str) -> None:
    above = store.root.parent
    (above / "file").touch()
    (above / "other" / "holiday").mkdir(parents=True)
    with pytest.raises(RequestError, match="--runs") as refused:
        open_store(str(above / place))
    assert words in str(refused.value) and "\n" not in str(refused.value)
    if "/" in place:
        assert str(refused.value).endswith(str(store.root))


@root_only
def test_what_another_user_may_not_do_is_explained(store: Store) -> None:
    root = store.root
    _open_to_all(root.parent)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = _everything(store)
    refused = _as_other_user(lambda: str(_rm(store, "d")))
    assert refused.startswith("RequestError") and "permission denied" in refused
    assert "\n" not in refused and "root" in refused
    kept = _as_other_user(
        lambda: str(command.collect_garbage(str(root), older_than=0, dry_run=False)[0])
    )
    assert "permission denied" in kept and "'leftovers': []" in kept
    assert _everything(store) == before

    store.path("panx", D).chmod(0o700)
    (root / "xnli").chmod(0o700)
    found = _as_other_user(lambda: json.dumps(command.check_runs([], str(root))[0]))
    answer = json.loads(found)
    (damaged,) = answer["damaged"]
    assert damaged["id"] == D and "permission denied" in damaged["problems"][0]
    (unreadable,) = answer["unreadable"]
    assert unreadable["path"] == str(root / "xnli")
    listed = _as_other_user(lambda: json.dumps(command.list_runs([], str(root))[0]))
    assert "permission denied" in json.loads(listed)["unreadable"][0]["reason"]
    root.chmod(0o700)
    assert "permission denied" in _as_other_user(lambda: str(command.list_runs([], str(root))))
