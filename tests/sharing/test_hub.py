"""Bundles on their way: folder hubs, a hub over HTTP with the real client, two users, parents,
interruptions.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import reset_sessions

from adapters_xtl.base.errors import MismatchError, RequestError, RunError, XtlError
from adapters_xtl.base.files import folder_digest, read_json
from adapters_xtl.cli.commands import hub as commands
from adapters_xtl.sharing import addresses, bundle, bundle_cache, hub_repository, shared_folder
from tests.bundles import QUICK, cache, change, pack_run, reseal, stack, train, twin
from tests.command_line import Running, complaints, xtl, xtl_json
from tests.hub_server import Cut, Failure, HubServer

ROOT = Path(__file__).parents[2]


def push(run: Path, dest: str, **options: Any) -> dict[str, Any]:
    given = {
        "runs": "runs",
        "with_parents": False,
        "private": False,
        "licence": "",
        "rows": "",
        "notify": lambda text: None,
    }
    payload, _ = commands.push(str(run), dest, **{**given, **options})
    return payload


def pull(text: str, out: Path | None = None, said: list[str] | None = None) -> dict[str, Any]:
    payload, _ = commands.pull(text, out, notify=(said if said is not None else []).append)
    return payload


def lying(place: str) -> Path:
    """The directory of a bundle in a folder."""
    return shared_folder.SharedBundle.at(place).path


class User:
    """Somebody with a cache of their own; `become()` makes this process theirs."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch = home, patch

    def become(self) -> None:
        self.patch.setenv("XTL_CACHE", str(cache(self.home / "xtl")))
        self.patch.setattr(constants, "HF_HUB_CACHE", str(self.home / "hf"))
        self.patch.setattr(constants, "HF_TOKEN_PATH", str(self.home / "token"))
        reset_sessions()

    @property
    def bundles(self) -> list[Path]:
        return sorted((self.home / "xtl/bundles").glob("[0-9a-f]" * 64))


@pytest.fixture
def ann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    user = User(tmp_path / "ann", monkeypatch)
    user.become()
    return user


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(tmp_path / "bob", monkeypatch)


@pytest.fixture
def mnli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack(tmp_path_factory, "mnli")


@pytest.fixture
def child(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PAWS-X above MNLI."""
    return stack(tmp_path_factory, "pawsx", on="mnli")


@contextlib.contextmanager
def asking(server: HubServer, patch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with server:
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(
            file_download,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        patch.delenv("HF_TOKEN", raising=False)
        patch.setattr(hub_repository, "PAUSE", 0.001)
        reset_sessions()
        yield server
    reset_sessions()


@pytest.fixture
def server(tmp_path: Path, ann: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    (tmp_path / "hub").mkdir()
    with asking(HubServer(tmp_path / "hub"), monkeypatch) as server:
        yield server


# a folder as a hub
# ----------------------------------------------------------------------------------------------------


def test_two_users_share_a_folder(ann: User, bob: User, child: Path, tmp_path: Path) -> None:
    dest = f"file:{tmp_path / 'drive'}"
    pushed = push(child, dest, with_parents=True)
    assert pushed["new"] and [each["task"] for each in pushed["parents"]] == ["mnli"]
    assert pushed["place"].startswith(f"{dest}/pawsx-on-mnli-bottleneck-tiny@")
    again = push(child, dest, with_parents=True)
    assert (again["new"], again["place"], again["parents"]) == (
        False,
        pushed["place"],
        [],
    ), "nothing changes"
    bob.become()
    found = pull(f"{dest}/pawsx-on-mnli-bottleneck-tiny", tmp_path / "out")
    assert [each["task"] for each in found["parents"]] == ["mnli"] and len(bob.bundles) == 2
    assert (
        folder_digest(tmp_path / "out/module")
        == folder_digest(child / "module")
        == found["module_sha256"]
    )
    shutil.rmtree(tmp_path / "drive")
    assert pull(str(tmp_path / "out"))["parents"] == found["parents"], (
        "what was pulled is there without the drive"
    )
    assert not list((bob.home / "xtl/bundles/partial").glob("*/*"))


def test_a_second_place_of_a_parent_changes_nothing(
    ann: User, child: Path, mnli: Path, tmp_path: Path
) -> None:
    first = push(child, f"file:{tmp_path}/one", with_parents=True)
    other = push(child, f"file:{tmp_path}/two", with_parents=True)
    push(mnli, f"file:{tmp_path}/one/a-second-name")
    for dest, before in (("one", first), ("two", other)):
        again = push(child, f"file:{tmp_path}/{dest}", with_parents=True)
        assert (again["new"], again["place"]) == (False, before["place"])


def test_names_revisions_and_what_is_listed(ann: User, mnli: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    first = push(mnli, f"file:{drive}/nli")
    second = push(mnli, f"file:{drive}/nli", licence="mit")
    assert (
        second["new"]
        and second["module_sha256"] == first["module_sha256"]
        and second["place"] != first["place"]
    )
    push(mnli, f"file:{drive}", licence="mit")
    listed = commands.list_(f"file:{drive}", notify=print)[0]["bundles"]
    assert [(each["place"], each["newest"]) for each in listed if "/nli/" in each["place"]] == [
        (first["place"], False),
        (second["place"], True),
    ]
    assert (
        len(listed) == 3
        and len(commands.list_(f"file:{drive}/nli", notify=print)[0]["bundles"]) == 2
    )
    assert (
        pull(f"file:{drive}/nli")["digest"] == second["digest"]
        and pull(first["place"])["digest"] == first["digest"]
    )
    shown = commands.show(first["place"], notify=print)[0]
    assert shown["licence"] == "apache-2.0" and shown["module_sha256"] == first["module_sha256"]
    cached = commands.list_(None, notify=print)[0]["bundles"]
    assert {each["digest"] for each in cached} == {first["digest"], second["digest"]}
    assert push(mnli, f"file:{drive}/nli")["new"], "an older one pushed again becomes the newest"
    assert pull(f"file:{drive}/nli")["digest"] == first["digest"]
    for text, said in (
        (f"file:{drive}/nlp", "no bundle lies there"),
        (f"file:{drive}/mnli-bottleneck-tin", "did you mean 'mnli-bottleneck-tiny'"),
        (f"file:{drive}/nli@beef0000", "no revision 'beef0000'"),
        (f"file:{drive}", "which bundle? one of"),
        (f"file:{tmp_path}/no", "no bundle lies there"),
    ):
        with pytest.raises(RequestError, match=said.replace("?", r"\?")):
            pull(text)


@pytest.mark.parametrize(
    ("dest", "folder"),
    [
        ("hub", "hub"),
        ("hub/x", "hub/x"),
        ("mnli", "mnli"),
        ("a/b/hub", "a/b/hub"),
        ("hub/mnli-bottleneck-tiny", "hub"),
        ("mnli-bottleneck-tiny", "."),
    ],
)
@pytest.mark.parametrize("made", ["", "hub", "hub/x", "hub/mnli-bottleneck-tiny", "a/b/hub/file"])
def test_a_destination_means_the_same_whatever_lies_there(
    made: str, dest: str, folder: str, tmp_path: Path
) -> None:
    if made:
        (tmp_path / made).mkdir(parents=True)
    found = shared_folder.destination(f"file:{tmp_path / dest}", "mnli-bottleneck-tiny")
    assert found == (tmp_path / folder).absolute()


def test_what_is_pushed_below_a_folder_is_found_from_it(
    ann: User, mnli: Path, child: Path, tmp_path: Path
) -> None:
    """Whichever of DIR and DIR/NAME is pushed to first."""
    drive = tmp_path / "drive"
    for dests in (("", "/nli", "/nli/deeper"), ("/other/deeper", "/other", "")):
        for dest in dests:
            push(mnli, f"file:{drive}{dest}")
        shutil.move(drive, tmp_path / f"kept{dests[0].replace('/', '-')}")
        drive.mkdir()
    first = commands.list_(f"file:{tmp_path}/kept", notify=print)[0]["bundles"]
    assert len(first) == 3 and len({each["digest"] for each in first}) == 1
    push(child, f"file:{drive}/child", with_parents=True)
    assert pull(f"file:{drive}")["task"] == "pawsx", "not the parent that lies beside it"
    assert pull(f"file:{drive}/child")["task"] == "pawsx"


def test_a_folder_that_cannot_be_a_hub(ann: User, mnli: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for dest in (f"file:{tmp_path}/file", f"file:{tmp_path}/file/x"):
        with pytest.raises(RequestError, match="a file, not a directory"):
            push(mnli, dest)
    name = tmp_path / "drive/mnli-bottleneck-tiny"
    name.mkdir(parents=True)
    for text in ('{"revisions": ["../../x"]}', '{"revisions": [true]}', "[]", "{"):
        (name / "revisions.json").write_text(text)
        with pytest.raises(MismatchError, match=r"revisions\.json: "):
            push(mnli, f"file:{tmp_path}/drive")
    place = push(mnli, f"file:{tmp_path}/other")["place"]
    inside = place.removeprefix("file:").replace("@", "/")
    for dest in (inside, f"{inside}/module"):
        with pytest.raises(RequestError, match="inside of the bundle"):
            push(mnli, f"file:{dest}")
    (tmp_path / "old/bundles").mkdir(parents=True)
    (tmp_path / "old/index.json").write_text('{"bundles": {}}')
    with pytest.raises(RequestError, match="older version"):
        pull(f"file:{tmp_path}/old")
    with pytest.raises(RequestError, match="file:DIR/NAME"):
        push(mnli, "somewhere")


def test_parallel_pushes_all_end_up_in_the_index(mnli: Path, child: Path, tmp_path: Path) -> None:
    """Real processes, some with the same name and the same bundle, some not."""
    drive, count = tmp_path / "drive", 6
    dests = [(child, f"{drive}/n{number}") for number in range(count)] + [
        (child, f"{drive}/same")
    ] * 2
    dests += [(mnli, str(drive))] * 2
    caches = {"XTL_CACHE": str(tmp_path / "xtl")}
    jobs = [Running("hub", "push", run, f"file:{dest}", **caches) for run, dest in dests]
    assert [job.wait() for job in jobs] == [0] * len(jobs), [job.said() for job in jobs]
    names = {path.relative_to(drive).as_posix() for path in shared_folder.named_folders(drive)}
    pawsx = "pawsx-on-mnli-bottleneck-tiny"
    numbered = {f"n{number}/{pawsx}" for number in range(count)}
    assert names == {*numbered, f"same/{pawsx}", "mnli-bottleneck-tiny"}
    for name in names:
        (shared,) = shared_folder.revisions(drive / name)  # the same bundle twice is one revision
        assert bundle.read(shared.path).digest.startswith(shared.revision)
    listed = commands.list_(f"file:{drive}", notify=print)[0]["bundles"]
    assert len(listed) == count + 2


def test_a_push_that_was_killed_is_made_good(
    ann: User, bob: User, mnli: Path, tmp_path: Path
) -> None:
    dest = f"file:{tmp_path}/drive/mnli"
    place = push(mnli, dest)["place"]
    folder = lying(place)
    (folder / "module/adapter.safetensors").unlink()
    (folder.parent / ".aside-new").mkdir()
    bob.become()
    with pytest.raises(MismatchError, match=r"module/adapter\.safetensors.*No such file"):
        pull(dest)
    assert not bob.bundles
    ann.become()
    push(mnli, dest)
    bob.become()
    assert pull(dest)["task"] == "mnli" and not list(folder.parent.glob(".aside*"))


@pytest.mark.parametrize(
    "kind",
    [
        "a changed byte",
        "another bundle",
        "a link",
        "a pipe",
        "a linked directory",
        "missing",
        "longer than announced",
        "a pickle",
    ],
)
def test_a_folder_that_was_tampered_with(
    kind: str, ann: User, bob: User, mnli: Path, tmp_path: Path
) -> None:
    place = push(mnli, f"file:{tmp_path}/drive/mnli")["place"]
    folder = lying(place)
    weights = folder / "module/adapter.safetensors"
    if kind == "a changed byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    elif kind == "another bundle":
        change(folder, "bundle.json", lambda value: value.update(licence="mitt"))
        change(folder, "bundle.json", lambda value: value.update(licence="apache-2.1"))
        reseal(folder)
    elif kind == "a link":
        shutil.move(weights, tmp_path / "weights")
        weights.symlink_to(tmp_path / "weights")
    elif kind == "a linked directory":
        shutil.move(folder / "module", tmp_path / "module")
        (folder / "module").symlink_to(tmp_path / "module")
    elif kind in ("a pipe", "missing"):
        weights.unlink()
        os.mkfifo(weights) if kind == "a pipe" else None
    elif kind == "longer than announced":
        weights.write_bytes(weights.read_bytes() + b"\0" * 100)
    else:
        change(folder, "manifest.json", lambda value: value["files"].update({"x.bin": "0" * 64}))
        (folder / "x.bin").write_bytes(b"abc")
    bob.become()
    with pytest.raises(MismatchError) as caught:
        pull(place)
    said = {
        "a changed byte": "its sha256 is",
        "another bundle": "not the revision that was pushed",
        "a link": "symbolic link",
        "a pipe": "not a regular file",
        "a linked directory": "symbolic link",
        "missing": "No such file",
        "longer than announced": "not fully covered",
        "a pickle": "not the revision that was pushed",
    }
    assert said[kind] in str(caught.value) and not bob.bundles
    assert not list((bob.home / "xtl/bundles").glob("partial/*/*"))


def test_a_cached_bundle_that_was_changed_is_pulled_anew(
    ann: User, bob: User, mnli: Path, tmp_path: Path
) -> None:
    place = push(mnli, f"file:{tmp_path}/drive/mnli")["place"]
    bob.become()
    pull(place)
    config = bob.bundles[0] / "module/adapter_config.json"
    config.write_text(config.read_text().replace("relu", "gelu"))
    said: list[str] = []
    found = pull(place, said=said)
    assert any("was changed and is not used" in line for line in said)
    assert folder_digest(Path(found["path"]) / "module") == folder_digest(mnli / "module")


def test_what_can_be_no_place_is_refused_in_one_line(ann: User, mnli: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = push(mnli, f"file:{tmp_path}/drive/mnli")["place"]
    held = Path(pull(place)["path"])
    calls = {
        "no path": [
            lambda: pull("~nobody-here/x"),
            lambda: pull("file:~nobody-here/x"),
            lambda: pull("x" * 5000),
            lambda: push(mnli, "file:~nobody-here/x"),
            lambda: pull(place, Path("~nobody-here/x")),
        ],
        "names no directory": [lambda: push(mnli, "file:"), lambda: pull("file:")],
        "cannot be written": [
            lambda: push(mnli, "file:/proc/nothing"),
            lambda: pull(place, tmp_path / "file/x"),
            lambda: pull(place, Path("/proc/nothing")),
        ],
        "inside of the bundle itself": [
            lambda: pull(place, held / "module/x/y"),
            lambda: pull(place, held / "new"),
        ],
        "did you mean file:": [
            lambda: pull(f"{tmp_path}/drive/mnli"),
            lambda: commands.list_(str(tmp_path), notify=print),
        ],
        "takes file:DIR": [
            lambda: commands.list_("a/b", notify=print),
            lambda: commands.list_("", notify=print),
        ],
        "shared as it is": [
            lambda: push(held, f"file:{tmp_path}/two", licence="mit"),
            lambda: push(held, f"file:{tmp_path}/two", rows="x"),
        ],
    }
    for said, tried in calls.items():
        for call in tried:
            with pytest.raises(RequestError, match=said) as caught:
                call()
            assert "\n" not in str(caught.value)
    assert bundle.read(held).task == "mnli" and not (tmp_path / "two").exists()


# parents
# ----------------------------------------------------------------------------------------------------------


def test_a_missing_parent_names_both_digests_and_what_to_do(
    ann: User, bob: User, child: Path, mnli: Path, tmp_path: Path
) -> None:
    push(child, f"file:{tmp_path}/drive/child")
    bob.become()
    with pytest.raises(MismatchError) as caught:
        pull(f"file:{tmp_path}/drive/child")
    text = str(caught.value)
    assert folder_digest(mnli / "module") in text and folder_digest(child / "module") in text
    assert "no place is known" in text and "--with-parents" in text and "\n" not in text
    done = xtl("hub", "pull", f"file:{tmp_path}/drive/child", "-o", tmp_path / "out", code=2)
    assert folder_digest(mnli / "module") in complaints(done)[0] and not (tmp_path / "out").exists()


def test_no_directory_of_the_pushers_machine_is_named(
    ann: User, bob: User, child: Path, mnli: Path, tmp_path: Path
) -> None:
    """The parent lies in another folder: who pulls the child is told to have it pushed beside it."""
    push(mnli, f"file:{tmp_path}/one/mnli")
    said: list[str] = []
    place = push(child, f"file:{tmp_path}/two/child", notify=said.append)["place"]
    assert any("--with-parents" in line for line in said)
    for path in lying(place).rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
    bob.become()
    with pytest.raises(MismatchError, match="--with-parents"):
        pull(place)
    ann.become()
    said.clear()
    push(mnli, f"file:{tmp_path}/two/nli")
    push(child, f"file:{tmp_path}/two/child", notify=said.append)
    assert not said
    bob.become()
    assert [each["task"] for each in pull(place)["parents"]] == ["mnli"]


def test_a_parent_of_many_places_keeps_its_children_shareable(
    ann: User, child: Path, mnli: Path, tmp_path: Path
) -> None:
    known = bundle.read(pack_run(mnli, tmp_path / "mnli"))
    for number in range(60):
        bundle_cache.note(known, f"user-{number:02}/mnli@{'a' * 40}")
        bundle_cache.note(known, f"file:{tmp_path}/drive-{number}/mnli@{'a' * 12}")
    place = push(child, f"file:{tmp_path}/drive")["place"]
    (parent,) = bundle.read(lying(place)).record.parents
    assert 1 <= len(parent.where) <= 20
    assert all(where.startswith("user-") for where in parent.where)


def test_a_different_parent_names_both_digests(
    server: HubServer, bob: User, child: Path, mnli: Path, tmp_path: Path
) -> None:
    """The place that the child names holds another module by now."""
    push(mnli, "ann/mnli")
    other = train(tmp_path / "runs", "mnli", seed=2)
    folder = pack_run(child, tmp_path / "bundle", where=lambda sha256: ["ann/mnli"])
    push(other, "ann/mnli")
    bob.become()
    with pytest.raises(MismatchError) as caught:
        pull(str(folder))
    wanted, found = folder_digest(mnli / "module"), folder_digest(other / "module")
    assert wanted in str(caught.value)
    assert f"ann/mnli holds another module, {found}" in str(caught.value)


def test_pushing_what_stands_on_a_bundle(ann: User, bob: User, mnli: Path, tmp_path: Path) -> None:
    """Bob stacks on what Ann shared, shares that, and Ann pulls it: three links through one drive."""
    drive = f"file:{tmp_path}/drive"
    place = push(mnli, drive)["place"]
    bob.become()
    second = train(tmp_path / "bob-runs", "qqp", on=place)
    third = train(tmp_path / "bob-runs", "pawsx", on=str(second))
    assert read_json(third / "provenance.json")["lineage"]["parents"][0]["sha256"] == folder_digest(
        mnli / "module"
    )
    pushed = push(third, drive, with_parents=True)
    assert [each["task"] for each in pushed["parents"]] == ["qqp"], "MNLI is there already"
    ann.become()
    found = pull(pushed["place"])
    assert [each["task"] for each in found["parents"]] == ["mnli", "qqp"]
    assert [each["module_sha256"] for each in found["parents"]] == [
        folder_digest(mnli / "module"),
        folder_digest(second / "module"),
    ]


def test_a_parent_that_is_gone_cannot_be_pushed(ann: User, child: Path, tmp_path: Path) -> None:
    run = twin(child, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/mnli")
    with pytest.raises(MismatchError, match="cannot be pushed"):
        push(run, f"file:{tmp_path}/drive", with_parents=True)
    assert push(run, f"file:{tmp_path}/drive")["new"]


def test_out_is_whole_or_not_there(ann: User, mnli: Path, tmp_path: Path) -> None:
    place, out = push(mnli, f"file:{tmp_path}/drive/mnli")["place"], tmp_path / "a/b"
    assert pull(place, out)["path"] == str(out) == pull(place, out)["path"], (
        "the same again is no error"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "file").touch()
    for bad, said in ((tmp_path / "full", "not empty"), (tmp_path / "file", "a file")):
        with pytest.raises(RequestError, match=said):
            pull(place, bad)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
    (tmp_path / "empty").mkdir()
    pull(place, tmp_path / "empty")
    assert bundle.read(tmp_path / "empty").task == "mnli"


def test_what_can_be_no_bundle_is_left_to_others(
    ann: User, mnli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("mnli", mnli.name, str(mnli), "./nothing", "/nothing/here", "a/b/c"):
        assert addresses.locate(text, print) is None


def test_an_evaluation_leads_to_its_module(
    ann: User, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scored = stack(tmp_path_factory, "xquad")
    assert read_json(scored / "spec.json")["kind"] == "evaluation"
    assert push(scored, f"file:{tmp_path}/drive")["task"] == "squad1"


# a hub over HTTP
# ------------------------------------------------------------------------------------------------------


def test_two_users_share_on_a_hub(
    server: HubServer, bob: User, child: Path, tmp_path: Path
) -> None:
    pushed = push(child, "ann/pawsx", with_parents=True)
    assert [each["place"].split("@")[0] for each in pushed["parents"]] == [
        "ann/mnli-bottleneck-tiny"
    ]
    puts = [each.path for each in server.log if each.method == "PUT"]
    assert len(puts) == 4, "weights of two modules and two heads go to LFS"
    again = push(child, "ann/pawsx", with_parents=True)
    assert (
        not again["new"]
        and again["place"] == pushed["place"]
        and not any(each["new"] for each in again["parents"])
    )
    assert [each.path for each in server.log if each.method == "PUT"] == puts
    bob.become()
    shown = commands.show("ann/pawsx", notify=print)[0]
    assert shown["task"] == "pawsx" and server.sent(".safetensors") == 0
    assert shown["parents"][0]["where"] == [again["parents"][0]["place"]]
    found = pull("ann/pawsx", tmp_path / "out")
    assert [each["task"] for each in found["parents"]] == ["mnli"] and len(bob.bundles) == 2
    assert folder_digest(tmp_path / "out/module") == folder_digest(child / "module")
    listed = commands.list_("ann", notify=print)[0]["bundles"]
    assert [each["place"] for each in listed] == ["ann/mnli-bottleneck-tiny", "ann/pawsx"]
    asked = len(server.log)
    assert pull("ann/pawsx")["path"] in map(str, bob.bundles)
    assert not any("resolve" in each.path for each in server.log[asked:]), (
        "the second time nothing is fetched"
    )


def test_a_different_bundle_is_a_new_commit_and_the_old_one_stays(
    server: HubServer, bob: User, mnli: Path
) -> None:
    first, second = push(mnli, "ann/mnli"), push(mnli, "ann/mnli", licence="mit")
    assert second["new"] and first["place"] != second["place"]
    bob.become()
    assert pull(second["place"])["digest"] == second["digest"] == pull("ann/mnli")["digest"]
    extra = server.root / "ann/mnli/old-notes.txt"
    extra.write_text("left from before")
    with pytest.raises(MismatchError, match=r"old-notes\.txt: unknown file"):
        pull("ann/mnli")
    assert push(mnli, "ann/mnli")["new"] and not extra.exists(), "a push leaves exactly the bundle"
    assert pull("ann/mnli")["digest"] == pull(first["place"])["digest"] == first["digest"]


def test_pushes_at_the_same_time_do_not_mix(server: HubServer, mnli: Path, tmp_path: Path) -> None:
    push(mnli, "ann/mnli")
    theirs = pack_run(mnli, tmp_path / "theirs", licence="mit")

    def other() -> None:
        for path in theirs.rglob("*"):
            if path.is_file():
                shutil.copyfile(path, server.root / "ann/mnli" / path.relative_to(theirs))

    server.racing = other
    pushed = push(mnli, "ann/mnli", licence="bsd")
    assert pushed["new"] and sum(each.status == 412 for each in server.log) == 1
    assert pull("ann/mnli")["digest"] == pushed["digest"]


def test_a_parent_is_found_by_its_digest_on_the_same_hub(
    server: HubServer, bob: User, child: Path, mnli: Path
) -> None:
    """It was pushed after its child, so the child names no place."""
    push(child, "ann/pawsx")
    push(mnli, "ann/some-other-name")
    bob.become()
    assert [each["task"] for each in pull("ann/pawsx")["parents"]] == ["mnli"]


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (
            Failure(401, "RepoNotFound", "Invalid username or password."),
            RequestError,
            "no access to it; for a private one",
        ),
        (Failure(401), RequestError, "401"),
        (Failure(403, "GatedRepo", "restricted"), RequestError, "is gated"),
        (Failure(403, "", "Forbidden"), RequestError, "hf auth login"),
        (Failure(404), RequestError, "404"),
        (Failure(404, "RepoNotFound"), RequestError, "no model repository 'ann/mnli'"),
        (Failure(429), RunError, "try again later"),
        (Failure(500), RunError, "500"),
    ],
    ids=lambda value: f"{value.status}{value.code}" if isinstance(value, Failure) else "",
)
@pytest.mark.parametrize("when", ["", "/resolve/.*manifest"])
def test_refusals_are_one_clear_line(
    when: str,
    failure: Failure,
    kind: type[XtlError],
    said: str,
    server: HubServer,
    bob: User,
    mnli: Path,
) -> None:
    push(mnli, "ann/mnli")
    server.fail["ann/mnli"] = Failure(failure.status, failure.code, failure.message, when)
    bob.become()
    with pytest.raises(XtlError) as caught:
        pull("ann/mnli")
    assert (
        isinstance(caught.value, kind)
        and said in str(caught.value)
        and "\n" not in str(caught.value)
    )
    assert "ann/mnli" in str(caught.value) and not bob.bundles
    server.fail.clear()
    assert pull("ann/mnli")["task"] == "mnli"


@pytest.mark.parametrize("status", [401, 403, 429, 500])
@pytest.mark.parametrize("when", ["/api/repos/create", "/commit/", "/preupload/", "/info/lfs"])
def test_a_refused_push_is_one_clear_line(
    when: str, status: int, server: HubServer, mnli: Path
) -> None:
    server.fail["" if "create" in when else "ann/mnli"] = Failure(status, "", "because", when=when)
    with pytest.raises(XtlError) as caught:
        push(mnli, "ann/mnli")
    assert str(status) in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, RequestError) == (status in (401, 403))
    server.fail.clear()
    assert push(mnli, "ann/mnli")["new"]


def test_nobody_listens(
    server: HubServer, mnli: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with HubServer(tmp_path / "gone") as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    reset_sessions()
    for call in (lambda: pull("ann/mnli"), lambda: push(mnli, "ann/mnli")):
        with pytest.raises(RunError, match=r"connection refused"):
            call()


@pytest.mark.parametrize("name", ["module/adapter.safetensors", "bundle.json"])
def test_a_cut_connection_is_gone_on_with(
    name: str, server: HubServer, bob: User, mnli: Path
) -> None:
    push(mnli, "ann/mnli")
    size = (server.root / "ann/mnli" / name).stat().st_size
    server.cuts.append(Cut(name, after=1000, times=2))
    bob.become()
    assert pull("ann/mnli")["task"] == "mnli"
    sent = [
        each
        for each in server.log
        if each.path.endswith(name)
        and each.bytes
        and each.method == "GET"
        and "/tree/" not in each.path
    ]
    assert [each.status for each in sent] == [200, 206, 206] and sum(
        each.bytes for each in sent
    ) == size, "no byte twice"


def test_a_pull_that_failed_leaves_nothing_and_the_next_one_resumes(
    server: HubServer, bob: User, mnli: Path
) -> None:
    push(mnli, "ann/mnli")
    name = "module/adapter.safetensors"
    server.cuts.append(Cut(name, after=300, times=hub_repository.TRIES))
    bob.become()
    with pytest.raises(RunError) as caught:
        pull("ann/mnli")
    assert "the connection broke at 1,500 of 4,424 bytes" in str(caught.value) and not bob.bundles
    before = server.sent(name)
    assert pull("ann/mnli")["task"] == "mnli"
    assert server.sent(name) == 4424 > before == 1500
    assert not list((bob.home / "xtl/bundles").glob("partial/*/*"))


def test_a_killed_pull_is_gone_on_with(server: HubServer, bob: User, mnli: Path) -> None:
    """What a killed process left, damaged besides: the damaged file is fetched anew, the whole ones
    are kept.
    """
    pushed = push(mnli, "ann/mnli")
    bob.become()
    server.fail["ann/mnli"] = Failure(403, when=r"/resolve/.*head/mnli/model\.safetensors")
    with pytest.raises(RequestError):
        pull("ann/mnli")
    server.fail.clear()
    (partial,) = (bob.home / "xtl/bundles/partial").glob("ann--mnli@*[0-9a-f]")
    (partial / "bundle.json").write_bytes(b"x" * (partial / "bundle.json").stat().st_size)
    before = server.sent("README.md")
    assert pull("ann/mnli")["digest"] == pushed["digest"] and server.sent("README.md") == before


@pytest.mark.parametrize("name", ["module/adapter.safetensors", "README.md"])
def test_more_bytes_than_announced(name: str, server: HubServer, bob: User, mnli: Path) -> None:
    push(mnli, "ann/mnli")
    server.cuts.append(Cut(name, extra=50 << 20))
    bob.become()
    with pytest.raises(MismatchError, match=r"more bytes than"):
        pull("ann/mnli")
    assert not bob.bundles and not list((bob.home / "xtl/bundles").glob("partial/*/*"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("module/evil.pkl", b"cos\nsystem\n(S'true'\ntR.", r"module/evil\.pkl: a \.pkl file"),
        ("pytorch_model.bin", b"x", r"a \.bin file"),
        ("train.py", b"import os", "code"),
        ("more.txt", b"x", "unknown file"),
        ("head/xnli/config.json", b"{}", "not in the manifest"),
        ("module/adapter.safetensors", b"x" * 4424, "its sha256 is .*, not the manifest's"),
        ("module/adapter_config.json", b"{}", "its sha256 is"),
        ("bundle.json", b"[" * 9999, "nested deeper"),
        ("manifest.json", b"{}", "expected"),
        ("bundle.json", b" " * (5 << 20), "longer than"),
    ],
)
def test_a_repository_that_was_tampered_with(
    name: str, content: bytes, said: str, server: HubServer, bob: User, mnli: Path
) -> None:
    push(mnli, "ann/mnli")
    path = server.root / "ann/mnli" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    bob.become()
    before = server.sent(name)
    with pytest.raises(MismatchError, match=said):
        pull("ann/mnli")
    assert not bob.bundles
    if name.endswith((".pkl", ".bin", ".py", ".txt", ".safetensors")):
        assert server.sent(name) == before, "it is refused before it is fetched"


def test_offline_only_the_cache_is_used_and_the_message_says_so(
    server: HubServer, bob: User, child: Path, mnli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = push(child, "ann/pawsx", with_parents=True)["place"]
    bob.become()
    online = pull("ann/pawsx")
    asked = len(server.log)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said: list[str] = []
    assert pull("ann/pawsx", said=said) == online and pull(place) == online
    assert "HF_HUB_OFFLINE is set: ann/pawsx@" in said[0] and "from the cache" in said[0]
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE"):
        pull("ann/other")
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE"):
        push(mnli, "ann/mnli")
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE is set"):
        commands.list_("ann", notify=print)
    assert len(server.log) == asked


def test_a_token_is_read_by_the_client_and_shown_nowhere(
    tmp_path: Path, ann: User, bob: User, mnli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub").mkdir()
    with asking(HubServer(tmp_path / "hub", token="hf_secret"), monkeypatch):
        with pytest.raises(RequestError, match="hf auth login") as caught:
            push(mnli, "ann/mnli")
        assert "hf_" not in str(caught.value).replace("HF_TOKEN", "")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        place = push(mnli, "ann/mnli", private=True)["place"]
        bob.become()
        pull(place)
        monkeypatch.delenv("HF_TOKEN")
        (bob.home / "token").write_text("hf_wrong")
        with pytest.raises(RequestError) as caught:
            pull("ann/mnli")
        assert "hf_wrong" not in str(caught.value)
    places = (ann.home / "xtl/bundles", bob.home / "xtl/bundles", tmp_path / "hub")
    kept = [path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()]
    assert kept and not any(b"hf_secret" in each for each in kept)


def test_the_command_line_against_a_hub(tmp_path: Path, child: Path) -> None:
    """Two users as two processes with caches of their own; a recipe stacks on the bundle by its hub
    id.
    """
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub", token="hf_secret", public=True) as server:
        ann = {
            **server.environment(tmp_path / "ann"),
            "XTL_CACHE": str(tmp_path / "ann/xtl"),
            "HF_TOKEN": "hf_secret",
        }
        done = xtl("hub", "push", child, "ann/pawsx", "--with-parents", **ann)
        assert (
            "hf_secret" not in done.stdout + done.stderr
            and "pushed: ann/pawsx@" in done.stdout.replace("\n", "")
        )
        bob = {
            **server.environment(tmp_path / "bob"),
            "XTL_CACHE": str(cache(tmp_path / "bob/xtl")),
        }
        found = xtl_json("hub", "pull", "ann/pawsx", "-o", tmp_path / "out", **bob)
        assert found["path"] == str(tmp_path / "out") and len(found["parents"]) == 1
        assert xtl_json("hub", "verify", tmp_path / "out", **bob)["verified"] is True
        assert "HF_TOKEN" in complaints(xtl("hub", "push", child, "bob/pawsx", code=2, **bob))[0]
        offline = xtl("hub", "pull", "ann/pawsx", HF_HUB_OFFLINE="1", **bob)
        assert "HF_HUB_OFFLINE is set" in offline.stderr
        settings = [word for setting in QUICK for word in ("--set", setting)]
        stacked = xtl_json(
            "recipe",
            "qqp",
            "--on",
            "ann/pawsx",
            "--backbone",
            "tiny",
            "--data",
            "embedded",
            "--runs",
            tmp_path / "runs",
            *settings,
            **bob,
        )
        lineage = read_json(Path(stacked["path"]) / "provenance.json")["lineage"]["parents"]
        assert [each["task"] for each in lineage] == ["mnli", "pawsx"]
        assert lineage[1]["sha256"] == folder_digest(child / "module")
        missing = xtl("hub", "pull", "ann/nothing", code=2, **bob)
        (said,) = complaints(missing)
        assert "no model repository 'ann/nothing'" in said
    assert json.loads((tmp_path / "out/bundle.json").read_text())["task"] == "pawsx"


def test_a_proxy_is_used(tmp_path: Path, mnli: Path) -> None:
    """HTTP_PROXY is the client's own affair: the server here is the proxy, and the hub a name that
    nobody resolves.
    """
    (tmp_path / "hub").mkdir()
    with HubServer(tmp_path / "hub") as server:
        proxy, server.url = server.url, "http://hub.invalid"
        user = {
            **server.environment(tmp_path / "ann"),
            "XTL_CACHE": str(tmp_path / "xtl"),
            "no_proxy": "",
            "NO_PROXY": "",
        }
        done = xtl("hub", "pull", "ann/mnli", code=1, **user)
        assert complaints(done) == ["the hub could not be reached listing 'ann/mnli': no such host"]
        user |= {"http_proxy": proxy, "HTTP_PROXY": proxy}
        xtl("hub", "push", mnli, "ann/mnli", **user)
        assert (
            xtl_json("hub", "pull", "ann/mnli", **{**user, "XTL_CACHE": str(tmp_path / "other")})[
                "task"
            ]
            == "mnli"
        )
        assert any(each.path == "/api/repos/create" for each in server.log)


def test_make_share(tmp_path: Path) -> None:
    settings = " ".join(QUICK)
    command = [
        "make",
        "--no-print-directory",
        "-o",
        ".venv/.installed",
        "share",
        "TASK=qqp",
        "BACKBONE=tiny",
        "DATA=embedded",
        f"SET={settings}",
        f"RUNS={tmp_path}/runs",
        f"XTL={sys.executable} -m adapters_xtl",
    ]
    environment = {**os.environ, "XTL_CACHE": str(cache(tmp_path / "xtl"))}

    def make(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    without = make()
    assert without.returncode == 2 and "DEST=user/name" in without.stdout
    done = make(f"DEST=file:{tmp_path}/drive", "LICENCE=mit")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pushed: file:" in done.stdout
    assert shared_folder.named_folders(tmp_path / "drive") == [
        tmp_path / "drive/qqp-bottleneck-tiny"
    ]
    assert commands.show(f"file:{tmp_path}/drive", notify=print)[0]["licence"] == "mit"
    assert "already there" in make(f"DEST=file:{tmp_path}/drive", "LICENCE=mit").stdout


def test_a_pulled_bundle_is_shared_on_unchanged(
    ann: User, bob: User, mnli: Path, tmp_path: Path
) -> None:
    first = push(mnli, f"file:{tmp_path}/one/mnli")
    bob.become()
    second = push(Path(pull(first["place"])["path"]), f"file:{tmp_path}/two")
    assert second["digest"] == first["digest"] and "/two/mnli-bottleneck-tiny@" in second["place"]
