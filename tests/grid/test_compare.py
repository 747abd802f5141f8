"""Comparisons on a tiny random XLM-R: every number worked out again from the runs, tuning,
failures, resuming, plots.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from adapters_xtl import tasks
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import read_json
from adapters_xtl.base.statistics import t_quantile
from adapters_xtl.cli.commands import compare as commands
from adapters_xtl.cli.commands import hub as hub_command
from adapters_xtl.cli.commands.study import writable
from adapters_xtl.grid.published import FIGURES
from tests.command_line import xtl_json
from tests.grid.comparisons import compare, grid_of, metrics


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """pawsx × {full, lora} × {none, qqp}, tuned over two learning rates, seeds 1 and 2."""
    runs = tmp_path_factory.mktemp("compared")
    payload, said = compare(
        "pawsx", runs, on=("none", "qqp"), tune=("lr=1e-3,5e-2", "full:lr=1e-4,1e-2")
    )
    return runs, payload, said


def test_rows_are_the_runs_own_numbers(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    runs, payload, _ = compared
    assert [(row["method"], row["parents"]) for row in payload["rows"]] == [
        ("full", []),
        ("lora", []),
        ("full", ["qqp"]),
        ("lora", ["qqp"]),
    ]
    for row in payload["rows"]:
        found = [metrics(runs, run["run"]) for run in row["runs"]]
        assert [run["seed"] for run in row["runs"]] == [1, 2]
        scores = [each["tasks"]["pawsx"]["languages"]["de"]["accuracy"] for each in found]
        mean, half = sum(scores) / 2, 12.706205 * statistics.stdev(scores) / math.sqrt(2)
        assert row["score"]["mean"] == pytest.approx(mean)
        bounds = [max(mean - half, 0), min(mean + half, 100)]
        assert row["score"]["interval"] == pytest.approx(bounds, abs=1e-4)
        assert row["score"]["seeds"] == dict(zip(("1", "2"), scores, strict=True))
        trained = [each["train"] for each in found]
        assert (
            row["trainable_parameters"]
            == trained[0]["trainable_parameters"]
            == trained[1]["trainable_parameters"]
        )
        assert row["seconds"] == pytest.approx((trained[0]["seconds"] + trained[1]["seconds"]) / 2)
        rate = sum(each["examples"] for each in trained) / sum(each["seconds"] for each in trained)
        assert row["examples_per_second"] == pytest.approx(rate)
        assert row["peak_memory_bytes"] == max(each["measured_peak_bytes"] for each in trained)
        folders = [runs / run["run"] / part for run in row["runs"] for part in ("module", "head")]
        stored = sum(
            file.stat().st_size
            for folder in folders
            for file in folder.rglob("*")
            if file.is_file()
        )
        assert row["stored_bytes"] == round(stored / 2)
        assert row["bits"] == 32 and row["energy_joules"] is None
    by = {(row["method"], tuple(row["parents"])): row for row in payload["rows"]}
    assert (
        by["full", ("qqp",)]["composition"] == "copy"
        and by["lora", ("qqp",)]["composition"] == "additive"
    )
    # a LoRA stack needs its parent's files to predict, a fully tuned copy does not
    assert by["full", ("qqp",)]["stack_bytes"] == by["full", ("qqp",)]["stored_bytes"]
    assert by["lora", ("qqp",)]["stack_bytes"] > 1.5 * by["lora", ("qqp",)]["stored_bytes"]


def test_gaps_are_paired_over_seeds(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, payload, _ = compared
    by = {(row["method"], tuple(row["parents"])): row for row in payload["rows"]}

    def difference(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
        values = [a["score"]["seeds"][seed] - b["score"]["seeds"][seed] for seed in ("1", "2")]
        return sum(values) / 2, t_quantile(0.975, 1) * statistics.stdev(values) / math.sqrt(2)

    for parents in ((), ("qqp",)):
        gap = by["lora", parents]["gap_to_full"]
        mean, half = difference(by["lora", parents], by["full", parents])
        assert gap["mean"] == pytest.approx(mean) and gap["seeds"] == [1, 2]
        assert gap["interval"] == pytest.approx([mean - half, mean + half])
        assert gap["verdict"] == (
            "inconclusive" if abs(mean) <= half else "higher" if mean > 0 else "lower"
        )
        assert by["full", parents]["gap_to_full"] is None
    gain = by["lora", ("qqp",)]["gain_over_no_parents"]
    assert gain["mean"] == pytest.approx(difference(by["lora", ("qqp",)], by["lora", ()])[0])
    assert by["lora", ()]["gain_over_no_parents"] is None


def test_tuning_picks_by_the_select_split_with_seeds_of_its_own(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    runs, payload, _ = compared
    assert payload["tuning"]["seeds"] == [0] and payload["seeds"] == [1, 2]
    counts = {method: len(trials) for method, trials in payload["tuning"]["trials"].items()}
    assert counts == {"full": 2, "lora": 2}
    for row in payload["rows"]:
        values = [1e-4, 1e-2] if row["method"] == "full" else [1e-3, 5e-2]
        assert [trial["values"] for trial in row["trials"]] == [
            {"train.lr": value} for value in values
        ]
        records = [
            (
                metrics(runs, f"pawsx/{trial['id']}"),
                read_json(runs / "pawsx" / trial["id"] / "spec.json"),
            )
            for trial in row["trials"]
        ]
        assert [trial["select"] for trial in row["trials"]] == [
            each["train"]["select"]["score"] for each, _ in records
        ]
        assert all(record["run"]["seed"] == 0 for _, record in records)
        assert all(list(each["tasks"]["pawsx"]["languages"]) == ["en"] for each, _ in records), (
            "English alone is scored"
        )
        best = max(row["trials"], key=lambda trial: trial["select"])  # the first of the best
        assert row["settings"] == "tuned" and row["tuned"] == best["values"]
        for run in row["runs"]:
            record = read_json(runs / run["run"] / "spec.json")["run"]
            assert record["hyper"]["lr"] == best["values"]["train.lr"] and record["seed"] in (1, 2)


def test_settings_of_one_method(tmp_path: Path) -> None:
    payload, _ = compare(
        "pawsx", tmp_path / "runs", "full:train.lr=1e-4", "lora:method.r=2", seeds="1"
    )
    hyper = {
        row["method"]: (row["hyper"]["lr"], row["trainable_parameters"]) for row in payload["rows"]
    }
    assert hyper["full"][0] == 1e-4 and hyper["lora"][0] != 1e-4
    plain, _ = compare("pawsx", tmp_path / "runs", methods_="lora", seeds="1")
    assert hyper["lora"][1] < plain["rows"][0]["trainable_parameters"]
    assert {row["settings"] for row in payload["rows"]} == {"given"}
    assert any("full:train.lr=0.0001, lora:method.r=2" in note for note in payload["notes"])
    with pytest.raises(RequestError, match=r"--set lorra:method.r=2.*'lora'"):
        grid_of("pawsx", tmp_path / "runs", "lorra:method.r=2")


def test_the_record_and_the_pictures(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    runs, payload, _ = compared
    folder = Path(payload["path"])
    assert folder.parent == runs / "compare" and folder.name.startswith("pawsx-")
    assert {path.name for path in folder.iterdir()} == {
        "comparison.json",
        "memory.png",
        "memory.svg",
    }
    assert {"path": str(folder), **read_json(folder / "comparison.json")} == payload
    assert (
        any("no evidence" in note for note in payload["no_evidence"])
        and len(payload["no_evidence"]) == 2
    )
    png = (folder / "memory.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert width >= 1000 and height >= 700
    svg = (folder / "memory.svg").read_text()
    for words in (
        "measured peak memory in training (GiB)",
        "accuracy, validation (0-100)",
        "lora on qqp",
        "full",
    ):
        assert words in svg, words
    assert re.search(r">\d+(\.\d+)? (MB|kB)<", svg), "the legend names sizes"


def test_a_directory_keeps_the_record_of_one_study(
    compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    folder = compared[1]["path"]
    assert writable(folder, tmp_path, compared[1]["id"]) == Path(folder)
    with pytest.raises(RequestError, match="holds another study"):
        writable(folder, tmp_path, "0" * 12)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(RequestError, match=r"study\.json: .*"):
        writable(str(tmp_path), tmp_path, "0" * 12)
    assert writable(None, tmp_path, "0" * 12) == tmp_path, "a study makes up for its own"
    with pytest.raises(RequestError, match="is empty"):
        writable("", tmp_path, "0" * 12)


def test_published_figures_stand_apart(compared: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, payload, _ = compared
    figures = payload["published"]["figures"]
    assert [(each["task"], each["value"], each["mark"]) for each in figures] == [
        ("pawsx", 86.4, "V"),
        ("pawsx", 87.7, "V"),
    ]
    assert {each.mark for each in FIGURES} == {"V", "S"} and all(
        each.source and each.split for each in FIGURES
    )
    assert {each.task for each in FIGURES if each.mark == "S"} == {"bucc", "tatoeba", "mean"}
    assert not any("86.4" in json.dumps(row) for row in payload["rows"])


def test_asked_again_it_is_answered_from_the_store(
    compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    runs, payload, _ = compared
    started = time.monotonic()
    again, said = compare(
        "pawsx", runs, on=("none", "qqp"), tune=("lr=1e-3,5e-2", "full:lr=1e-4,1e-2"), out=tmp_path
    )
    assert time.monotonic() - started < 20
    assert all(run["reused"] for row in again["rows"] for run in row["runs"])
    assert again["id"] == payload["id"] and again["path"] == str(tmp_path)
    scores = [[row["score"] for row in each["rows"]] for each in (payload, again)]
    assert scores[0] == scores[1]
    assert f"{4 * 2 * 2} scored runs, {4 * 2 * 2} of them in the store; 0 jobs to do" in said


def test_a_damaged_trial_fails_its_own_cell_alone(
    compared: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    """No other settings are chosen in its place, and nothing is run."""
    runs, payload, _ = compared
    trial = payload["rows"][0]["trials"][0]["id"]
    file = runs / "pawsx" / trial / "metrics.json"
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole.replace("2", "3"), encoding="utf-8")
    damaged, notices = compare(
        "pawsx", runs, on=("none", "qqp"), tune=("lr=1e-3,5e-2", "full:lr=1e-4,1e-2"), out=tmp_path
    )
    file.write_text(whole, encoding="utf-8")
    assert [row["score"] for row in damaged["rows"]] == [
        row["score"] for row in payload["rows"][1:]
    ]
    assert [failure["kind"] for failure in damaged["failed"]] == ["trial", "report", "report"]
    assert all(trial in failure["error"] for failure in damaged["failed"])
    assert any("0 jobs to do, 3 that are damaged" in notice for notice in notices)


def test_a_dry_run_lists_every_run_and_predicts(
    compared: tuple[Path, dict[str, Any], list[str]],
) -> None:
    runs, payload, _ = compared
    before = sorted(runs.rglob("manifest.json"))
    ahead, _ = compare(
        "pawsx",
        runs,
        on=("none", "qqp"),
        seeds="1,5",
        methods_="full,lora,bottleneck",
        dry_run=True,
    )
    assert sorted(runs.rglob("manifest.json")) == before
    named = {(run["stack"], run["method"], run["seed"], run["kind"]): run for run in ahead["runs"]}
    assert len(named) == len(ahead["runs"]) == 3 * 2 * 3
    assert named["qqp", "full", 1, "parent"]["state"] == "in the store"
    assert named["qqp", "full", 5, "parent"]["state"] == "would train"
    # 2 steps of 32 rows at the pace of this store's finished runs of the same method
    done = [
        read_json(path.parent / "metrics.json")["train"]
        for path in before
        if (record := read_json(path.parent / "spec.json"))["run"]
        and record["run"]["method"] == "lora"
        and record["task"] == "pawsx"
    ]
    pace = sum(each["seconds"] for each in done) / sum(each["examples"] for each in done)
    assert named["pawsx", "lora", 5, "report"]["predicted_training_seconds"] == pytest.approx(
        64 * pace
    )
    by_rule = named["pawsx", "bottleneck", 5, "report"]
    assert by_rule["seconds_from"] == "rule of thumb" and by_rule["predicted_training_seconds"] > 0
    assert ahead["total"]["complete"] and ahead["total"]["in_store"] == 2
    assert ahead["total"]["estimated"] == sum(
        run["seconds_from"] == "rule of thumb" for run in ahead["runs"]
    )
    weights = (
        4 * 8_053_026
    )  # of tiny and its head; full fine-tuning adds a gradient and two moments for each
    full, lora = (
        named["pawsx", method, 5, "report"]["planned_tensor_bytes"] for method in ("full", "lora")
    )
    assert (
        lora > weights and full > lora + weights and ahead["total"]["planned_tensor_bytes"] >= full
    )
    assert named["qqp", "full", 1, "parent"]["planned_tensor_bytes"] is None, "it is there already"
    tuned, _ = compare(
        "pawsx", runs, on=("none", "qqp"), tune=("lr=1e-3,5e-2", "full:lr=1e-4,1e-2"), dry_run=True
    )
    kinds = [run["kind"] for run in tuned["runs"]]
    assert kinds.count("trial") == 8 and kinds.count("report") == 8
    reported = {run["id"] for run in tuned["runs"] if run["kind"] == "report"}
    assert reported == {
        run["run"].split("/")[1] for row in payload["rows"] for run in row["runs"]
    }, "the choice is known"
    more, _ = compare("pawsx", runs, tune=("lr=1e-3,2e-3",), dry_run=True)
    assert {run["id"] for run in more["runs"] if run["kind"] == "report"} == {None}, (
        "not before the trials"
    )


def test_tasks_that_train_nothing_and_averages(runs: Path) -> None:
    payload, _ = compare(
        "tatoeba,xquad", runs, "eval.max_examples=12", on=("none", "squad1"), languages=None
    )
    rows = {(row["task"], row["method"], tuple(row["parents"])): row for row in payload["rows"]}
    assert set(rows) == {
        ("tatoeba", "none", ()),
        *(("tatoeba", method, ("squad1",)) for method in ("full", "lora")),
        *(("xquad", method, on) for method in ("full", "lora") for on in ((), ("squad1",))),
    }
    bare = rows["tatoeba", "none", ()]
    assert (
        bare["score"]["interval"] is None
        and bare["score"]["n"] == 1
        and bare["trainable_parameters"] == 0
    )
    # what xquad --on squad1 scores is squad1's own module, in every respect
    scored = rows["xquad", "lora", ("squad1",)]
    assert scored["trained_task"] == "squad1" and scored["composition"] == ""
    assert scored["seconds"] == rows["tatoeba", "lora", ("squad1",)]["seconds"]
    assert scored["score"] == rows["xquad", "lora", ()]["score"], (
        "and so is what xquad scores without parents"
    )
    assert scored["settings"] == "given" and bare["settings"] == "default", (
        "--set-parents reached squad1"
    )
    gain = rows["tatoeba", "full", ("squad1",)]["gain_over_no_parents"]
    assert gain["mean"] == pytest.approx(
        rows["tatoeba", "full", ("squad1",)]["score"]["mean"] - bare["score"]["mean"]
    )
    averages = {(each["method"], tuple(each["parents"])): each for each in payload["averages"]}
    assert set(averages) == {
        ("full", ()),
        ("lora", ()),
        ("full", ("squad1",)),
        ("lora", ("squad1",)),
    }
    for (method, chain), found in averages.items():
        for seed in ("1", "2"):
            answered = rows["xquad", method, chain]["score"]["seeds"][seed]
            retrieved = rows.get(("tatoeba", method, chain), bare)["score"]
            retrieved = retrieved["seeds"].get(seed, bare["score"]["mean"])
            assert found["mean"]["seeds"][seed] == pytest.approx((answered + retrieved) / 2)
            assert found["mean_without_retrieval"]["seeds"][seed] == pytest.approx(answered)
            assert found["mean_retrieval"]["seeds"][seed] == pytest.approx(retrieved)
    gap = averages["lora", ()]["mean"]["gap_to_full"]
    assert gap["mean"] == pytest.approx(
        averages["lora", ()]["mean"]["mean"] - averages["full", ()]["mean"]["mean"]
    )


def test_a_parent_that_is_given_is_scored_once(runs: Path, tmp_path: Path) -> None:
    """A run, or a bundle from elsewhere: no seed changes it, and a bundle does not tell what its
    training cost.
    """
    common = ("--backbone", "tiny", "--data", "embedded", "--device", "cpu", "--runs", runs)
    run = xtl_json("recipe", "qqp", "--method", "lora", *common, "--set", "train.max_steps=1")
    drive = f"file:{tmp_path}/drive/qqp"
    hub_command.push(
        run["path"],
        drive,
        runs="",
        with_parents=False,
        private=False,
        licence="",
        rows="",
        notify=print,
    )
    found = commands.comparison(
        task="tatoeba",
        on=(run["id"], drive),
        methods_="lora",
        bits="auto",
        seeds="1,2",
        tune=(),
        tune_seeds="",
        set_=["eval.max_examples=12"],
        set_parents=[],
        backbone="tiny",
        data="embedded",
        device="cpu",
        languages="de",
        runs=str(runs),
    )
    payload, _ = commands.compare(found, command="", out=None, dry_run=False, notify=print)
    given, bundle = payload["rows"]
    for row in (given, bundle):
        assert (row["score"]["n"], row["score"]["interval"], row["parents"], row["settings"]) == (
            1,
            None,
            ["qqp"],
            "given",
        )
    assert given["score"] == bundle["score"] and given["stored_bytes"] == bundle["stored_bytes"] > 0
    assert given["trainable_parameters"] == bundle["trainable_parameters"] > 0
    assert given["seconds"] == run["metrics"]["train"]["seconds"] and bundle["seconds"] is None


def test_controls_are_planned_too(runs: Path) -> None:
    chains = ("random", "qqp,self")
    with pytest.raises(RequestError, match="--on random: not possible for method full"):
        compare("pawsx", runs, on=chains, seeds="1", dry_run=True)
    ahead, _ = compare("pawsx", runs, on=chains, methods_="lora", seeds="1", dry_run=True)
    named = {(run["stack"], run["method"]): run for run in ahead["runs"]}
    assert set(named) == {
        (stack, "lora")
        for stack in ("random", "random>pawsx", "qqp", "qqp>pawsx", "qqp>pawsx>pawsx")
    }
    random = named["random", "lora"]
    assert (random["predicted_training_seconds"], random["planned_tensor_bytes"]) == (
        0.0,
        None,
    ), "it is not trained"
    assert named["random>pawsx", "lora"]["planned_tensor_bytes"]


def test_full_fine_tuning_follows_a_chain_of_parents(runs: Path) -> None:
    ahead, _ = compare("pawsx", runs, on=("qqp,csqa",), methods_="full", seeds="1", dry_run=True)
    assert [(run["stack"], run["state"]) for run in ahead["runs"]] == [
        ("qqp", "would train"),
        ("qqp>csqa", "would train"),
        ("qqp>csqa>pawsx", "would train"),
    ]
    payload, _ = compare("pawsx", runs, on=("qqp,csqa",), methods_="full", seeds="1")
    (row,) = payload["rows"]
    assert (
        row["parents"] == ["qqp", "csqa"]
        and row["compose"] == "init"
        and row["score"]["interval"] is None
    )
    record = read_json(runs / row["runs"][0]["run"] / "spec.json")
    assert [parent["task"] for parent in record["parents"]] == ["qqp", "csqa"]
    trained = [*(parent["id"] for parent in record["parents"]), record["id"]]
    assert [each["id"] for each in ahead["runs"]] == trained


def test_all_is_every_target_that_the_source_has(mirror: Path, runs: Path) -> None:
    plain, _ = compare("all", runs, languages=None, methods_=None, dry_run=True)
    targets = {
        task.name
        for task in map(tasks.load, tasks.names())
        if task.kind == "target" and not task.in_domain_task
    }
    scored = {run["task"] for run in plain["runs"] if run["kind"] in ("report", "evaluation")}
    assert scored == targets and not plain["left_out"]
    lora = {run["bits"] for run in plain["runs"] if run["method"] == "lora"}
    assert lora == {32, 8} and {
        run["bits"] for run in plain["runs"] if run["method"] == "full"
    } == {32}
    stacks = {run["stack"] for run in plain["runs"] if run["task"] == "pawsx"}
    assert stacks == {"pawsx", "mnli>pawsx", "squad1>pawsx"}
    found = grid_of("all", runs, languages=None, methods_=None, data=str(mirror), seeds="1")
    ahead, _ = commands.compare(found, command="", out=None, dry_run=True, notify=lambda text: None)
    assert {run["task"] for run in ahead["runs"]} - {"mnli", "squad1"} == targets - set(
        ahead["left_out"]
    )
    with pytest.raises(RequestError, match="xquad"):
        compare("xquad", runs, split="test", languages=None)
