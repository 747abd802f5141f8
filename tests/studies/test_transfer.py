"""The paper's matrix on a tiny random XLM-R: every number worked out again from the runs; kills,
failures, tables and files.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import adapters_xtl
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.base.statistics import holm, interval, paired
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.cli.commands import study as command
from adapters_xtl.grid.results import Entry
from adapters_xtl.pages import page
from adapters_xtl.pages.table_text import entry_text
from tests.studies.carry_out import carry_out

SMALL = """
study = "transfer"
title = "A small matrix"
backbone = "tiny"
data = "embedded"
device = "cpu"
languages = "de,fr"
seeds = [1, 2]

[axes]
task = ["pawsx", "tatoeba"]
on = ["none", "mnli", "multi"]
method = "lora"

[set]
train.max_steps = 2
train.eval_every = 2
train.select_examples = 20
eval.max_examples = 12

[set-parents]
train.max_steps = 2
train.eval_every = 2
train.select_examples = 20

[tasks.multi]
train.tasks = ["mnli", "csqa"]
train.max_steps = 3
"""


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def carried_out(
    study_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    runs = tmp_path_factory.mktemp("carried_out") / "runs"
    return runs, carry_out(study_file, runs)


def scores_of(record: dict[str, Any], runs: Path, task: str, on: str) -> dict[int, float]:
    """Seed → score of a cell, from the metrics.json of its runs."""
    row = next(
        row for row in record["rows"] if row["point"]["task"] == task and row["point"]["on"] == on
    )
    return {
        run["seed"]: read_json(runs / run["run"] / "metrics.json")["score"] for run in row["runs"]
    }


def matrix(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(intermediate, target) → the entry of the matrix."""
    table = next(table for table in record["tables"] if table["name"] == "transfer-lora")
    return {
        (line["label"], column): entry
        for line in table["lines"]
        for column, entry in zip(table["columns"], line["entries"], strict=True)
    }


def test_the_matrix_holds_the_runs_own_numbers(carried_out: tuple[Path, dict[str, Any]]) -> None:
    runs, record = carried_out
    assert {cell["state"] for cell in record["cells"]} == {"done"} and not record["failed"]
    entries = matrix(record)
    assert {on for on, _ in entries} == {"none", "mnli", "multi"}
    for task in ("pawsx", "tatoeba"):
        baseline = scores_of(record, runs, task, "none")
        mean = sum(baseline.values()) / len(baseline)
        assert entries["none", task]["value"] == pytest.approx(mean)
        for on in ("mnli", "multi"):
            scores = scores_of(record, runs, task, on)
            # nothing is trained for Tatoeba without a parent: its one score stands for each seed
            without = baseline if task == "pawsx" else dict.fromkeys(scores, mean)
            difference = paired(scores, without, margin=record["margin"])
            assert difference is not None and difference.interval is not None
            entry = entries[on, task]
            assert entry["value"] == pytest.approx(difference.mean)
            assert entry["low"] == pytest.approx(difference.interval.low)
            assert entry["high"] == pytest.approx(difference.interval.high)
            assert entry["verdict"] == difference.verdict
    scores = {on: scores_of(record, runs, "pawsx", on) for on in ("none", "mnli", "multi")}
    bounds = interval(list(scores["none"].values()))
    assert bounds is not None
    assert [entries["none", "pawsx"]["low"], entries["none", "pawsx"]["high"]] == pytest.approx(
        [bounds.low, bounds.high]
    )
    gains = [entries[on, "pawsx"]["value"] for on in ("mnli", "multi")]
    best = [on for on in ("none", "mnli", "multi") if entries[on, "pawsx"]["best"]]
    assert best == (["none"] if max(gains) < 0 else best) and best


def test_holms_correction_goes_over_the_whole_matrix(
    carried_out: tuple[Path, dict[str, Any]],
) -> None:
    _, record = carried_out
    assert len(record["contrasts"]) == 4
    assert {contrast["family"] for contrast in record["contrasts"]} == {"lora"}
    adjusted = holm([contrast["p"] for contrast in record["contrasts"]])
    assert [contrast["p_holm"] for contrast in record["contrasts"]] == pytest.approx(adjusted)


def test_contrasts_are_read_over_items_too(carried_out: tuple[Path, dict[str, Any]]) -> None:
    """The same difference as over the seeds, with an interval over the rows that were scored."""
    _, record = carried_out
    for contrast in record["contrasts"]:
        items = contrast["items"]
        assert items["mean"] == pytest.approx(contrast["mean"])
        assert items["low"] <= items["mean"] + 1e-9 and items["mean"] <= items["high"] + 1e-9
        assert items["level"] == record["level"] and items["items"] >= 12


def test_a_table_says_what_it_must_where_it_stands_alone(
    carried_out: tuple[Path, dict[str, Any]],
) -> None:
    _, record = carried_out
    for table in record["tables"]:
        notes = "\n".join(table["notes"])
        assert "backbone tiny, embedded data" in notes and "no evidence" in notes
        assert "accuracy of pawsx" in notes and "(validation)" in notes
    assert all("Backbone tiny" in figure["caption"] for figure in record["figures"])
    text = (Path(record["path"]) / "transfer-lora.tex").read_text(encoding="utf-8")
    assert "random weights" in text and "95\\% t-intervals" in text


def test_a_language_has_its_own_line(carried_out: tuple[Path, dict[str, Any]]) -> None:
    runs, record = carried_out
    table = next(table for table in record["tables"] if table["name"] == "languages-pawsx-lora")
    assert table["columns"] == ["de", "fr"]
    row = next(row for row in record["rows"] if row["point"] == {**row["point"], "on": "none"})
    metrics = [read_json(runs / run["run"] / "metrics.json") for run in row["runs"]]
    scores = [each["tasks"]["pawsx"]["languages"]["fr"]["accuracy"] for each in metrics]
    assert table["lines"][0]["entries"][1]["value"] == pytest.approx(sum(scores) / 2)


def test_settings_of_one_task_reach_it_as_a_parent(
    carried_out: tuple[Path, dict[str, Any]],
) -> None:
    runs, _ = carried_out
    specs = [read_json(path) for path in runs.glob("*/*/spec.json")]
    trained = [spec for spec in specs if spec["kind"] == "training"]
    steps = {spec["task"]: spec["run"]["hyper"]["max_steps"] for spec in trained}
    assert steps == {"pawsx": 2, "mnli": 2, "multi": 3}
    (members,) = {
        tuple(name for name, _ in spec["run"]["tasks"])
        for spec in trained
        if spec["task"] == "multi"
    }
    assert members == ("mnli", "csqa")


def test_each_run_is_made_once(carried_out: tuple[Path, dict[str, Any]], study_file: Path) -> None:
    """3 stacks on pawsx and 2 parents, for 2 seeds; Tatoeba by 2 parents twice, and once bare."""
    runs, record = carried_out
    assert len(list(runs.glob("*/*/manifest.json"))) == (3 + 2) * 2 + 2 * 2 + 1
    before = sorted(path.stat().st_mtime_ns for path in runs.glob("*/*/manifest.json"))
    again = carry_out(study_file, runs)
    assert before == sorted(path.stat().st_mtime_ns for path in runs.glob("*/*/manifest.json"))
    assert again["tables"] == record["tables"] and again["path"] == record["path"]
    assert all(run["reused"] for row in again["rows"] for run in row["runs"])


def test_its_files_agree(carried_out: tuple[Path, dict[str, Any]]) -> None:
    _, record = carried_out
    folder = Path(record["path"])
    assert read_json(folder / "study.json")["tables"] == record["tables"]
    for name in ("transfer-lora.md", "transfer-lora.csv", "transfer-lora.tex", "heatmap-lora.svg"):
        assert (folder / name).stat().st_size > 100, name
    with (folder / "transfer-lora.csv").open(encoding="utf-8", newline="") as lines:
        values = [float(row["value"]) for row in csv.DictReader(lines) if row["value"]]
    entries = [entry for entry in matrix(record).values() if entry["value"] is not None]
    assert sorted(values) == pytest.approx(sorted(entry["value"] for entry in entries), abs=1e-4)
    answer, lines_shown = command.answer_of("transfer", str(folder.parent.parent))
    assert answer["answer"] == record["answer"] and len(lines_shown) <= 10


def test_its_page_shows_every_number_and_run(carried_out: tuple[Path, dict[str, Any]]) -> None:
    runs, record = carried_out
    contents = page.of_studies([Path(record["path"])], runs=None)
    assert not contents.missing and not contents.damaged
    assert len(contents.runs) == len(list(runs.glob("*/*/manifest.json")))
    html = page.render(contents)
    for table in record["tables"]:
        for line in table["lines"]:
            for entry in line["entries"]:
                text = entry_text(from_json(Entry, entry), signed=line["difference"])
                assert f">{text.number}<" in html and text.interval in html
    for contrast in record["contrasts"]:
        assert f">{contrast['mean']:+.2f}<" in html and contrast["name"] in html
    for run in contents.runs:
        assert f'id="run-{run.spec.task}-{run.spec.id}"' in html


def test_it_is_a_python_function_too(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, record = carried_out
    result = adapters_xtl.study(
        study_file, settings={"on": ["none", "mnli"], "seeds": [1, 2]}, runs=runs
    )
    line = next(line for line in result.tables["transfer-lora"].lines if line.label == "mnli")
    assert line.entries[0].value == pytest.approx(matrix(record)["mnli", "pawsx"]["value"])
    assert not result.failed and len(result.answer().splitlines()) <= 10
    assert "intermediate" in result._repr_mimebundle_(None, None)["text/html"]
    assert "0 jobs to do" in capsys.readouterr().err


def test_a_dry_run_says_what_there_is_and_what_it_takes(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path
) -> None:
    runs, _ = carried_out
    ahead = carry_out(study_file, runs, "seeds=1,3", preview_only=True)
    states = [run["state"] for run in ahead["runs"]]
    assert states.count("in the store") == 8, "everything of seed 1"
    missing = [run for run in ahead["runs"] if run["state"] == "would train"]
    assert {run["seed"] for run in missing} == {3} and len(missing) == 5
    assert all(run["seconds_from"] == "finished runs" for run in missing)
    ids = [run["id"] for run in ahead["runs"]]
    assert all(
        ids.index(parent["id"]) < ids.index(run["id"])
        for run in ahead["runs"]
        for parent in ahead["runs"]
        if run["parents"] == [parent["task"]]
        and run["seed"] == parent["seed"]
        and run["kind"] != "evaluation"
    ), "parents come first"
    # LoRA of rank 16 on the query and value of two layers of width 32, in float32
    pawsx = next(run for run in missing if run["stack"] == "pawsx")
    path = next(path.parent for path in runs.glob("pawsx/*/manifest.json"))
    stored = sum(file.stat().st_size for file in path.glob("module/*.safetensors"))
    assert 0.5 * stored < pawsx["predicted_stored_bytes"] < 4 * stored


def test_killed_again_and_again_it_ends_with_the_same_tables(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path, tmp_path: Path
) -> None:
    """SIGKILL at whatever moment: when a run has just begun, or a moment after."""
    smaller = ("task=pawsx", "on=none,mnli", "seeds=1")
    whole = carry_out(study_file, carried_out[0], *smaller)
    runs = tmp_path / "runs"
    words = [sys.executable, "-m", "adapters_xtl", "study", str(study_file), "--runs", str(runs)]
    words += [word for setting in smaller for word in ("--set", setting)]
    delays = random.Random(7)
    for _ in range(3):
        begun = set(runs.glob("*/*.partial"))
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and set(runs.glob("*/*.partial")) <= begun:
            time.sleep(0.01)
        time.sleep(delays.random())
        process.kill()
        process.wait()
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["tables"] == whole["tables"]


def test_a_failed_run_stays_failed_until_it_is_tried_again(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path
) -> None:
    """A parent's damaged weights fail its new child; the other cells go on."""
    runs, record = carried_out
    row = next(row for row in record["rows"] if row["point"]["on"] == "mnli")
    spec = read_json(runs / row["runs"][0]["run"] / "spec.json")
    weights = next((runs / "mnli" / spec["parents"][0]["id"]).glob("module/*.safetensors"))
    whole = weights.read_bytes()
    settings = ("train.lr=0.01", "task=pawsx", "on=none,mnli", "seeds=1")
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    first = carry_out(study_file, runs, *settings)
    (failure,) = first["failed"]
    assert failure["point"]["on"] == "mnli" and "sha256" in failure["error"]
    states = {cell["point"]["on"]: cell["state"] for cell in first["cells"]}
    assert states == {"none": "done", "mnli": "failed"}
    entry = matrix(first)["mnli", "pawsx"]
    assert (entry["value"], entry["note"]) == (None, "failed")
    weights.write_bytes(whole)
    assert carry_out(study_file, runs, *settings)["failed"] == first["failed"]
    again = carry_out(study_file, runs, *settings, retry_failed=True)
    assert not again["failed"]
    assert matrix(again)["mnli", "pawsx"]["note"] == "one seed"


def test_ctrl_c_says_where_it_goes_on(study_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "adapters_xtl", "study", str(study_file)),
            *("--set", "train.max_steps=2000", "--set", "on=none", "--runs", str(runs)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(runs.glob("pawsx/*.partial/work/checkpoint-*")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors
    assert "pawsx, lora, seed 1" in errors and "goes on" in errors


def test_a_damaged_run_fails_its_own_cells_alone(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path, tmp_path: Path
) -> None:
    """Tatoeba is scored by the damaged module of MNLI; the module of PAWS-X was trained on it, and
    is whole.
    """
    runs, record = carried_out
    row = next(row for row in record["rows"] if row["point"]["on"] == "mnli")
    parent = read_json(runs / row["runs"][0]["run"] / "spec.json")["parents"][0]["id"]
    metrics = runs / "mnli" / parent / "metrics.json"
    whole = metrics.read_text(encoding="utf-8")
    metrics.write_text(whole.replace("2", "3"), encoding="utf-8")
    ahead = carry_out(study_file, runs, preview_only=True)
    states = {run["id"]: run["state"] for run in ahead["runs"]}
    assert states[parent] == "damaged in the store" and ahead["total"]["damaged"] == 1
    damaged = carry_out(study_file, runs, out=str(tmp_path / "study"))
    metrics.write_text(whole, encoding="utf-8")
    assert {
        (cell["point"]["task"], cell["point"]["on"]): cell["state"]
        for cell in damaged["cells"]
        if cell["state"] != "done"
    } == {("tatoeba", "mnli"): "partial"}
    (failure,) = damaged["failed"]
    assert "damaged" in failure["error"] and parent in failure["error"]
    assert matrix(damaged)["mnli", "tatoeba"]["note"] == "one seed"
    assert matrix(damaged)["mnli", "pawsx"] == matrix(record)["mnli", "pawsx"]


def test_without_the_row_none_the_others_have_scores(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path, tmp_path: Path
) -> None:
    runs, record = carried_out
    scores = matrix(carry_out(study_file, runs, "on=multi,mnli", out=str(tmp_path / "study")))
    expected = scores_of(record, runs, "pawsx", "mnli")
    assert scores["mnli", "pawsx"]["value"] == pytest.approx(sum(expected.values()) / 2)


def test_the_answer_is_found_by_name_and_by_directory(
    carried_out: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs, record = carried_out
    for name in ("transfer", "small", record["path"]):
        assert command.answer_of(name, str(runs))[0]["answer"] is not None
    with pytest.raises(RequestError, match="smal: "):
        command.answer_of("smal", str(runs))
    (tmp_path / "study.json").write_text('{"rows": 3}')
    with pytest.raises(RequestError, match=r"study\.json"):
        command.answer_of(str(tmp_path), str(runs))


def test_a_runs_directory_takes_no_study(
    carried_out: tuple[Path, dict[str, Any]], study_file: Path
) -> None:
    runs, record = carried_out
    folder = runs / record["rows"][0]["runs"][0]["run"]
    with pytest.raises(RequestError, match="directory of a run"):
        carry_out(study_file, runs, out=str(folder))
    assert not (folder / "study.json").exists()
