"""A leftover distributed environment has no effect, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xtl.base.launchers import several_processes
from tests.command_line import xtl, xtl_json

LEFT_BEHIND = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29511",
    "TORCHELASTIC_RUN_ID": "none",
    "ACCELERATE_MIXED_PRECISION": "fp16",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "0",
}


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"SLURM_NTASKS": "1", "WORLD_SIZE": "1", "SLURM_JOB_ID": "17"}, []),
        ({"WORLD_SIZE": "2", "PATH": "/bin"}, ["WORLD_SIZE"]),
        ({"LOCAL_RANK": "0"}, ["LOCAL_RANK"]),
        ({"ACCELERATE_USE_CPU": "1", "MASTER_ADDR": "h"}, ["MASTER_ADDR", "ACCELERATE_USE_CPU"]),
    ],
)
def test_which_variables_speak_of_several_processes(
    environment: dict[str, str], names: list[str]
) -> None:
    assert several_processes(environment) == names


@pytest.mark.parametrize("options", [(), ("--method", "lora", "--bits", "8")], ids=" ".join)
def test_they_change_no_training(options: tuple[str, ...], tmp_path: Path) -> None:
    request = (
        *("recipe", "mnli", "--backbone", "tiny", "--set", "train.max_steps=2", "--json"),
        *("--set", "eval.max_examples=20", "--no-zero-shot", *options),
    )
    plain = xtl_json(*request, "--runs", tmp_path / "plain")
    done = xtl(*request, "--runs", tmp_path / "left", timeout=600, **LEFT_BEHIND)
    (line,) = [text for text in done.stderr.splitlines() if "ignored" in text]
    assert "WORLD_SIZE" in line and "ACCELERATE_USE_FSDP" in line and "LOCAL_RANK" in line
    left = json.loads(done.stdout)
    assert left["id"] == plain["id"]
    assert left["metrics"]["tasks"] == plain["metrics"]["tasks"]
    assert left["metrics"]["train"]["select"] == plain["metrics"]["train"]["select"]
