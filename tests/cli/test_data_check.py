"""`xtl data check`, `xtl tasks` and `xtl data import`, as commands: what they print, count and exit
with.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters_xtl import tasks
from adapters_xtl.cli.commands import data, listing
from tests.command_line import complaints, xtl

XTL = Path(sys.executable).parent / "xtl"
MNLI = "nyu-mll/multi_nli/default/{}-00000-of-00001.parquet"


def checked(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(xtl("data", "check", *arguments, "--json", code=code).stdout)
    return found


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A mirror of MNLI's and PAN-X's columns in which all is well."""
    for split, count in (("train", 300), ("validation_matched", 60), ("validation_mismatched", 60)):
        rows(tmp_path, split, count)
    for code in ("de", "sw"):
        path = tmp_path / f"google/xtreme/PAN-X.{code}/validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"tokens": [["in", "Ulm"]] * 40, "ner_tags": [[0, 5]] * 40}), path)
    return tmp_path


def rows(root: Path, split: str, count: int, **cells: Any) -> Path:
    """MNLI rows; `cells`: column → {row: value}."""
    numbers = range(count)
    table: dict[str, list[Any]] = {
        "premise": [f"{split} premise {n}" for n in numbers],
        "hypothesis": [f"hypothesis {n}" for n in numbers],
        "label": [n % 3 for n in numbers],
    }
    for column, changes in cells.items():
        for number, value in changes.items():
            table[column][number] = value
    path = root / MNLI.format(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def test_the_mirror_is_sound_and_read_fast(mirror: Path) -> None:
    started = time.monotonic()
    found = checked("--data", mirror)
    seconds = time.monotonic() - started
    assert not found["errors"] and found["source"] == str(mirror)
    total = sum(each["rows"] for each in found["splits"])
    assert total > 10_000 and total / seconds > 3_000, f"{total} rows in {seconds:.1f} s"
    assert (
        sum(sum(each["unfit"].values()) for each in found["splits"]) == found["unfit"] <= total / 50
    )
    for each in found["splits"]:
        assert each["usable"] + sum(each["unfit"].values()) >= each["rows"] and each["data"]
    places = [
        (each["task"], each["split"], each["language"], each["data"]) for each in found["splits"]
    ]
    assert len(set(places)) == len(places), "nothing is read twice"


def test_the_embedded_rows_are_sound() -> None:
    command = [str(XTL), "data", "check", "--strict"]  # the installed script
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "0 unfit, 0 errors" in flat(done.stdout)
    without_rows = {"multi", "americasnli"}
    assert {each["task"] for each in checked()["splits"]} == set(tasks.names()) - without_rows


def test_a_sound_copy(copy: Path) -> None:
    found = checked("--data", copy)
    assert not found["errors"] and not found["unfit"]
    assert {
        (each["task"], each["split"], each["language"], each["rows"]) for each in found["splits"]
    } == {
        ("mnli", "train", "en", 300),
        ("mnli", "validation", "en", 60),
        ("mnli", "mismatched", "en", 60),
        ("mnli_genres", "train", "en", 300),
        ("mnli_genres", "matched", "en", 60),
        ("xnli", "train", "en", 300),
        ("xnli", "select", "en", 60),
        ("anli", "train", "en", 300),
        ("anli", "select", "en", 60),
        ("panx", "validation", "de", 40),
        ("panx", "validation", "sw", 40),
    }
    labels = next(each["labels"] for each in found["splits"] if each["split"] == "train")
    assert labels == {"entailment": 100, "neutral": 100, "contradiction": 100}
    text = flat(xtl("data", "check", "mnli", "--data", copy).stdout)
    assert (
        "entailment 33%" in text and "420 rows, 0 unfit, 0 errors" in text and "characters" in text
    )
    assert "fr" in found["lacking"]["panx"]["validation"] and "train" in found["lacking"]["panx"]


def test_bad_rows_are_counted_and_named(copy: Path) -> None:
    rows(copy, "train", 300, premise={7: None, 9: ""}, label={11: -1})
    found = checked("mnli", "--data", copy)
    entry = next(each for each in found["splits"] if each["split"] == "train")
    assert (entry["rows"], entry["usable"]) == (300, 297)
    assert (
        entry["unfit"] == {"no text": 1, "empty text": 1, "no gold label": 1}
        and found["unfit"] == 3
    )
    assert [place.rsplit(": ", 1)[1] for place, _ in found["places"]] == [
        "row 7",
        "row 9",
        "row 11",
    ]
    done = xtl("data", "check", "mnli", "--data", copy, "--strict", code=2)
    assert "row 7: no text" in flat(done.stdout) and "3 unfit" in flat(done.stdout)
    assert len(checked("mnli", "--data", copy, "--limit", "2")["places"]) == 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda root: (root / MNLI.format("train")).write_bytes(
                (root / MNLI.format("train")).read_bytes()[:900]
            ),
            "train-00000-of-00001.parquet: unreadable",
        ),
        (
            lambda root: rows(root, "train", 30, label={4: 7}),
            "column 'label', row 4: unknown class 7",
        ),
        (lambda root: rows(root, "train", 30, label={n: -1 for n in range(30)}), "no gold at all"),
        (lambda root: rows(root, "train", 0), "no rows"),
        (
            lambda root: rows(root, "train", 30, premise={n: n for n in range(30)}),
            "column 'premise' is int64",
        ),
        (
            lambda root: pq.write_table(
                pq.read_table(root / MNLI.format("train")).rename_columns(
                    ["premise", "hypotesis", "label"]
                ),
                root / MNLI.format("train"),
            ),
            "no column 'hypothesis'; did you mean 'hypotesis'?",
        ),
        (
            lambda root: (root / MNLI.format("train")).rename(root / MNLI.format("trian")),
            "no split 'train' of config 'default'; did you mean 'trian'?",
        ),
        (
            lambda root: (root / MNLI.format("train")).rename(
                root / MNLI.format("train").replace("00001", "00002")
            ),
            "1 of 2 shards are missing",
        ),
    ],
    ids=["truncated", "unknown class", "hidden", "empty", "type", "column", "split", "shard"],
)
def test_what_is_broken_is_an_error_with_its_place(copy: Path, damage: Any, said: str) -> None:
    damage(copy)
    found, shown = data.check_data("mnli", str(copy), 20)
    assert len(found["errors"]) == 1 and said in found["errors"][0], found["errors"]
    assert {each["split"] for each in found["splits"]} == {
        "validation",
        "mismatched",
    }, "the rest is checked all the same"
    assert any(line.startswith(f"error: {copy}") for line in shown if isinstance(line, str))
    assert data.check_data(None, str(copy), 20)[0]["errors"] == found["errors"], (
        "and told once, asked by name or not"
    )
    assert set(listing.tasks_table(str(copy))[0]["tasks"]) == set(tasks.names())


def test_every_error_of_a_mirror_is_told(copy: Path) -> None:
    rows(copy, "train", 30, label={4: 7})
    rows(copy, "validation_matched", 30, label={5: 8})
    for code in ("de", "sw"):
        (copy / f"google/xtreme/PAN-X.{code}/validation-00000-of-00001.parquet").write_bytes(
            b"no parquet"
        )
    done = xtl("data", "check", "--data", copy, code=2)
    assert flat(done.stdout).count("error: ") == 4
    errors = data.check_data(None, str(copy), 20)[0]["errors"]
    assert len(errors) == 4 and sum("unreadable" in error for error in errors) == 2


def test_brackets_in_a_message_are_printed_as_they_are(copy: Path) -> None:
    block = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '[z-a]*'"
    (copy / "nyu-mll/multi_nli/README.md").write_text(f"---\n{block}\n---\n")
    done = xtl("data", "check", "mnli", "--data", copy, code=2)
    assert "'[z-a]*'" in flat(done.stdout)


def test_what_is_not_there(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert (
        "no data set 'tau/commonsense_qa'" in data.check_data("csqa", str(copy), 20)[0]["errors"][0]
    )
    empty = tmp_path_factory.mktemp("empty")
    assert "nothing of any task is there" in checked("--data", empty, code=2)["errors"][0]
    assert "did you mean 'mnli'" in xtl("data", "check", "mnly", code=2).stderr
    assert "no such directory" in xtl("data", "check", "--data", empty / "absent", code=2).stderr


def test_tasks_are_all_listed(copy: Path) -> None:
    found = json.loads(xtl("tasks", "--json").stdout)
    assert set(found["tasks"]) == set(tasks.names()) and found["source"] == "embedded"
    for name, entry in found["tasks"].items():
        task = tasks.load(name)
        assert (entry["kind"], entry["format"], entry["metric"]) == (
            task.kind,
            task.format,
            task.metric,
        )
        languages = entry["source"]["languages"]
        assert languages or name == "americasnli", f"no embedded rows of {name}"
        assert task.kind == "intermediate" or task.in_domain_task or len(languages) >= 6
    text = xtl("tasks").stdout
    assert all(f" {name} " in text for name in tasks.names())
    of_copy = listing.tasks_table(str(copy))[0]["tasks"]
    assert of_copy["mnli"]["source"] == {"train": "300", "train_in": ["en"], "languages": ["en"]}
    assert of_copy["panx"]["source"] == {
        "train": "lacking",
        "train_in": [],
        "languages": ["de", "sw"],
    }
    assert found["tasks"]["mnli"]["source"]["train_in"] == ["en", "ar", "de", "zh", "en-bt"]
    assert found["tasks"]["mnli"]["train_in"]["sw"] == "translated"
    (copy / MNLI.format("train")).write_bytes(b"no parquet")
    assert listing.tasks_table(str(copy))[0]["tasks"]["mnli"]["source"]["train"] == "damaged"


def test_tasks_of_the_mirror(mirror: Path) -> None:
    found = json.loads(xtl("tasks", "--data", mirror, "--json").stdout)["tasks"]
    for name, entry in found.items():
        task = tasks.load(name)
        assert set(entry["source"]["languages"]) <= set(task.all_languages) | {"en"}
        assert entry["source"]["train"].isdigit() or not entry["source"]["train"].endswith(
            "damaged)"
        )


def test_import_of_what_xtreme_downloads(tmp_path: Path) -> None:
    source, out = tmp_path / "download", tmp_path / "mirror"
    for split, lines in (("train", 24), ("dev", 12)):
        (source / "panx").mkdir(parents=True, exist_ok=True)
        text = "".join(f"en:Ulm{n}\tB-LOC\nen:is\tO\n\n" for n in range(lines))
        (source / "panx" / f"{split}-en.tsv").write_text(text)
    report = json.loads(xtl("data", "import", "xtreme", source, out, "--json").stdout)
    assert report["out"] == str(out) and sum(report["written"].values()) == 36
    found = checked("panx", "--data", out)
    assert {(each["split"], each["rows"]) for each in found["splits"]} == {
        ("train", 24),
        ("validation", 12),
    }
    assert (
        "did you mean 'xtreme'"
        in xtl("data", "import", "xtrem", source, tmp_path / "x", code=2).stderr
    )
    assert (
        "is no directory"
        in xtl("data", "import", "xtreme", tmp_path / "absent", tmp_path / "x", code=2).stderr
    )
    assert xtl("data", "import", "xtreme", source, out, code=2).stderr.startswith("xtl: ")
    shutil.rmtree(out)
    assert str(out) in xtl("data", "import", "xtreme", source, out).stdout.replace("\n", "")


def test_an_import_that_finds_nothing_to_write_fails(tmp_path: Path) -> None:
    """XTREME's test splits come without gold, so a directory of nothing else gives no mirror."""
    source, out = tmp_path / "download", tmp_path / "mirror"
    (source / "panx").mkdir(parents=True)
    (source / "panx" / "test-en.tsv").write_text("en:Ulm\nen:is\n\n")
    done = xtl("data", "import", "xtreme", source, out, "--json", code=2)
    (line,) = complaints(done)
    assert "nothing" in line and str(source) in line
    assert json.loads(done.stdout)["refused"] and not out.exists()


def test_import_of_ccgbank(tmp_path: Path) -> None:
    for section in ("02", "00", "23"):
        folder = tmp_path / "ccgbank/data/AUTO" / section
        folder.mkdir(parents=True)
        lines = [
            f"ID=wsj_{section}{n:02d}.1 PARSER=GOLD NUMPARSE=1\n(<T S[dcl] 1 2> (<L N NNP NNP It"
            " N>) (<L S[dcl]\\NP VBZ VBZ rains S[dcl]\\NP>) )\n"
            for n in range(12)
        ]
        (folder / f"wsj_{section}01.auto").write_text("".join(lines))
    out = tmp_path / "mirror"
    xtl("data", "import", "ccgbank", tmp_path / "ccgbank", out)
    assert {each["split"] for each in checked("ccg", "--data", out)["splits"]} == {
        "train",
        "validation",
        "test",
    }
