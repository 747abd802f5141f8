"""One `fit()` on the Hugging Face `Trainer`, for every method and format.

The order of all batches is fixed before the first step, so a resumed run sees what an uninterrupted one would have.
Checkpoints hold only what trains, and count only once their own manifest is written.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from adapters_xtl import formats
from adapters_xtl.canon import file_digest, read_json, say_disk_full, write_json
from adapters_xtl.errors import RunError
from adapters_xtl.formats.items import Item
from adapters_xtl.model import Model
from adapters_xtl.spec import Hyper

__all__ = ["Fitted", "TrainSet", "batches", "fit"]

WINDOW = 50  # batches that are sorted by length together: enough for little padding, few enough to stay shuffled
COMPLETE = "complete.json"


@dataclass(frozen=True)
class TrainSet:
    """Items of one task. `stages` (one number an item) orders them: a stage is finished before the next begins."""

    task: str
    items: Sequence[Item]
    stages: Sequence[int] | None = None


@dataclass(frozen=True)
class Fitted:
    """What training came to. `select` holds the scores of the checkpoint that was kept, `step` is its step."""

    seconds: float
    steps: int
    step: int
    examples: int
    tokens: int
    peak_memory_bytes: int
    select: dict[str, Any]
    log: list[dict[str, Any]]


def _by_length(order: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of similar length, in random order: each window of the shuffled items is sorted and cut."""
    found: list[np.ndarray] = []
    for start in range(0, len(order), size * WINDOW):
        window = order[start : start + size * WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        found += [window[cut : cut + size] for cut in range(0, len(window), size)]
    return [found[number] for number in rng.permutation(len(found))]


def _passes(indices: np.ndarray, lengths: np.ndarray, size: int, wanted: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`wanted` batches over as many passes as they take; every item once a pass."""
    found: list[np.ndarray] = []
    while len(found) < wanted:
        found += _by_length(rng.permutation(indices), lengths, size, rng)
    return found[:wanted]


def batches(sets: Sequence[TrainSet], hyper: Hyper, seed: int) -> list[tuple[str, np.ndarray]]:
    """(task, item numbers) of every optimizer step.

    One task: all items once an epoch. Several: each task gets steps in proportion to min(size, cap), batches of one
    task each, mixed evenly at random. Stages follow one another, each with its share of the steps.
    """
    rng = np.random.default_rng(seed)
    sizes = [min(len(each.items), hyper.cap) if len(sets) > 1 else len(each.items) for each in sets]
    epoch = sum(math.ceil(size / hyper.batch_size) for size in sizes)
    total = hyper.max_steps or max(1, round(epoch * hyper.epochs))
    planned: list[tuple[str, np.ndarray]] = []
    remaining, weight = total, sum(sizes)
    for each, size in zip(sets, sizes, strict=True):
        steps = min(remaining, max(1, round(total * size / weight))) if each is not sets[-1] else remaining
        remaining -= steps
        lengths = np.array([item.tokens for item in each.items])
        stages = np.array(each.stages if each.stages is not None else np.zeros(len(each.items)))
        left = steps
        for stage in (known := sorted(set(stages.tolist()))):
            indices = np.flatnonzero(stages == stage)
            share = left if stage == known[-1] else min(left, max(1, round(steps * len(indices) / len(stages))))
            left -= share
            planned += [(each.task, batch) for batch in _passes(indices, lengths, hyper.batch_size, share, rng)]
    if len(sets) > 1:
        planned = [planned[number] for number in rng.permutation(len(planned))]
    return planned


class _Items(Dataset[tuple[str, Item]]):
    """Every item of every task behind one number, so that a plain batch sampler can name them."""

    def __init__(self, sets: Sequence[TrainSet]) -> None:
        self.flat = [(each.task, item) for each in sets for item in each.items]

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, number: int) -> tuple[str, Item]:
        return self.flat[number]


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Steps, loss, examples/s and time left on stderr: one line rewritten on a terminal, else one every ten seconds."""

    def __init__(self, per_step: int) -> None:
        self.per_step = per_step
        self.started = self.last = time.monotonic()
        self.first: int | None = None
        self.loss = float("nan")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = state.global_step - 1, now
        terminal = sys.stderr.isatty()
        if now - self.last < (0.5 if terminal else 10) and state.global_step < state.max_steps:
            return
        self.last = now
        done, left = state.global_step - self.first, state.max_steps - state.global_step
        rate = done / max(now - self.started, 1e-9)
        minutes, seconds = divmod(int(left / rate) if rate else 0, 60)
        text = (f"step {state.global_step}/{state.max_steps} · loss {self.loss:.3f} · "
                f"{rate * self.per_step:.0f} examples/s · {minutes}:{seconds:02d} left")  # fmt: skip
        end = "\n" if not terminal or not left else ""
        print(("\r\x1b[K" if terminal else "") + text, end=end, file=sys.stderr, flush=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = logs["loss"]
        if logs and "eval_score" in logs:
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""
            print(f"{clear}step {state.global_step}: select score {logs['eval_score']:.2f}", file=sys.stderr, flush=True)


class _Trainer(Trainer):  # type: ignore[misc]
    """`Trainer` around an encoder and heads: fixed batches, checkpoints of what trains, our evaluation."""

    def __init__(self, model: Model, args: TrainingArguments, sets: Sequence[TrainSet],
                 order: Sequence[tuple[str, np.ndarray]], score: Callable[[], dict[str, float]], multiple: int,
                 patience: int) -> None:  # fmt: skip
        offsets = dict(zip((each.task for each in sets), np.cumsum([0, *(len(each.items) for each in sets)]), strict=False))
        self.control: Any
        self.order = [(batch + offsets[task]).tolist() for task, batch in order]
        self.score, self.multiple = score, multiple
        callbacks: list[TrainerCallback] = [EarlyStoppingCallback(patience)] if patience else []
        items = _Items(sets)  # `Trainer` wants some eval_dataset; ours is scored by `evaluate` below
        super().__init__(model=model, args=args, train_dataset=items, eval_dataset=items, callbacks=callbacks)

    def get_train_dataloader(self) -> DataLoader[Any]:
        model: Model = self.model

        def collate(batch: Sequence[tuple[str, Item]]) -> dict[str, Any]:
            task = batch[0][0]
            tensors = formats.load(model.specs[task].format).collate(
                [item for _, item in batch], model.tokenizer, self.multiple
            )
            return {"task": task, "batch": tensors}

        loader: DataLoader[Any] = DataLoader(self.train_dataset, batch_sampler=self.order, collate_fn=collate)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        found = model(inputs["task"], inputs["batch"])
        return (found["loss"], found) if return_outputs else found["loss"]

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        was = self.model.training
        metrics = {f"eval_{name}": value for name, value in self.score().items()}
        self.model.train(was)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.trainable().items()}
        save_file(state, str(folder / "trainable.safetensors"))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with say_disk_full(folder):
            try:
                with warnings.catch_warnings():  # checkpoints a second apart are ordered by number, which is what we want
                    warnings.filterwarnings("ignore", message="mtime may not be reliable")
                    super()._save_checkpoint(model, trial)
            except (SafetensorError, RuntimeError) as error:  # safetensors and torch.save wrap the system's error
                if shutil.disk_usage(folder.parent).free < 2**20 or "No space left" in str(error):
                    raise OSError(28, "No space left on device") from error
                raise
            if folder.is_dir():
                write_json(folder / COMPLETE, {file.name: file_digest(file) for file in sorted(folder.iterdir())})

    def _load_trainable(self, folder: Path) -> None:
        own = self.model.trainable()
        saved = load_file(str(folder / "trainable.safetensors"))
        if set(own) != set(saved):
            raise RunError(f"{folder}: holds other parameters than the ones that train")
        with torch.no_grad():
            for name, value in saved.items():
                own[name].copy_(value)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._load_trainable(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        # not state.best_model_checkpoint: that path is stale once the runs directory was moved
        self._load_trainable(Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}")


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose every file is the one its manifest names; broken ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in found:
        try:
            files: dict[str, str] = read_json(path / COMPLETE)
            if all(file_digest(path / name) == sha for name, sha in files.items()):
                return path
        except (OSError, json.JSONDecodeError):
            pass
        shutil.rmtree(path, ignore_errors=True)
    return None


def _was_over(checkpoint: Path, total: int, patience: int) -> bool:
    """Whether training had ended at this checkpoint: all steps done, or early stopping had spoken.

    `Trainer` would go on from a checkpoint at which it had stopped early.
    """
    state = read_json(checkpoint / "trainer_state.json")
    stopping = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {}).get("attributes", {})
    counter = int(stopping.get("early_stopping_patience_counter", 0))
    return bool(state["global_step"] >= total or (patience and counter >= patience))


def _peak_memory(device: str) -> int:
    """Bytes: the CUDA allocator's peak, or the process's peak resident size."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fit(model: Model, sets: Sequence[TrainSet], hyper: Hyper, *, seed: int, dtype: str, device: str, work: Path,
        score: Callable[[], dict[str, float]], notify: Callable[[str], None]) -> Fitted:  # fmt: skip
    """Trains what is trainable in `model` and leaves it at its best checkpoint by `score()["score"]`.

    `work` keeps the checkpoints; a complete one found there is resumed from. `score` is called every
    `hyper.eval_every` steps (0: ten times a run) with the model in eval mode, and returns numbers to log.
    RunError when the loss is no number or the disk is full.
    """
    order = batches(sets, hyper, seed)
    total = len(order)
    every = min(total, hyper.eval_every or max(1, math.ceil(total / 10)))
    AcceleratorState._reset_state(reset_partial_state=True)  # one process, several trainings: its precision is global
    args = TrainingArguments(
        output_dir=str(work), max_steps=total, per_device_train_batch_size=hyper.batch_size, learning_rate=hyper.lr,
        weight_decay=hyper.weight_decay, max_grad_norm=hyper.clip, warmup_steps=math.ceil(total * hyper.warmup),
        lr_scheduler_type="linear", optim="adamw_torch", seed=seed, data_seed=seed, use_cpu=device == "cpu",
        bf16=dtype == "bfloat16", fp16=dtype == "float16", eval_strategy="steps", eval_steps=every, save_strategy="steps",
        save_steps=every, save_total_limit=3, load_best_model_at_end=True, metric_for_best_model="eval_score",
        greater_is_better=True, logging_steps=max(1, min(50, every // 5 or 1)), disable_tqdm=True, report_to=[],
        restore_callback_states_from_checkpoint=True, remove_unused_columns=False, dataloader_pin_memory=device != "cpu",
        logging_nan_inf_filter=False, average_tokens_across_devices=False,
    )  # fmt: skip
    trainer = _Trainer(model, args, sets, order, score, 8 if device == "cuda" else 1, hyper.patience)
    trainer.pop_callback(next(cb for cb in trainer.callback_handler.callbacks if type(cb).__name__ == "PrinterCallback"))
    trainer.add_callback(_Progress(hyper.batch_size))
    trainer.add_callback(_Guard())
    checkpoint = newest_checkpoint(work)
    if checkpoint is not None:
        notify(f"resuming from step {checkpoint.name.split('-')[1]} of {total}")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    if checkpoint is not None and _was_over(checkpoint, total, hyper.patience):
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.state.best_global_step:
        raise RunError("no evaluation gave a score; nothing was kept")
    done = order[: trainer.state.global_step]
    tokens = {each.task: np.array([item.tokens for item in each.items]) for each in sets}
    best = next(entry for entry in trainer.state.log_history
                if entry.get("step") == trainer.state.best_global_step and "eval_score" in entry)  # fmt: skip
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # takes accelerate's autocast off model.forward
    model.eval()
    return Fitted(
        seconds=time.monotonic() - started, steps=trainer.state.global_step,
        step=int(trainer.state.best_global_step), examples=sum(len(batch) for _, batch in done),
        tokens=int(sum(tokens[task][batch].sum() for task, batch in done)), peak_memory_bytes=_peak_memory(device),
        select={name.removeprefix("eval_"): value for name, value in best.items() if name.startswith("eval_")},
        log=[entry for entry in trainer.state.log_history if "train_runtime" not in entry],
    )  # fmt: skip


class _Guard(TrainerCallback):  # type: ignore[misc]
    """Evaluates after the last step too (the flow callback only saves there), and stops on a loss that is no number."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise RunError(f"the loss is {logs['loss']} at step {state.global_step}: lower train.lr or raise train.warmup")
