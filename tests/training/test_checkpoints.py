"""Which checkpoint a training goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters_xtl.base.files import file_digest
from adapters_xtl.training.checkpoints import COMPLETE, STATE, newest_checkpoint


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
