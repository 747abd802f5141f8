"""The hub as a source, asked by the real client over HTTP: a server on loopback stands in for the
hub.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from adapters_xtl import tasks
from adapters_xtl.base.errors import DataError, RequestError
from adapters_xtl.data.locate import locate_report, locate_training
from adapters_xtl.data.reading import Reader, read_report, read_training
from adapters_xtl.data.repository import MissingRows
from adapters_xtl.data.sources import Hub, Mirror
from tests.hub_client import asking
from tests.hub_server import Failure, HubServer, commit

ROOT = Path(__file__).parents[2]


def nli(path: Path, count: int = 30, **more: Any) -> None:
    """MNLI's columns, with the hub's own description in the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "pairID": [f"{path.stem}-{number}" for number in range(count)],
            "premise": [f"premise {number} of {path.stem}" for number in range(count)],
            "hypothesis": [f"hypothesis {number}" for number in range(count)],
            "label": pa.array([number % 3 for number in range(count)], pa.int64()),
        }
    )
    names = more.get("names", ["entailment", "neutral", "contradiction"])
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    pq.write_table(
        table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        ),
        path,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hub with MNLI in two shards, as in `data/`, and PAN-X in two languages."""
    root = tmp_path / "hub"
    for split in ("train", "validation_matched", "validation_mismatched"):
        for shard in range(2):
            nli(root / "nyu-mll/multi_nli/data" / f"{split}-{shard:05d}-of-00002.parquet", 30)
    lines = "".join(
        f"  - split: {split}\n    path: data/{split}-*\n"
        for split in ("train", "validation_matched")
    )
    (root / "nyu-mll/multi_nli/README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}"
        "  - split: validation_mismatched\n    path: data/validation_mismatched-*\n---\n"
    )
    for code in ("de", "sw"):
        table = pa.table(
            {
                "tokens": [[code, "in", "Ulm"]] * 12,
                "ner_tags": pa.array([[0, 0, 5]] * 12, pa.list_(pa.int64())),
            }
        )
        path = root / f"google/xtreme/PAN-X.{code}/validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    return root


@pytest.fixture
def hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(root) as server, asking(server, tmp_path / "home", monkeypatch):
        yield server


def test_planning_downloads_no_rows_and_knows_the_mirrors_digests(
    hub: HubServer, root: Path
) -> None:
    source = Hub()
    files = locate_training(source, tasks.load("mnli"), "clean", tasks.load)
    assert (
        files.digests()
        == locate_training(Mirror(root), tasks.load("mnli"), "clean", tasks.load).digests()
    )
    assert [
        len(located.files[located.rows.split]) for located in (*files.train, *files.select)
    ] == [2, 2]
    assert hub.sent(".parquet") == 0
    assert source.revisions() == {"nyu-mll/multi_nli": commit(root / "nyu-mll/multi_nli")}


def test_rows_are_those_of_the_files(hub: HubServer, root: Path) -> None:
    task = tasks.load("mnli")
    wanted = read_training(
        Reader(), task, locate_training(Mirror(root), task, "clean", tasks.load), tasks.load
    )
    found = read_training(
        Reader(), task, locate_training(Hub(), task, "clean", tasks.load), tasks.load
    )
    assert found.train.examples == wanted.train.examples
    assert found.select.examples == wanted.select.examples
    assert len(found.train.examples) == 60
    size = sum(path.stat().st_size for path in (root / "nyu-mll/multi_nli/data").glob("train-*"))
    size += sum(
        path.stat().st_size
        for path in (root / "nyu-mll/multi_nli/data").glob("validation_matched-*")
    )
    assert hub.sent(".parquet") == size, "each file that is needed is fetched once, and no other"
    read_training(Reader(), task, locate_training(Hub(), task, "clean", tasks.load), tasks.load)
    assert hub.sent(".parquet") == size, "the second time all of it is in the cache"


def test_a_tree_of_many_pages(hub: HubServer) -> None:
    hub.page = 2
    assert (
        len(locate_training(Hub(), tasks.load("mnli"), "clean", tasks.load).train[0].digests) == 2
    )
    assert sum("tree" in each.path for each in hub.log) == 4


def test_languages_that_the_hub_lacks_are_named(hub: HubServer) -> None:
    found, lacking = locate_report(
        Hub(), tasks.load("panx"), "validation", ("de", "fr", "es", "sw")
    )
    assert (
        sorted(found) == ["de", "sw"]
        and "no split 'validation' of config 'PAN-X.fr'" in lacking["fr"]
    )
    assert sum("unimelb-nlp/wikiann" in each.path for each in hub.log) == 1, (
        "what is not there is asked for once"
    )
    parts, _ = read_report(Reader(), tasks.load("panx"), found)
    assert parts["de"].examples[0]["tags"] == ["O", "O", "B-LOC"]


def test_original_forms_are_not_on_the_hub(hub: HubServer) -> None:
    _, lacking = locate_report(Hub(), tasks.load("bucc"), "validation", ("de",))
    assert "gold pairs without distractors" in lacking["de"] and "--data DIR" in lacking["de"]


def test_a_data_set_that_is_not_there(hub: HubServer) -> None:
    with pytest.raises(MissingRows) as caught:
        locate_training(Hub(), tasks.load("csqa"), "clean", tasks.load)
    assert str(caught.value).startswith(
        "the hub: no data set 'tau/commonsense_qa', or no access to it"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (Failure(401, "RepoNotFound", "Invalid username or password."), MissingRows, "HF_TOKEN"),
        (Failure(403, "GatedRepo", "Access is restricted"), MissingRows, "gated"),
        (Failure(403, "", "Forbidden"), RequestError, "403"),
        (Failure(500), RequestError, "500"),
        (Failure(429), RequestError, "429"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_refusals_are_one_clear_line(
    hub: HubServer, failure: Failure, kind: type[Exception], said: str
) -> None:
    hub.fail["nyu-mll/multi_nli"] = failure
    with pytest.raises(kind) as caught:
        Hub().repository("nyu-mll/multi_nli")
    assert (
        said in str(caught.value)
        and "\n" not in str(caught.value)
        and "nyu-mll/multi_nli" in str(caught.value)
    )


def test_a_refusal_while_rows_are_fetched(hub: HubServer) -> None:
    task = tasks.load("mnli")
    files = locate_training(Hub(), task, "clean", tasks.load)
    hub.fail["nyu-mll/multi_nli"] = Failure(403, message="Forbidden", when="/resolve/.*parquet")
    with pytest.raises(RequestError) as caught:
        read_training(Reader(), task, files, tasks.load)
    assert "403" in str(caught.value) and "\n" not in str(caught.value)


def test_nobody_listens(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer(root) as gone:
        pass
    with asking(gone, tmp_path / "home", monkeypatch), pytest.raises(RequestError) as caught:
        Hub().repository("nyu-mll/multi_nli")
    assert "connection refused" in str(caught.value) and "--data embedded" in str(caught.value)
    assert not isinstance(caught.value, DataError)


def test_a_script_data_set_is_read_from_its_converted_form(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, converted = root / "nyu-mll/multi_nli", tmp_path / "converted"
    for split in ("train", "validation_matched"):
        for shard in range(2):
            nli(converted / "default" / split / f"{shard:04d}.parquet")
    shutil.rmtree(script)
    script.mkdir()
    (script / "multi_nli.py").write_text("raise SystemExit('never run')\n")
    (script / "dataset_infos.json").write_text("{}")
    refs = {("nyu-mll/multi_nli", "refs/convert/parquet"): converted}
    with HubServer(root, refs) as hub, asking(hub, tmp_path / "home", monkeypatch):
        source, task = Hub(), tasks.load("mnli")
        files = locate_training(source, task, "clean", tasks.load)
        assert source.revisions() == {"nyu-mll/multi_nli": commit(converted)}
        assert len(files.train[0].digests) == 2 and hub.sent(".parquet") == 0
        assert len(read_training(Reader(), task, files, tasks.load).train.examples) == 60
        assert not hub.sent(".py")
    with (
        HubServer(root) as hub,
        asking(hub, tmp_path / "home2", monkeypatch),
        pytest.raises(MissingRows) as caught,
    ):
        Hub().repository("nyu-mll/multi_nli")
    assert "script without a parquet form" in str(caught.value)


def test_offline_reads_the_cache_and_says_so(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.load("mnli")
    online = locate_training(Hub(), task, "clean", tasks.load)
    rows = read_training(Reader(), task, online, tasks.load).train.examples
    asked = len(hub.log)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = Hub()
    files = locate_training(source, task, "clean", tasks.load)
    assert files.digests() == online.digests(), "the same run, whether asked online or offline"
    assert read_training(Reader(), task, files, tasks.load).train.examples == rows
    assert (
        source.revisions()["nyu-mll/multi_nli"]
        == files.train[0].files["train"][0].name.split("@")[1][:12]
        + source.revisions()["nyu-mll/multi_nli"][12:]
    )
    assert "offline" in str(source) and "cache (offline)" in files.train[0].files["train"][0].name
    assert len(hub.log) == asked
    with pytest.raises(MissingRows, match=r"HF_HUB_OFFLINE.*tau/commonsense_qa"):
        source.repository("tau/commonsense_qa")


def cached(home: Path, revision: str, count: int, when: float) -> None:
    """A snapshot of MNLI in a client's cache, with rows that no hub has sent."""
    folder = home / "hub/datasets--nyu-mll--multi_nli/snapshots" / revision
    for split in ("train", "validation_matched"):
        nli(folder / f"data/{split}-00000-of-00001.parquet", count)
    os.utime(folder, (when, when))


@pytest.mark.parametrize("named", ["main", "refs/convert/parquet", ""])
def test_offline_the_revision_is_read_that_the_cache_names_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A newer snapshot lies beside it, of a pull request, say."""
    home, main, newer = tmp_path / "home", "a" * 40, "b" * 40
    cached(home, main, 30, 1_000_000)
    cached(home, newer, 20, 2_000_000)
    references = home / "hub/datasets--nyu-mll--multi_nli/refs"
    for reference, commit_named in ((named, main), ("refs/pr/3", newer)):
        if reference:
            path = references / reference
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit_named)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source, task = Hub(), tasks.load("mnli")
    files = locate_training(source, task, "clean", tasks.load)
    rows = read_training(Reader(), task, files, tasks.load)
    assert len(rows.train.examples) == (30 if named else 20)
    assert source.revisions()["nyu-mll/multi_nli"] == (main if named else newer)
    assert ("not main" in files.train[0].files["train"][0].name) is (not named)
    assert bool(source.notes()) is (not named)


def test_offline_reads_what_was_main_when_it_was_fetched_last(
    hub: HubServer, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tasks.load("mnli")
    revisions = []
    for count in (40, 50):
        if revisions:
            nli(root / "nyu-mll/multi_nli/data/train-00000-of-00002.parquet", count)
        online = Hub()
        files = locate_training(online, task, "clean", tasks.load)
        rows = read_training(Reader(), task, files, tasks.load)
        revisions.append(online.revisions()["nyu-mll/multi_nli"])
    older = Path(constants.HF_HUB_CACHE) / "datasets--nyu-mll--multi_nli/snapshots" / revisions[0]
    os.utime(older)  # touched since: the newest folder tells nothing
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = Hub()
    files = locate_training(offline, task, "clean", tasks.load)
    assert offline.revisions()["nyu-mll/multi_nli"] == revisions[1] != revisions[0]
    assert read_training(Reader(), task, files, tasks.load).train.examples == rows.train.examples


def test_an_incomplete_cache_is_not_taken_for_the_whole(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    located = locate_training(Hub(), tasks.load("mnli"), "clean", tasks.load).train[0]
    located.files["train"][0].fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="1 of 2 shards are missing"):
        locate_training(Hub(), tasks.load("mnli"), "clean", tasks.load)


def test_a_token_is_the_clients_own_affair(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer(root, token="hf_secret") as hub, asking(hub, tmp_path / "home", monkeypatch):
        with pytest.raises(MissingRows, match="HF_TOKEN"):
            Hub().repository("nyu-mll/multi_nli")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert Hub().repository("nyu-mll/multi_nli").revision


def _xtl(
    hub: HubServer, home: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adapters_xtl", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **hub.environment(home), "XTL_CACHE": str(home / "xtl"), **environment},
    )


def test_the_command_line_on_the_hub(root: Path, tmp_path: Path) -> None:
    with HubServer(root) as hub:
        done = _xtl(hub, tmp_path, "data", "check", "mnli", "--data", "hub", "--json")
        assert done.returncode == 0, done.stderr
        assert {(each["split"], each["rows"]) for each in json.loads(done.stdout)["splits"]} == {
            ("train", 60),
            ("validation", 60),
            ("mismatched", 60),
        }
        asked = len(hub.log)
        done = _xtl(
            hub, tmp_path, "data", "check", "mnli", "--data", "hub", "--json", HF_HUB_OFFLINE="1"
        )
        assert (
            done.returncode == 0
            and "offline" in json.loads(done.stdout)["source"]
            and len(hub.log) == asked
        )
        done = _xtl(hub, tmp_path, "data", "check", "csqa", "--data", "hub")
        assert done.returncode == 2 and "no data set 'tau/commonsense_qa'" in " ".join(
            done.stdout.split()
        )
    done = _xtl(hub, tmp_path, "data", "check", "mnli", "--data", "hub")
    assert (
        done.returncode == 2
        and "could not be reached" in done.stderr
        and "Traceback" not in done.stderr
    )
