"""A format, a metric, a task, a method and a study are one file each: dropped into their folders, they go
the whole way, from recipe to comparison, on the real command line.

The files lie in tests/dropped_in/, and CONTRIBUTING.md shows those very files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from adapters_xtl import formats, methods, metrics, studies, tasks
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import folder_digest, read_json
from adapters_xtl.cli import app
from adapters_xtl.runs import recipes

ROOT = Path(__file__).parent.parent
DROPPED_IN = ROOT / "tests" / "dropped_in"
ROWS = DROPPED_IN / "rows"
QUICK = ("--set", "train.max_steps=6", "--set", "train.eval_every=3")
WHERE = ("--data", str(ROWS), "--backbone", "tiny", "--device", "cpu")


@pytest.fixture(scope="module", autouse=True)
def dropped_in() -> Iterator[None]:
    """The package with the files of tests/dropped_in/ in its folders."""
    wings = (formats, methods, metrics, studies, tasks)
    before = [list(wing.__path__) for wing in wings]
    patch = pytest.MonkeyPatch()
    for wing in wings:
        wing.__path__.append(str(DROPPED_IN / wing.__name__.rpartition(".")[2]))
    patch.setattr(recipes, "recipes_dir", lambda: DROPPED_IN / "recipes")
    yield
    patch.undo()
    for wing, path in zip(wings, before, strict=True):
        wing.__path__[:] = path


def xtl(*arguments: str | Path) -> dict[str, Any]:
    """`xtl … --json` in this process: its one JSON object."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr[-2000:]
    payload: dict[str, Any] = json.loads(done.stdout)
    return payload


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dropped_in") / "runs"


@pytest.fixture(scope="module")
def trained(runs: Path) -> dict[str, Any]:
    """A run of the dropped-in task."""
    return xtl("recipe", "similarity", *WHERE, *QUICK, "--runs", runs)


def test_a_recipe_trains_and_scores_it(trained: dict[str, Any]) -> None:
    scored = trained["metrics"]["tasks"]["similarity"]
    assert scored["metric"] == "pearson"
    assert scored["languages"]["en"]["n"] == 24
    assert -100 <= scored["score"] <= 100
    head = read_json(Path(trained["path"]) / "head" / "similarity" / "config.json")
    assert (head["format"], head["labels"], head["outputs"]) == ("regress", [], ["value"])
    # dense and one output, on states 32 wide
    assert trained["metrics"]["train"]["head_parameters"] == 32 * 32 + 32 + 32 + 1
    hyper = read_json(Path(trained["path"]) / "spec.json")["run"]["hyper"]
    assert (hyper["batch_size"], hyper["max_length"]) == (8, 32), "its own recipe"


def test_it_learns(tmp_path: Path) -> None:
    """The mean squared error falls by far: to guess the mean is worth 0.13."""
    settings = ("--set", "train.max_steps=150", "--set", "train.lr=0.01", "--method", "full")
    learnt = xtl("recipe", "similarity", *WHERE, *settings, "--runs", tmp_path)
    log = (Path(learnt["path"]) / "train_log.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, log) if "loss" in entry]
    assert min(losses) < 0.06 < losses[0]


def command_line(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    paths = [str(ROOT), str(DROPPED_IN / "site"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, str(DROPPED_IN / "command_line.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_killed_training_goes_on_to_the_same_result(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    process = command_line("recipe", "similarity", *WHERE, *QUICK, "--runs", tmp_path)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        if list(tmp_path.glob("similarity/*.partial/work/checkpoint-*")):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = xtl("recipe", "similarity", *WHERE, *QUICK, "--runs", tmp_path)
    assert resumed["id"] == trained["id"]
    assert resumed["metrics"]["tasks"] == trained["metrics"]["tasks"]
    for part in ("module", "head", "predictions"):
        there, here = Path(trained["path"]) / part, Path(resumed["path"]) / part
        assert folder_digest(there) == folder_digest(here), part


def test_it_is_evaluated_and_scored_again(trained: dict[str, Any], runs: Path) -> None:
    evaluated = xtl(
        "evaluate", trained["path"], "--set", "eval.max_examples=10", *WHERE[:2], "--runs", runs
    )
    assert evaluated["metrics"]["tasks"]["similarity"]["languages"]["en"]["n"] == 10
    again = xtl("score", trained["path"], "--runs", runs)
    assert again["equal"] is True
    predictions = (Path(trained["path"]) / "predictions/similarity/en.jsonl").read_text()
    rows = [json.loads(line) for line in predictions.splitlines()]
    correlation = np.corrcoef([row["prediction"] for row in rows], [row["gold"] for row in rows])[
        0, 1
    ]
    assert again["metrics"]["score"] == pytest.approx(100 * correlation)


def test_a_person_asks_it(trained: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    """By the format's fields, by the task's columns, and with something missing."""
    lines = [
        {"first": "the river and the mill", "second": "the mill and the river"},
        {"id": "own", "sentence1": "the river and the mill", "sentence2": "the mill and the river"},
    ]
    asked, answered = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    predict = ("predict", trained["path"], str(asked), "-o", str(answered), "--runs", str(runs))
    done = CliRunner().invoke(app, [*predict, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    first, second = map(json.loads, answered.read_text().splitlines())
    assert set(first) == {"line", "prediction"} and second["id"] == "own"
    assert first["prediction"] == pytest.approx(second["prediction"], abs=1e-5)
    asked.write_text('{"first": "alone"}\n')
    with pytest.raises(XtlError, match=r"line 1.*no second.*first.*second"):
        CliRunner().invoke(app, list(predict), catch_exceptions=False)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_its_memory_is_planned(device: str) -> None:
    planned = xtl(
        "plan", "similarity", "--data", ROWS, "--backbone", "xlmr-base", "--device", device
    )
    assert planned["trains"] == "similarity" and planned["length"] == 32
    classes = xtl("plan", "mnli", "--backbone", "xlmr-base", "--device", device)
    assert 0 < planned["needs_bytes"] < classes["needs_bytes"], "shorter inputs, smaller batches"


def test_it_is_shared(trained: dict[str, Any], runs: Path, tmp_path: Path) -> None:
    hub = f"file:{tmp_path / 'hub'}"
    xtl("hub", "push", trained["path"], f"{hub}/someone/similarity", "--runs", runs)
    pulled = tmp_path / "pulled"
    xtl("hub", "pull", f"{hub}/someone/similarity", "-o", pulled)
    xtl("hub", "verify", pulled)
    evaluated = xtl("evaluate", pulled, *WHERE[:2], "--runs", tmp_path / "runs")
    assert evaluated["metrics"]["score"] == pytest.approx(trained["metrics"]["score"], abs=1e-4)


def test_a_bundle_whose_head_has_other_outputs_is_refused(
    trained: dict[str, Any], runs: Path, tmp_path: Path
) -> None:
    from tests.bundles import change, pack_run, reseal

    bundle = pack_run(Path(trained["path"]), tmp_path / "bundle")
    xtl("hub", "verify", bundle)
    change(bundle, "head/similarity/config.json", lambda config: {**config, "outputs": ["other"]})
    reseal(bundle)
    with pytest.raises(XtlError, match="outputs"):
        CliRunner().invoke(app, ["hub", "verify", str(bundle)], catch_exceptions=False)


def test_a_child_stands_on_it(trained: dict[str, Any], runs: Path) -> None:
    child = xtl(
        "recipe", "similarity", "--on", "self", *WHERE, *QUICK, "--runs", runs,
        "--set-parents", "train.max_steps=6", "--set-parents", "train.eval_every=3",
    )  # fmt: skip
    parents = read_json(Path(child["path"]) / "spec.json")["parents"]
    assert [(parent["task"], parent["id"]) for parent in parents] == [("similarity", trained["id"])]


def test_methods_are_compared_on_it(tmp_path: Path) -> None:
    """Its trainings are processes of their own, which know the dropped-in files too."""
    process = command_line(
        "compare", "similarity", "--methods", "bottleneck,lora", "--seeds", "1", *WHERE,
        "--set", "train.max_steps=2", "--set", "train.eval_every=2", "--runs", tmp_path / "runs",
        "-o", tmp_path / "comparison", "--json",
    )  # fmt: skip
    compared, _ = process.communicate()
    assert process.returncode == 0
    scores = json.loads(compared)
    assert "similarity" in json.dumps(scores)
    for method in ("bottleneck", "lora"):
        assert method in json.dumps(scores)


def test_a_study_is_carried_out_on_it(tmp_path: Path) -> None:
    """The study's axis is a setting; its table holds the scores of its own runs."""
    process = command_line(
        "study", "budget", "--set", "task=similarity", "--set", "train.max_steps=1,3",
        "--set", "seeds=1,2", "--set", f"data={ROWS}", "--set", "backbone=tiny",
        "--set", "set.train.eval_every=1", "--runs", tmp_path / "runs", "-o", tmp_path / "study",
        "--json",
    )  # fmt: skip
    answer, _ = process.communicate()
    assert process.returncode == 0
    record = json.loads(answer)
    assert [cell["state"] for cell in record["cells"]] == ["done", "done"]
    ((line,),) = (table["lines"] for table in record["tables"])
    for entry, steps in zip(line["entries"], (1, 3), strict=True):
        runs = [
            read_json(path.parent / "metrics.json")
            for path in sorted((tmp_path / "runs" / "similarity").glob("*/spec.json"))
            if read_json(path)["run"]["hyper"]["max_steps"] == steps
        ]
        assert len(runs) == 2
        assert entry["value"] == pytest.approx(sum(run["score"] for run in runs) / 2)
    (contrast,) = record["contrasts"]
    assert contrast["mean"] == pytest.approx(
        line["entries"][1]["value"] - line["entries"][0]["value"]
    )
    names = {path.name for path in (tmp_path / "study").iterdir()}
    assert {"study.json", "budget.md", "budget.csv", "budget.tex", "budget.svg"} <= names


def test_data_check_knows_it() -> None:
    checked = xtl("data", "check", "similarity", "--data", ROWS)
    by_split = {entry["split"]: entry for entry in checked["splits"]}
    assert by_split["train"]["usable"] == 60 and by_split["train"]["labels"]["0.5"] == 12


def test_contributing_shows_these_very_files() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = dict(
        re.findall(r"`tests/dropped_in/(\S+)`[^\n]*\n\n```(?:python|toml)\n(.*?)```", text, re.S)
    )
    for name in (
        "tasks/similarity.py",
        "formats/regress.py",
        "metrics/pearson.py",
        "studies/budget.py",
    ):
        assert shown.get(name) == (DROPPED_IN / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", formats.names())
def test_the_default_format_names_no_format(name: str) -> None:
    """Every format is found by its file, and is a `Format` of that name."""
    assert formats.load(name).name == name
