"""Which checkpoint a training goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import SafetensorError

from adapters_xtl import experiment
from adapters_xtl.base.errors import RunError
from adapters_xtl.base.files import file_digest
from adapters_xtl.training.checkpoints import COMPLETE, STATE, newest_checkpoint
from tests.finished_runs import run_recipe


@pytest.mark.parametrize("damaged", [b"\xff\xfe\x00", b"\x00" * 7, b"[1, 2]", b"{", b"null"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path: Path, damaged: bytes) -> None:
    """The bytes that a full disk or a crash of the machine leaves behind end no training."""
    for step in (10, 20):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / STATE).write_text("{}")
        (folder / COMPLETE).write_text(json.dumps({STATE: file_digest(folder / STATE)}))
    (tmp_path / "checkpoint-20" / COMPLETE).write_bytes(damaged)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-20").exists()


@pytest.mark.parametrize("reason", ["No space left on device", "Disk quota exceeded"])
def test_a_disk_that_is_full_at_the_last_write_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """safetensors wraps the system's error in its own: the run stays to be resumed all the same."""
    settings = ("train.max_steps=4", "train.eval_every=2", "train.max_examples=16")

    def full(*arguments: object) -> None:
        raise SafetensorError(f"Error while serializing: I/O error: {reason} (os error)")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "save_heads", full)
        with pytest.raises(RunError, match="disk is full"):
            run_recipe(tmp_path, "panx", set_=settings, languages="de")
    (partial,) = tmp_path.glob("panx/*.partial")
    assert newest_checkpoint(partial / "work") is not None
    assert not list(tmp_path.rglob("failed/*"))
    lines: list[str] = []
    finished = run_recipe(tmp_path, "panx", set_=settings, languages="de", notify=lines.append)
    assert finished["metrics"]["train"]["steps"] == 4
    assert any("resuming from step 4 of 4" in line for line in lines)
