"""The README's commands are real, and the second asking is quick. The slow first asking is
`.ci/run`'s own first line.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.command_line import xtl, xtl_json

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]
COMMANDS = [command.partition(" #")[0].strip() for command in COMMANDS]


def test_the_readme_has_its_two_commands() -> None:
    made = [command for command in COMMANDS if command.startswith("make")]
    assert made[:2] == ["make recipe TASK=mnli", "make test"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_every_make_command_becomes_the_flags_it_names(command: str) -> None:
    shown = subprocess.run(
        [*command.split(), "-n", "-o", ".venv/.installed", "-o", ".venv/.tools"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    flags = {
        "ON": "--on",
        "METHOD": "--method",
        "DATA": "--data",
        "BACKBONE": "--backbone",
        "BITS": "--bits",
        "SEEDS": "--seeds",
        "SET": "--set",
    }
    for name, value in re.findall(r"([A-Z]+)=(\S+)", command):
        assert (f"{flags[name]} {value}" if name in flags else value) in shown


def test_make_help_lists_the_targets() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(f"make {target}" in shown for target in ("install", "recipe", "test", "check"))


@pytest.mark.e2e
def test_the_embedded_encoder_trains_and_the_store_answers(tmp_path: Path) -> None:
    asked = [
        "recipe",
        "mnli",
        "--set",
        "train.max_steps=3",
        "--set",
        "train.select_examples=30",
        "--runs",
        tmp_path,
    ]
    first = xtl_json(*asked)
    assert first["reused"] is False and first["metrics"]["train"]["steps"] == 3
    started = time.monotonic()
    again = xtl_json(*asked)
    assert again["reused"] is True and again["metrics"] == first["metrics"]
    assert time.monotonic() - started < 5
    shown = xtl(*asked).stdout
    assert "accuracy" in shown and first["path"] in shown.replace("\n", "")
