"""How many examples pass through the model at once, and what is done when they are too many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.files import read_json, write_json
from adapters_xtl.training.batches import Batch

__all__ = ["LESS_MEMORY", "MicroBatches"]

FILE = "micro_batches.json"
LESS_MEMORY = (
    "what needs less: a smaller train.max_length or train.batch_size, fewer --bits, or --memory GB,"
    " which plans it"
)


class MicroBatches:
    """How many examples pass through the model at once, at each step.

    Every halving is kept in the working directory at once: a resumed training takes the steps that
    it repeats as they were, and does not run out of memory again.
    """

    def __init__(
        self, work: Path, planned: int, batch_size: int, notify: Callable[[str], None]
    ) -> None:
        self._file, self._batch_size, self._notify = work / FILE, batch_size, notify
        self._sizes: list[tuple[int, int]] = [(0, planned)]  # (from this step on, examples)
        if self._file.is_file():
            halved = [(int(step), int(size)) for step, size in read_json(self._file)]
            self._sizes += [(step, min(size, planned)) for step, size in halved]

    def size(self, step: int) -> int:
        """Examples that pass at once at `step`."""
        return min(size for start, size in self._sizes if start <= step)

    def halve(self, step: int, batch: Batch) -> None:
        """From `step` on, half of what was tried. RunError when that was one example."""
        tried = min(self.size(step), len(batch.items))
        if tried == 1:
            longest = max(item.tokens for item in batch.items)
            raise RunError(
                f"out of memory at step {step} with one example (up to {longest} tokens) at a time;"
                f" {LESS_MEMORY}"
            )
        half = -(-tried // 2)
        self._sizes.append((step, half))
        write_json(self._file, self._sizes[1:])
        self._notify(
            f"out of memory at step {step} with {tried} examples at a time: the step is done again,"
            f" and the run goes on, with {half}; the batch stays {self._batch_size}"
        )
