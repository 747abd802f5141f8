"""Recipes on a tiny random XLM-R: what trains, what stays frozen, what a run holds, what a killed
run leaves.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xtl import tasks
from adapters_xtl.backbones import embedded
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import folder_digest, read_json
from adapters_xtl.cli.commands import recipe as commands
from adapters_xtl.data.reading import Reader, read_report
from adapters_xtl.evaluation import predict
from adapters_xtl.models.assembly import trained_model
from adapters_xtl.models.context import Context
from adapters_xtl.models.network import Host
from adapters_xtl.planning.finished_modules import plan_scoring
from adapters_xtl.runs.store import Store, verify
from tests.command_line import Running, complaints, xtl, xtl_json
from tests.finished_runs import QUICK, finished_run, run_recipe, settings


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def run(task: str, runs: Path, *own: str, **request: Any) -> dict[str, Any]:
    """A training of three steps, in this test's store."""
    return run_recipe(runs, task, set_=settings(QUICK, *own), **request)


def finished(task: str, runs: Path, *own: str, **request: Any) -> dict[str, Any]:
    """The same, perhaps trained for another test and copied."""
    return finished_run(runs, task, set_=settings(QUICK, *own), **request)


def predictions(path: str | Path, task: str, language: str) -> list[dict[str, Any]]:
    text = (Path(path) / "predictions" / task / f"{language}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_a_run_directory_is_whole(method: str, runs: Path) -> None:
    payload = run("mnli", runs, method=method)
    path = Path(payload["path"])
    verify(path)
    assert payload["reused"] is False and path.name == payload["id"] and path.parent.name == "mnli"
    names = {each.name for each in path.iterdir()}
    assert names == {
        "spec.json",
        "provenance.json",
        "metrics.json",
        "module",
        "head",
        "predictions",
        "train_log.jsonl",
        "README.md",
        "manifest.json",
    }
    metrics = payload["metrics"]
    assert metrics == read_json(path / "metrics.json")
    assert (
        metrics["tasks"]["mnli"]["languages"]["en"]["n"] == 420
        and metrics["tasks"]["mnli"]["selected_on"] == 420
    )
    assert metrics["score"] == metrics["tasks"]["mnli"]["score"]
    assert metrics["train"]["steps"] == 3 and metrics["train"]["examples"] == 96
    provenance = read_json(path / "provenance.json")
    assert provenance["threads"] == torch.get_num_threads()
    assert "resident" in provenance["memory_measured"]
    assert not list(path.rglob("*.bin")) and not list(path.rglob("*.pt"))
    again = run("mnli", runs, method=method)
    assert again["reused"] is True and again["id"] == payload["id"] and again["metrics"] == metrics
    card = (path / "README.md").read_text()
    assert "sample rows" in card and f"{metrics['score']:.2f}" in card


def test_trainable_counts_are_the_formulas(runs: Path) -> None:
    hidden, layers, inner = 32, 4, 64
    head = hidden * hidden + hidden + hidden * 3 + 3
    bottleneck = layers * (hidden * 2 + 2 + 2 * hidden + hidden)  # reduction factor 16: 32 → 2
    lora = 4 * layers * (4 * 2 * hidden + 2 * (hidden + inner))
    plain = finished("mnli", runs)["metrics"]["train"]
    assert plain["trainable_parameters"] == bottleneck + head
    found = run("mnli", runs, "method.r=4", method="lora")["metrics"]["train"]
    assert found["trainable_parameters"] == lora + head and found["head_parameters"] == head
    assert 4 * (lora + head) < found["stored_bytes"] < 4 * (lora + head) + 20_000, (
        "float32, names and settings"
    )
    upper = run("mnli", runs, from_layer=2)["metrics"]["train"]["trainable_parameters"]
    assert upper == bottleneck // 2 + head


@pytest.mark.parametrize(
    ("parents", "bits"), [("", "32"), ("qqp", "32"), ("qqp,csqa", "32"), ("qqp,csqa", "8")]
)
@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_stacks_train_their_child_alone(method: str, parents: str, bits: str, runs: Path) -> None:
    """The core test: parents' files and the backbone unchanged, exact counts (asserted inside),
    save → load equal.
    """
    store = Store(runs)
    payload = finished("pawsx", runs, on=parents, method=method, bits=bits, languages="de")
    below = [path for name in parents.split(",") if name for path in (runs / name).iterdir()]
    before = {path: folder_digest(path / "module") for path in below}
    lineage = read_json(Path(payload["path"]) / "provenance.json")["lineage"]
    assert [parent["sha256"] for parent in lineage["parents"]] == [before[path] for path in below]
    alone = finished("pawsx", runs, method=method, bits=bits, languages="de")
    assert (
        alone["metrics"]["train"]["trainable_parameters"]
        == payload["metrics"]["train"]["trainable_parameters"]
    )

    # the run's module, loaded again over its parents, gives the predictions that the run wrote
    asked = commands.request(
        task="",
        on="",
        set_=[],
        set_parents=[],
        runs=str(runs),
        data="embedded",
        device="cpu",
        languages="de",
    )
    planned = plan_scoring(asked, payload["path"], store)
    model = trained_model(Context(planned, store, Host(), lambda text: None), planned.target)
    rows, _ = read_report(Reader(), tasks.load("pawsx"), planned.evaluation.files["pawsx"])
    found = predict.predict(model, "pawsx", rows["de"].examples, device="cpu", dtype=planned.dtype)
    assert found == predictions(payload["path"], "pawsx", "de")


def test_a_parent_changes_the_child_and_init_starts_from_it(runs: Path) -> None:
    alone = finished("pawsx", runs, languages="de")
    stacked = finished("pawsx", runs, on="qqp", languages="de")
    copied = run("pawsx", runs, on="qqp", languages="de", compose="init")
    probabilities = [
        predictions(each["path"], "pawsx", "de")[0]["probabilities"]["0"]
        for each in (alone, stacked, copied)
    ]
    assert len(set(probabilities)) == 3
    assert len(list((runs / "qqp").iterdir())) == 1, "one parent serves both"


def test_the_loss_falls(runs: Path) -> None:
    payload = run(
        "udpos",
        runs,
        "train.max_steps=120",
        "train.eval_every=120",
        "train.lr=0.01",
        languages="en",
        method="lora",
    )
    log = [
        json.loads(line)
        for line in (Path(payload["path"]) / "train_log.jsonl").read_text().splitlines()
    ]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.85 * losses[0]


def test_borrowed_training_and_other_languages(runs: Path) -> None:
    first = run("xquad", runs, languages="de")
    assert first["metrics"]["train"] is None and list(first["metrics"]["tasks"]) == ["xquad"]
    trained = list((runs / "squad1").iterdir())
    assert len(trained) == 1
    other = run("xquad", runs, languages="zh")
    assert other["id"] != first["id"] and list((runs / "squad1").iterdir()) == trained
    same = run_recipe(runs, "xquad", on="squad1", set_=[], languages="de")
    assert same["metrics"]["score"] == first["metrics"]["score"], (
        "xquad --on squad1 evaluates that module itself"
    )


def test_bare_backbone_retrieves(runs: Path) -> None:
    payload = run_recipe(runs, "tatoeba", set_=[], set_parents=[], languages="de,fr")
    assert payload["metrics"]["tasks"]["tatoeba"]["languages"]["de"]["n"] == 40


def test_several_tasks_share_one_module(runs: Path) -> None:
    payload = run("multi", runs, "train.tasks=qqp,squad1,csqa,ccg", "train.max_steps=8")
    path = Path(payload["path"])
    assert sorted(each.name for each in (path / "head").iterdir()) == [
        "ccg",
        "csqa",
        "qqp",
        "squad1",
    ]
    assert sorted(payload["metrics"]["tasks"]) == ["ccg", "csqa", "qqp", "squad1"]
    scores = [entry["score"] for entry in payload["metrics"]["tasks"].values()]
    assert payload["metrics"]["score"] == pytest.approx(sum(scores) / 4)
    child = run("pawsx", runs, on=payload["id"], languages="de")
    assert child["metrics"]["train"]["steps"] == 3


def test_a_named_run_must_fit(runs: Path) -> None:
    payload = finished("qqp", runs)
    assert run("pawsx", runs, on=payload["path"], languages="de")["metrics"]["train"]["steps"] == 3
    with pytest.raises(RequestError, match="method is bottleneck"):
        run("pawsx", runs, on=payload["id"], method="lora", languages="de")


SETTINGS = ("train.max_steps=60", "train.eval_every=6", "train.lr=0.02", "train.select_examples=20")
SLOW = [
    "recipe",
    "qqp",
    "--backbone",
    "tiny",
    "--data",
    "embedded",
    "--device",
    "cpu",
    *(word for setting in SETTINGS for word in ("--set", setting)),
]


def slow(runs: Path, *settings: str) -> tuple[dict[str, Any], list[str]]:
    """The request of SLOW in this process, and what it said."""
    said: list[str] = []
    asked = commands.request(
        task="qqp",
        on="",
        set_=[*SETTINGS, *settings],
        set_parents=[],
        backbone="tiny",
        data="embedded",
        device="cpu",
        runs=str(runs),
    )
    payload, _ = commands.recipe(
        asked, baseline=False, force=False, dry_run=False, notify=said.append
    )
    return payload, said


def _kill_when(condition: Any, runs: Path, arguments: list[str]) -> bool:
    """Starts the command and kills it (SIGKILL) as soon as `condition(runs)` holds; False when it
    had just ended.
    """
    process = Running(*arguments, "--runs", runs)
    deadline = time.monotonic() + 120
    while process.poll() is None and not condition(runs) and time.monotonic() < deadline:
        time.sleep(0.01)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive and not Store(runs).all()


def _steps(runs: Path) -> list[int]:
    return sorted(
        int(path.parent.name.split("-")[1])
        for path in runs.glob("qqp/*.partial/work/checkpoint-*/complete.json")
    )


def _comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in metrics["train"].items()
        if name not in ("seconds", "measured_peak_bytes")
    }
    return {**metrics, "train": kept}


MOMENTS = {
    "before the first checkpoint": lambda runs: bool(list(runs.glob("qqp/*.partial/spec.json"))),
    "after the first checkpoint": lambda runs: bool(_steps(runs)),
    "while a checkpoint is written": lambda runs: (
        len(list(runs.glob("qqp/*.partial/work/checkpoint-*"))) > 1
    ),
    "while predicting": lambda runs: bool(list(runs.glob("qqp/*.partial/head"))),
}


@pytest.mark.parametrize(
    ("patience", "moments"),
    [(0, list(MOMENTS)[1::2]), (2, list(MOMENTS)[::2])],
    ids=["to the end", "early stopping"],
)
def test_killed_runs_resume_to_the_same_metrics(
    patience: int, moments: list[str], tmp_path: Path
) -> None:
    setting = f"train.patience={patience}"
    whole, _ = slow(tmp_path / "whole", setting)
    assert (whole["metrics"]["train"]["steps"] < 60) == bool(patience)
    for name in moments:
        # the moment may be missed by a few milliseconds on a busy machine: three tries to hit it
        places = [tmp_path / f"{name.replace(' ', '-')}-{attempt}" for attempt in range(3)]
        runs = next(
            (each for each in places if _kill_when(MOMENTS[name], each, [*SLOW, "--set", setting])),
            None,
        )
        assert runs is not None, f"it could not be killed {name}"
        resumed, _ = slow(runs, setting)
        assert resumed["reused"] is False
        assert _comparable(resumed["metrics"]) == _comparable(whole["metrics"]), f"killed {name}"
        assert predictions(resumed["path"], "qqp", "en") == predictions(whole["path"], "qqp", "en")


def test_an_interrupted_run_says_that_it_goes_on_from_there(tmp_path: Path) -> None:
    for number in range(4):  # a run that ended before the signal came is no interrupted one
        runs = tmp_path / str(number)
        process = Running(*SLOW, "--runs", runs)
        while process.poll() is None and not _steps(runs):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        if process.wait() != 0:
            break
    said = process.said()
    assert process.poll() == 130 and not any("Traceback" in line for line in said)
    assert said[-1].startswith("xtl: interrupted; ") and list(runs.glob("qqp/*.partial"))


def test_a_truncated_newest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole, _ = slow(tmp_path / "whole", "train.patience=0")
    runs = tmp_path / "broken"
    assert _kill_when(
        lambda runs: len(_steps(runs)) >= 2, runs, [*SLOW, "--set", "train.patience=0"]
    )
    newest = max(
        runs.glob("qqp/*.partial/work/checkpoint-*"), key=lambda path: int(path.name.split("-")[1])
    )
    for name in ("optimizer.pt", "trainable.safetensors"):
        if (newest / name).exists():
            os.truncate(newest / name, (newest / name).stat().st_size // 2)
    resumed, said = slow(runs, "train.patience=0")
    assert any("resuming from step" in text for text in said)
    assert _comparable(resumed["metrics"]) == _comparable(whole["metrics"])


def test_a_full_disk_loses_nothing_finished(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root: the full disk is not tested here")
    try:
        two_steps = ["train.max_steps=2" if word == SETTINGS[0] else word for word in SLOW]
        first = xtl_json(*two_steps, "--runs", disk)
        done = xtl(*SLOW, "--method", "lora", "--set", "method.r=64", "--runs", disk, code=1)
        assert "disk is full" in complaints(done)[-1]
        verify(Path(first["path"]))
        assert Store(disk).all() == [Path(first["path"])]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_force_keeps_what_it_replaces(runs: Path) -> None:
    first = finished("qqp", runs)
    shutil.copytree(first["path"], runs.parent / "copy")
    again = run("qqp", runs, force=True)
    assert again["reused"] is False and again["id"] == first["id"]
    assert _comparable(again["metrics"]) == _comparable(first["metrics"]), (
        "the same request gives the same numbers"
    )
    assert len(list((runs / "failed").iterdir())) == 1


def test_training_leaves_the_global_state_alone(runs: Path) -> None:
    run("qqp", runs)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
