"""The same run id means the same bytes, whatever its process did before."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.command_line import xtl, xtl_json

COMMON = ("--backbone", "tiny", "--data", "embedded", "--device", "cpu", "--languages", "en")
QUICK = ("--set", "train.max_steps=2", "--set-parents", "train.max_steps=2")
WORK = {
    "plain": ("recipe", "mnli", "--seeds", "1,2"),
    "stack": ("recipe", "pawsx", "--on", "mnli"),
    "random parent": ("recipe", "pawsx", "--on", "random"),
    "copy": ("recipe", "pawsx", "--on", "mnli", "--compose", "init"),
    "fused": ("recipe", "pawsx", "--on", "mnli,qqp", "--compose", "fuse"),
}


def weights(runs: Path) -> dict[str, bytes]:
    """Run and file → bytes, of every module and head in a store."""
    return {
        str(path.relative_to(runs)): path.read_bytes()
        for folder in ("module", "head")
        for path in runs.glob(f"*/*/{folder}/**/*")
        if path.is_file()
    }


def arguments(name: str, method: str, runs: Path) -> tuple[str | Path, ...]:
    quick = QUICK if "--on" in WORK[name] and name != "random parent" else QUICK[:2]
    return (*WORK[name], "--method", method, *COMMON, *quick, "--runs", runs)


@pytest.mark.parametrize("method", ["bottleneck", "lora"])
def test_weights_do_not_depend_on_what_the_process_did_before(method: str, tmp_path: Path) -> None:
    names = [name for name in WORK if name != "fused" or method == "bottleneck"]
    random.Random(method).shuffle(names)
    together = tmp_path / "together"
    for name in names:  # parents and children in one process, or from the store
        xtl_json(*arguments(name, method, together))
    alone = tmp_path / "alone"
    for seed in ("2", "1"):  # each seed, and each parent, in a process of its own
        words = arguments("plain", method, alone)
        xtl("recipe", "mnli", "--seed", seed, *words[4:])
    for name in reversed(names):
        xtl_json(*arguments(name, method, alone))
    assert weights(together) == weights(alone)
    assert len({path.split("/")[1] for path in weights(alone)}) >= 5
