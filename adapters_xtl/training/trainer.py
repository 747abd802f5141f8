"""One `fit()` on the Hugging Face `Trainer`, for every method and format.

The order of all batches is fixed before the first step, so a resumed run sees what an uninterrupted
one would have. A batch is one optimizer step; how many of its examples pass through the model at
once changes nothing but rounding and dropout's draws, so a step that runs out of memory is done
again in smaller parts.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from adapters_xtl import formats
from adapters_xtl.base.errors import RequestError, RunError, out_of_memory
from adapters_xtl.base.files import explained_os_errors
from adapters_xtl.formats._items import Item
from adapters_xtl.models.network import Model, peak_memory
from adapters_xtl.runs.settings import Hyper
from adapters_xtl.training.batches import TrainSet, batches, shares, split, weighted
from adapters_xtl.training.callbacks import Cost, Guard, Progress
from adapters_xtl.training.checkpoints import (
    COMPLETE,
    load_trainable,
    mark_complete,
    newest_checkpoint,
    save_trainable,
    was_over,
)

__all__ = ["COMPLETE", "Fitted", "TrainSet", "batches", "fit", "newest_checkpoint"]

HELP = (
    "what needs less: a smaller train.max_length or train.batch_size, fewer --bits, or --memory GB,"
    " which plans it"
)


@dataclass(frozen=True)
class Fitted:
    """What training came to. `select` holds the scores of the checkpoint that was kept, `step` is
    its step.

    `seconds` and `joules` (None where the device reports none) are of all parts of a training that
    was resumed. `micro_batch`: examples that passed at once in the end.
    """

    seconds: float
    joules: float | None
    steps: int
    step: int
    examples: int
    tokens: int
    peak_memory_bytes: int
    micro_batch: int
    select: dict[str, Any]
    log: list[dict[str, Any]]


class _Items(Dataset[tuple[str, Item]]):
    """Every item of every task behind one number, so that a plain batch sampler can name them."""

    def __init__(self, sets: Sequence[TrainSet]) -> None:
        self.flat = [(each.task, item) for each in sets for item in each.items]

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, number: int) -> tuple[str, Item]:
        return self.flat[number]


class _Trainer(Trainer):  # type: ignore[misc]
    """`Trainer` around an encoder and heads: fixed batches, checkpoints of what trains, our steps
    and evaluation.
    """

    def __init__(
        self,
        model: Model,
        args: TrainingArguments,
        sets: Sequence[TrainSet],
        order: Sequence[tuple[str, np.ndarray]],
        score: Callable[[], dict[str, float]],
        notify: Callable[[str], None],
        multiple: int,
        patience: int,
        micro_batch: int,
    ) -> None:
        offsets = dict(
            zip(
                (each.task for each in sets),
                np.cumsum([0, *(len(each.items) for each in sets)]),
                strict=False,
            )
        )
        self.control: Any
        self.order = [(batch + offsets[task]).tolist() for task, batch in order]
        self.score, self.notify, self.multiple, self.micro_batch = (
            score,
            notify,
            multiple,
            micro_batch,
        )
        callbacks: list[TrainerCallback] = [EarlyStoppingCallback(patience)] if patience else []
        items = _Items(
            sets
        )  # `Trainer` wants some eval_dataset; ours is scored by `evaluate` below
        super().__init__(
            model=model, args=args, train_dataset=items, eval_dataset=items, callbacks=callbacks
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        def collate(batch: Sequence[tuple[str, Item]]) -> dict[str, Any]:
            return {"task": batch[0][0], "items": [item for _, item in batch]}

        loader: DataLoader[Any] = DataLoader(
            self.train_dataset, batch_sampler=self.order, collate_fn=collate
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One batch, in as many parts as memory asks for; its loss, detached."""
        model.train()
        cuda = self.args.device.type == "cuda"
        while True:
            draws = torch.get_rng_state(), torch.cuda.get_rng_state() if cuda else None
            try:
                return self._accumulated(model, inputs["task"], inputs["items"])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # out here the error is gone, and with it the frames that held the failed step's tensors
            self.model.zero_grad(set_to_none=True)
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
            self._halve(inputs["items"])
            torch.set_rng_state(draws[0])
            if draws[1] is not None:
                torch.cuda.set_rng_state(draws[1])

    def _halve(self, items: Sequence[Item]) -> None:
        tried = min(self.micro_batch, len(items))
        step = self.state.global_step + 1
        if tried == 1:
            longest = max(item.tokens for item in items)
            raise RunError(
                f"out of memory at step {step} with one example (up to {longest} tokens) at a time;"
                f" {HELP}"
            )
        self.micro_batch = -(-tried // 2)
        self.notify(
            f"out of memory at step {step} with {tried} examples at a time: the step is done again,"
            f" and the run goes on, with {self.micro_batch}; the batch stays"
            f" {self.args.per_device_train_batch_size}"
        )

    def _accumulated(self, model: Any, task: str, items: Sequence[Item]) -> torch.Tensor:
        """Gradients of the whole batch's loss, part by part, each padded to its own longest
        sequence.
        """
        own: Model = self.model
        parts = split(items, self.micro_batch)
        format = formats.load(own.specs[task].format)
        total = torch.zeros((), device=self.args.device)
        for part, share in zip(parts, shares(parts), strict=True):
            batch = {
                name: value.to(self.args.device, non_blocking=True)
                for name, value in format.collate(part, own.tokenizer, self.multiple).items()
            }
            with self.compute_loss_context_manager():
                found = model(task, batch)
                loss = weighted(own.heads[task], found, batch, share)
            del found
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        was = self.model.training
        metrics = {f"eval_{name}": value for name, value in self.score().items()}
        self.model.train(was)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_trainable(Path(output_dir or self.args.output_dir), self.model.trainable())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with explained_os_errors(folder):
            try:
                with (
                    warnings.catch_warnings()
                ):  # checkpoints a second apart are ordered by number, which is what we want
                    warnings.filterwarnings("ignore", message="mtime may not be reliable")
                    super()._save_checkpoint(model, trial)
            except (
                SafetensorError,
                RuntimeError,
            ) as error:  # safetensors and torch.save wrap the system's error
                if shutil.disk_usage(folder.parent).free < 2**20 or "No space left" in str(error):
                    raise OSError(28, "No space left on device") from error
                raise
            if folder.is_dir():
                mark_complete(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trainable(Path(resume_from_checkpoint), self.model.trainable())

    def _load_best_model(self) -> None:
        # not state.best_model_checkpoint: that path is stale once the runs directory was moved
        load_trainable(
            Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}",
            self.model.trainable(),
        )


@contextlib.contextmanager
def _checkpointed(model: Model, wanted: bool) -> Iterator[None]:
    """The encoder's layers forget what they computed and compute it again going back: less memory,
    a third slower.

    Not reentrant: `adapters` works with nothing else, and gradients need not reach the inputs.
    """
    if not wanted:
        yield
        return
    encoder: Any = next(
        module for module in model.encoder.modules() if isinstance(module, PreTrainedModel)
    )
    encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if hasattr(
        encoder, "_require_grads_hook"
    ):  # `adapters` asks for them all the same, all the way down
        encoder.disable_input_require_grads()
    try:
        yield
    finally:
        encoder.gradient_checkpointing_disable()


@contextlib.contextmanager
def _optimizer(hyper: Hyper, device: str) -> Iterator[str]:
    """`Trainer`'s name of the optimizer. RequestError where bitsandbytes cannot run the 8-bit one
    on this device.
    """
    if hyper.optimizer == "adamw":
        # one pass and no copies of all weights: on the CPU a tenth of the default's time
        yield "adamw_torch_fused"
        return
    from bitsandbytes.optim import GlobalOptimManager

    kernel = "bitsandbytes::optimizer_update_8bit_blockwise"
    if not torch._C._dispatch_has_kernel_for_dispatch_key(kernel, device.upper()):
        found = importlib.metadata.version("bitsandbytes")
        raise RequestError(
            f"train.optimizer=adamw8bit: bitsandbytes {found} has no 8-bit optimizer for {device}"
        )
    try:
        yield "adamw_bnb_8bit"
    finally:
        # its exceptions (embeddings stay at 32 bits) are global, by the parameters' position: not
        # for the next training
        GlobalOptimManager.get_instance().initialize()


def fit(
    model: Model,
    sets: Sequence[TrainSet],
    hyper: Hyper,
    *,
    seed: int,
    dtype: str,
    device: str,
    work: Path,
    score: Callable[[], dict[str, float]],
    notify: Callable[[str], None],
    micro_batch: int | None = None,
    checkpointing: bool = False,
) -> Fitted:
    """Trains what is trainable in `model` and leaves it at its best checkpoint by
    `score()["score"]`.

    `work` keeps the checkpoints; a complete one found there is resumed from. `score` is called
    every `hyper.eval_every` steps (0: ten times a run) with the model in eval mode, and returns
    numbers to log. `micro_batch` examples pass at once (None: the whole batch), fewer once memory
    runs out. RunError when the loss is no number, the disk is full, or one example at a time is too
    much for the memory.
    """
    with _checkpointed(model, checkpointing), _optimizer(hyper, device) as optimizer:
        try:
            return _fit(
                model,
                sets,
                hyper,
                optimizer,
                seed=seed,
                dtype=dtype,
                device=device,
                work=work,
                score=score,
                notify=notify,
                micro_batch=micro_batch or hyper.batch_size,
            )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise RunError(
                f"out of memory between steps (optimizer, evaluation or checkpoint); {HELP}"
            ) from error


def _fit(
    model: Model,
    sets: Sequence[TrainSet],
    hyper: Hyper,
    optimizer: str,
    *,
    seed: int,
    dtype: str,
    device: str,
    work: Path,
    score: Callable[[], dict[str, float]],
    notify: Callable[[str], None],
    micro_batch: int,
) -> Fitted:
    order = batches(sets, hyper, seed)
    total = len(order)
    every = min(total, hyper.eval_every or max(1, math.ceil(total / 10)))
    # one process, several trainings: accelerate's precision is global, in its state and in what
    # `Trainer` tells it
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    args = TrainingArguments(
        output_dir=str(work),
        max_steps=total,
        per_device_train_batch_size=hyper.batch_size,
        learning_rate=hyper.lr,
        weight_decay=hyper.weight_decay,
        max_grad_norm=hyper.clip,
        warmup_steps=math.ceil(total * hyper.warmup),
        lr_scheduler_type="linear",
        optim=optimizer,
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_score",
        greater_is_better=True,
        logging_steps=max(1, min(50, every // 5 or 1)),
        disable_tqdm=True,
        report_to=[],
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
        average_tokens_across_devices=False,
    )
    if args.n_gpu > 1:
        # of several visible devices the first is used: `Trainer` would spread the batch over all of
        # them
        args._n_gpu = 1
    trainer = _Trainer(
        model,
        args,
        sets,
        order,
        score,
        notify,
        8 if device == "cuda" else 1,
        hyper.patience,
        micro_batch,
    )
    trainer.pop_callback(
        next(
            cb
            for cb in trainer.callback_handler.callbacks
            if type(cb).__name__ == "PrinterCallback"
        )
    )
    trainer.add_callback(Progress(hyper.batch_size))
    trainer.add_callback(Guard())
    trainer.add_callback(Cost(device))
    checkpoint = newest_checkpoint(work)
    if checkpoint is not None:
        notify(f"resuming from step {checkpoint.name.split('-')[1]} of {total}")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if checkpoint is not None and was_over(checkpoint, total, hyper.patience):
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer._load_callback_state()
        trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.state.best_global_step:
        raise RunError("no evaluation gave a score; nothing was kept")
    done = order[: trainer.state.global_step]
    tokens = {each.task: np.array([item.tokens for item in each.items]) for each in sets}
    best = next(
        entry
        for entry in trainer.state.log_history
        if entry.get("step") == trainer.state.best_global_step and "eval_score" in entry
    )
    trainer.accelerator.unwrap_model(
        model, keep_fp32_wrapper=False
    )  # takes accelerate's autocast off model.forward
    model.__dict__.pop(
        "forward", None
    )  # and leaves the bound method there: a circle that keeps the backbone in memory
    model.eval()
    seconds, used = next(
        each for each in trainer.callback_handler.callbacks if isinstance(each, Cost)
    ).so_far()
    return Fitted(
        seconds=seconds,
        joules=used,
        steps=trainer.state.global_step,
        step=int(trainer.state.best_global_step),
        examples=sum(len(batch) for _, batch in done),
        tokens=int(sum(tokens[task][batch].sum() for task, batch in done)),
        peak_memory_bytes=peak_memory(device),
        micro_batch=trainer.micro_batch,
        select={
            name.removeprefix("eval_"): value
            for name, value in best.items()
            if name.startswith("eval_")
        },
        log=[entry for entry in trainer.state.log_history if "train_runtime" not in entry],
    )
