"""Checkpoints of a training: only what trains, and one counts only once its own manifest is
written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.files import file_digest, read_json, write_json

__all__ = [
    "COMPLETE",
    "load_trainable",
    "mark_complete",
    "newest_checkpoint",
    "save_trainable",
    "was_over",
]

COMPLETE = "complete.json"
WEIGHTS = "trainable.safetensors"


def save_trainable(folder: Path, trainable: Mapping[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in trainable.items()}
    save_file(state, str(folder / WEIGHTS))


def load_trainable(folder: Path, trainable: Mapping[str, torch.Tensor]) -> None:
    """Copies a checkpoint's weights into `trainable`. RunError when it holds other parameters."""
    saved = load_file(str(folder / WEIGHTS))
    if set(trainable) != set(saved):
        raise RunError(f"{folder}: holds other parameters than the ones that train")
    with torch.no_grad():
        for name, value in saved.items():
            trainable[name].copy_(value)


def mark_complete(folder: Path) -> None:
    """The manifest, last: sha256 of every file."""
    write_json(
        folder / COMPLETE, {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose every file is the one its manifest names; broken ones are
    removed.
    """
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True
    )
    for path in found:
        try:
            files: dict[str, str] = read_json(path / COMPLETE)
            if all(file_digest(path / name) == sha for name, sha in files.items()):
                return path
        except (OSError, json.JSONDecodeError):
            pass
        shutil.rmtree(path, ignore_errors=True)
    return None


def was_over(checkpoint: Path, total: int, patience: int) -> bool:
    """Whether training had ended at this checkpoint: all steps done, or early stopping had spoken.

    `Trainer` would go on from a checkpoint at which it had stopped early.
    """
    state = read_json(checkpoint / "trainer_state.json")
    stopping = (
        state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {}).get("attributes", {})
    )
    counter = int(stopping.get("early_stopping_patience_counter", 0))
    return bool(state["global_step"] >= total or (patience and counter >= patience))
