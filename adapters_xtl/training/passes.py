"""The gradients of one optimizer step: its batch passes through the model in parts, one after the
other or several at the same time.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from adapters_xtl.base.errors import out_of_memory
from adapters_xtl.models.dropout_masks import draws_from
from adapters_xtl.models.side_by_side import SideBySide, max_parallel_passes
from adapters_xtl.models.tensors import autocast
from adapters_xtl.training.batches import Batch, weighted
from adapters_xtl.training.checkpoints import device_random_state, set_device_random_state
from adapters_xtl.training.compiled_layers import CompiledLayers
from adapters_xtl.training.micro_batches import MicroBatches
from adapters_xtl.training.prepared import PreparedBatches, PreparedPart
from adapters_xtl.training.stages import Training

__all__ = ["Passes", "passes_at_once"]


def passes_at_once(training: Training) -> int:
    """Passes of a step that are computed at the same time; how many they are changes no draw.

    One where another thread would disturb: all passes share the scaler of float16, recomputed
    layers draw from the process's generator, and torch compiles in one thread.
    """
    hyper = training.hyper
    alone = training.checkpointing or training.dtype == "float16" or hyper.compiled == "on"
    limits = (hyper.parallel_passes, training.micro_batch or hyper.batch_size)
    return 1 if alone else min(*limits, max_parallel_passes(training.model, training.device))


class Passes:
    """The forward and backward passes of a training's batches.

    A step that runs out of memory is done again, with one pass at a time or, if it had that, in
    smaller parts; the steps after it are done in the same way.
    """

    def __init__(
        self,
        training: Training,
        micro_batches: MicroBatches,
        batches: PreparedBatches,
        side_by_side: SideBySide,
        compiled: CompiledLayers,
    ) -> None:
        self.training, self.model = training, training.model
        self.micro_batches, self.batches = micro_batches, batches
        self.side_by_side, self.compiled = side_by_side, compiled
        self.trained = [value for value in self.model.parameters() if value.requires_grad]

    def forget_gradients(self) -> None:
        """Gradients are none again, as before the first pass of a batch."""
        for parameter in self.trained:
            parameter.grad = None

    def backward(
        self, step: int, coming: Sequence[Batch], scaler: torch.amp.GradScaler
    ) -> torch.Tensor:
        """Accumulates the gradients of `coming[0]`, the batch of `step`, in as many parts as memory
        asks for. Its loss, detached.

        A step that fails in compiled layers is done again in the layers as they are.
        """
        while True:
            on_cpu = self.training.device == "cpu"
            draws = torch.get_rng_state(), None if on_cpu else device_random_state()
            if self.micro_batches.one_at_a_time(step):
                self.side_by_side.one_at_a_time()
            try:
                return self._accumulate(step, coming, scaler)
            except Exception as error:
                is_full = out_of_memory(error)
                if not is_full:
                    if not self.compiled:
                        raise
                    self.compiled.drop(error)
            # out here the error is gone, and with it the frames that held the failed step's tensors
            self.forget_gradients()
            gc.collect()
            if self.training.device == "cuda":
                torch.cuda.empty_cache()
            elif self.training.device == "mps":
                torch.mps.empty_cache()
            if is_full and self.side_by_side.several:
                self.side_by_side.one_at_a_time()
                self.micro_batches.take_turns(step)
            elif is_full:
                self.micro_batches.halve(step, coming[0])
            torch.set_rng_state(draws[0])
            set_device_random_state(draws[1])

    def _accumulate(
        self, step: int, coming: Sequence[Batch], scaler: torch.amp.GradScaler
    ) -> torch.Tensor:
        """Gradients of the first batch's loss, part by part, each padded to its own longest
        sequence.
        """
        total = torch.zeros((), device=self.training.device)
        following = coming[1] if len(coming) > 1 else None
        parts = self.batches.parts(step, coming[0], following)
        if self.training.hyper.parallel_passes > 1:
            return total + self._parallel(coming[0].task, parts, scaler)
        for part in parts:
            loss = self._loss(coming[0].task, part, self._tensors(part))
            scaled: Any = scaler.scale(loss)
            scaled.backward()
            total += loss.detach()
        return total

    def _tensors(self, part: PreparedPart) -> dict[str, torch.Tensor]:
        tensors = {
            name: value.to(self.training.device, non_blocking=True)
            for name, value in part.tensors.items()
        }
        return self.model.with_prefix(tensors, part.items)

    def _loss(
        self, task: str, part: PreparedPart, tensors: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """A part's contribution to the loss of its batch."""
        with autocast(self.training.device, self.training.dtype):
            computed = self.model(task, tensors)
        terms = {name: term.float() for name, term in computed["terms"].items()}
        return weighted(terms, part.weights)

    def _parallel(
        self, task: str, parts: Sequence[PreparedPart], scaler: torch.amp.GradScaler
    ) -> torch.Tensor:
        """The same with passes that may be computed at the same time: each draws from a seed of its
        own, and gradients are added in the order of the parts, so that nothing hangs on which of
        them ends first.
        """
        seeds = torch.empty(len(parts), dtype=torch.int64).random_().tolist()
        work = [(part, self._tensors(part), seed) for part, seed in zip(parts, seeds, strict=True)]
        one_by_one = not self.side_by_side.several

        def passed(
            given: tuple[PreparedPart, dict[str, torch.Tensor], int],
        ) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
            part, tensors, seed = given
            # recomputed layers restore torch's own generator, so that one pass at a time seeds that
            # one; a thread's own generator with the same seed gives the same masks
            with torch.random.fork_rng([]) if one_by_one else draws_from(seed):
                if one_by_one:
                    torch.default_generator.manual_seed(seed)
                loss = self._loss(task, part, tensors)
                scaled: Any = scaler.scale(loss)
                return loss.detach(), torch.autograd.grad(scaled, self.trained, allow_unused=True)

        total = torch.zeros(())
        for loss, gradients in self.side_by_side.map(passed, work):
            total += loss
            for parameter, gradient in zip(self.trained, gradients, strict=True):
                if gradient is not None:
                    before = parameter.grad
                    parameter.grad = gradient if before is None else before + gradient
        return total
