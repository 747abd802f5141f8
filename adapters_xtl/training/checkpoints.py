"""Checkpoints of a training: only what trains, and one counts only once its own manifest is
written.
"""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.files import (
    apply_umask,
    explained_save_errors,
    file_digest,
    read_json,
    write_json,
)

__all__ = [
    "COMPLETE",
    "STATE",
    "StageState",
    "TrainingState",
    "checkpoint_folder",
    "device_random_state",
    "load_checkpoint",
    "load_trainable",
    "newest_checkpoint",
    "random_state",
    "read_state",
    "save_checkpoint",
    "set_device_random_state",
    "set_random_state",
]

COMPLETE = "complete.json"
WEIGHTS = "trainable.safetensors"
OPTIMIZER = "optimizer.pt"
STATE = "state.json"
KEPT = 2  # newest checkpoints that are kept: one more than needed, should the newest be damaged


@dataclass
class StageState:
    """How far one stage has come. Steps are counted from the start of the training.

    `skipped` counts the steps of this stage that changed nothing because a float16 gradient was too
    large; the learning rate stays where it was for them. `without_better` counts the evaluations
    since the best one.
    """

    name: str
    planned: int
    steps: int = 0
    skipped: int = 0
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    without_better: int = 0


@dataclass
class TrainingState:
    """What a training has done so far, as its checkpoints record it.

    `stages` are those that have begun. `unlogged_loss` is the sum of the losses of the steps since
    the last line of the log. `seconds`, `joules` (None where the device reports none), and how many
    states below the modules were computed in how many of the seconds, are those of every process
    that worked on it.
    """

    step: int = 0
    stages: list[StageState] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    unlogged_loss: float = 0.0
    unlogged_steps: int = 0
    seconds: float = 0.0
    joules: float | None = 0.0
    states_computed: int = 0
    states_seconds: float = 0.0


def checkpoint_folder(work: Path, step: int) -> Path:
    return work / f"checkpoint-{step}"


def device_random_state() -> torch.Tensor | None:
    """The state of the GPU's random number generator; None where torch uses no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_rng_state()
    return torch.mps.get_rng_state() if torch.backends.mps.is_available() else None


def set_device_random_state(state: torch.Tensor | None) -> None:
    if state is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state)
    elif state is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state)


def random_state(device: str) -> dict[str, Any]:
    """The state of every global random number generator that a training on this device draws from,
    as tensors and plain values.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        # asking a GPU for its state opens it, and it may be another process's
        "device": None if device == "cpu" else device_random_state(),
        "python": random.getstate(),
        "numpy": (
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            gauss,
        ),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    set_device_random_state(state["device"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))


def save_checkpoint(
    work: Path,
    state: TrainingState,
    trainable: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: str,
) -> None:
    """Writes `checkpoint-<step>` and removes those that are no longer needed.

    RunError, naming the place, when the disk is full, or a quota where the library says so:
    torch.save does not.
    """
    folder = checkpoint_folder(work, state.step)
    with explained_save_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            weights = {name: value.detach().cpu().contiguous() for name, value in trainable.items()}
            save_file(weights, str(folder / WEIGHTS))
            resumable = {
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "random": random_state(device),
            }
            torch.save(resumable, folder / OPTIMIZER)
            write_json(folder / STATE, asdict(state))
        except (SafetensorError, RuntimeError) as error:
            # torch.save's error does not say that the disk is full: the free space does
            if shutil.disk_usage(work).free < 2**20:
                raise OSError(errno.ENOSPC, "No space left on device") from error
            raise
        apply_umask(folder)  # safetensors writes for the owner alone
        files = sorted(folder.iterdir())
        write_json(folder / COMPLETE, {file.name: file_digest(file) for file in files})
    _remove_old(work)


def _remove_old(work: Path) -> None:
    """Keeps the newest checkpoints, and for each the one that is the best so far in its stage."""
    newest = _by_step(work)[:KEPT]
    kept = set(newest)
    for folder in newest:
        with contextlib.suppress(OSError, ValueError):  # a damaged one says nothing
            kept.add(checkpoint_folder(work, read_state(folder).stages[-1].best_step))
    for folder in _by_step(work):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _by_step(work: Path) -> list[Path]:
    """The directories of all checkpoints, complete or not, newest first."""
    folders = work.glob("checkpoint-*")
    return sorted(folders, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def read_state(folder: Path) -> TrainingState:
    """What the training had done when it wrote this checkpoint."""
    record = read_json(folder / STATE)
    stages = [StageState(**stage) for stage in record.pop("stages")]
    return TrainingState(**record, stages=stages)


def load_trainable(folder: Path, trainable: Mapping[str, torch.Tensor]) -> None:
    """Copies a checkpoint's weights into `trainable`. RunError when it holds other parameters."""
    saved = load_file(str(folder / WEIGHTS))
    if set(trainable) != set(saved):
        raise RunError(f"{folder}: holds other parameters than the ones that train")
    with torch.no_grad():
        for name, value in saved.items():
            trainable[name].copy_(value)


def load_checkpoint(
    folder: Path,
    trainable: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Puts weights, optimizer and random number generators where they were."""
    load_trainable(folder, trainable)
    resumable = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(resumable["optimizer"])
    scaler.load_state_dict(resumable["scaler"])
    set_random_state(resumable["random"])


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint whose every file is the one its manifest names; broken ones are
    removed.
    """
    for folder in _by_step(work):
        try:
            files: dict[str, str] = read_json(folder / COMPLETE)
            is_complete = all(file_digest(folder / name) == sha for name, sha in files.items())
            if is_complete and STATE in files:
                return folder
        except (OSError, ValueError, TypeError, AttributeError):  # no table of digests
            pass
        shutil.rmtree(folder, ignore_errors=True)
    return None
