"""Comparisons that fail: damaged parents, killed processes, wrong requests."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from adapters_xtl.backbones import embedded
from adapters_xtl.base.files import read_json
from tests.command_line import complaints, xtl, xtl_json
from tests.grid.comparisons import FLAGS, QUICK, compare


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    embedded.prepare(lambda text: None)


def test_a_failed_run_is_reported_and_the_others_go_on(runs: Path) -> None:
    common = [*FLAGS, "--languages", "de", "--runs", runs]
    parent = xtl_json("recipe", "qqp", "--method", "lora", *FLAGS, "--runs", runs)
    weights = next((Path(parent["path"]) / "module").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    words = ["compare", "pawsx", "--methods", "lora", "--seeds", "1", "--on", "none", *common]
    done = xtl(*words, "--on", parent["path"], "--json", code=1)
    payload = json.loads(done.stdout)
    assert [row["parents"] for row in payload["rows"]] == [[]]
    (failed,) = payload["failed"]
    assert failed["seed"] == 1 and failed["kind"] == "report" and "sha256" in failed["error"]
    assert read_json(Path(payload["path"]) / "comparison.json")["failed"] == payload["failed"]
    assert xtl(*words).stdout.count("lora") == 1, "without the broken parent it succeeds"


def test_a_killed_run_is_reported_and_made_up_for(runs: Path) -> None:
    """Its process alone dies; the comparison goes on, and asked again it resumes that run."""

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if list(runs.glob("pawsx/*.partial/spec.json")):
                for process in multiprocessing.active_children():
                    assert process.pid is not None
                    os.kill(process.pid, signal.SIGKILL)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    payload, _ = compare("pawsx", runs, "train.max_steps=20", methods_="lora")
    killer.join()
    (failed,) = payload["failed"]
    assert "killed by signal 9" in failed["error"] and failed["seed"] == 1
    assert [run["seed"] for run in payload["rows"][0]["runs"]] == [2]
    again, _ = compare("pawsx", runs, "train.max_steps=20", methods_="lora")
    assert not again["failed"] and [run["reused"] for run in again["rows"][0]["runs"]] == [
        False,
        True,
    ]


def test_when_the_command_dies_its_run_dies_too(runs: Path) -> None:
    words = [
        "compare",
        "pawsx",
        *("train.max_steps=2000" if word == QUICK[0] else word for word in FLAGS),
        "--methods",
        "lora",
        "--runs",
        str(runs),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "adapters_xtl", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(runs.glob("pawsx/*.partial/work/checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert below and not alive


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pawsz"], "did you mean 'pawsx'"),
        (["pawsx", "--methods", "full,lorra"], "did you mean 'lora'"),
        (["pawsx", "--bits", "16,7"], "--bits 7: takes auto, 32, 16, 8, 4"),
        (["pawsx", "--methods", "full,lora@8", "--bits", "4"], "--bits 4: means nothing here"),
        (["pawsx", "--set", "train.stride=9"], "means nothing for any task"),
        (["pawsx", "--seeds", "\u0663"], "--seeds \u0663: takes different whole numbers"),
        (["pawsx", "--tune", "max_steps=1e400,inf"], "takes a whole number"),
        (["pawsx", "--seeds", "1,x"], "--seeds x: takes different whole numbers"),
        (["pawsx", "--tune", "lrr=1"], "did you mean 'train.lr'"),
        (["pawsx", "--tune", "lr=1e-4", "--tune", "train.lr=3e-4"], "train.lr is tuned already"),
        (["pawsx", "--tune", "lr"], "expected key=value,value"),
        (["pawsx", "--tune", "lr=1e-4,7"], "train.lr=7 is outside"),
        (
            ["pawsx", "--tune", "lr=1e-4,1e-3", "--tune", "full:lr=1e-5"],
            "the same number of trials, not full 1, bottleneck 2",
        ),
        (["pawsx", "--tune", "lr=1e-4", "--tune-seeds", "2"], "--tune-seeds 2: also reported"),
        (["pawsx", "--on", "mnlI"], "did you mean 'mnli'"),
        (["pawsx", "--set", "train.lrr=1"], "did you mean 'lr'"),
        (["tatoeba", "--set", "train.lr=1"], "trains nothing here"),
        (["pawsx,all"], "TASK pawsx,all: all stands alone"),
        (["pawsx", "--seeds", "1" * 5000], "takes different whole numbers from 0 to 4294967295"),
        (["pawsx", "--on", "mnli,random", "--methods", "full"], "'random' comes first"),
        (["pawsx", "--on", "mnli,tatoeba", "--methods", "full"], "so nothing can stand on it"),
        (
            ["pawsx", "--set", "full:method.r=4"],
            "--methods full: method.r: full fine-tuning has no options",
        ),
        (
            ["pawsx", "--set-parents", "lora:method.rr=4", "--on", "mnli"],
            "--methods lora: method.rr: LoraConfig of `peft`",
        ),
        (["pawsx", "--out", "/dev/null/x"], "--out /dev/null/x: cannot be written"),
    ],
)
def test_a_wrong_request_costs_one_line(words: list[str], complaint: str, runs: Path) -> None:
    done = xtl(
        "compare", *words, "--backbone", "tiny", "--data", "embedded", "--runs", runs, code=2
    )
    assert sum(complaint in line for line in complaints(done)) == 1, done.stderr
    assert not runs.exists()
