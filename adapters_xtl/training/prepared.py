"""Batches as the model takes them, the next one being made in a thread while a step computes.

Which batches there are, and how they are cut, is decided elsewhere and drawn nowhere here: a
training is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch

from adapters_xtl.formats import Format, Item, Tokenizer
from adapters_xtl.training.batches import Batch, loss_weights
from adapters_xtl.training.micro_batches import MicroBatches

__all__ = ["PreparedBatches", "PreparedPart"]


@dataclass(frozen=True)
class PreparedPart:
    """A part of a batch, which goes through the model in one pass.

    weights  of each term of the loss: see `batches.loss_weights`
    tensors  what the format's `collate` made, on the CPU; pinned where the device is CUDA
    """

    items: Sequence[Item]
    weights: Mapping[str, float]
    tensors: Mapping[str, torch.Tensor]


class PreparedBatches:
    """Makes the parts of batches, with `ahead` those of the next batch in a thread of its own.

    A context: when it is left, for whatever reason, the thread has ended. One batch is made at a
    time and none without being asked for, so that nothing waits for a reader that has stopped.
    """

    def __init__(
        self,
        micro_batches: MicroBatches,
        form: Callable[[str], Format],
        tokenizer: Tokenizer,
        *,
        pinned: bool,
        ahead: bool,
    ) -> None:
        self._micro_batches, self._form, self._tokenizer = micro_batches, form, tokenizer
        self._pinned = pinned
        self._thread = ThreadPoolExecutor(1, "batches") if ahead else None
        # what is being made: of which batch, cut as of which size
        self._next: tuple[Batch, int, Future[list[PreparedPart]]] | None = None

    def __enter__(self) -> PreparedBatches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._next = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def parts(self, step: int, batch: Batch, following: Batch | None) -> list[PreparedPart]:
        """The parts of the batch of `step`; those of the `following` one are begun."""
        size, begun = self._micro_batches.size(step), self._next
        self._next = None
        if begun is not None and begun[0] is batch and begun[1] == size:
            made = begun[2].result()
        else:  # the first of a stage, or another size since: an earlier step ran out of memory
            made = self._made(step, batch)
        if self._thread is not None and following is not None:
            size = self._micro_batches.size(step + 1)
            self._next = following, size, self._thread.submit(self._made, step + 1, following)
        return made

    def _made(self, step: int, batch: Batch) -> list[PreparedPart]:
        form = self._form(batch.task)
        parts = self._micro_batches.parts(step, batch.items)
        return [
            PreparedPart(part, weights, self._tensors(form, part))
            for part, weights in zip(parts, loss_weights(form, parts), strict=True)
        ]

    def _tensors(self, form: Format, part: Sequence[Item]) -> dict[str, torch.Tensor]:
        arrays = form.collate(part, self._tokenizer, self._micro_batches.multiple)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if not self._pinned:
            return tensors
        return {name: value.pin_memory() for name, value in tensors.items()}
