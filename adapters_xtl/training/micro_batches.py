"""Which parts of a batch pass through the model together, and what is done when one of them is too
much for the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from adapters_xtl.base.errors import RunError
from adapters_xtl.base.files import explained_os_errors, read_json, write_json
from adapters_xtl.formats import Item
from adapters_xtl.training.batches import (
    Batch,
    padded_tokens,
    split,
    split_by_tokens,
    split_evenly,
)

__all__ = ["LESS_MEMORY", "MicroBatches"]

FILE = "parts.json"
LESS_MEMORY = (
    "what needs less: a smaller train.max_length or train.batch_size, fewer --bits, or --memory GB,"
    " which plans it"
)


class MicroBatches:
    """The parts of the batch of each step: at most `planned` examples each, and with a budget of
    tokens (0: none) at most so many of them, padding counted. With several `passes` at the same
    time that holds for all of them together.

    What a lack of memory has changed is kept in the working directory at once: a resumed training
    takes the steps that it repeats as they were, and does not run out of memory again. What is
    halved are the tokens where they have a budget, else the examples.
    """

    def __init__(
        self,
        work: Path,
        planned: int,
        batch_size: int,
        notify: Callable[[str], None],
        *,
        budget: int = 0,
        passes: int = 1,
        multiple: int = 1,
    ) -> None:
        self._passes = passes
        self._file, self._batch_size, self._notify = work / FILE, batch_size, notify
        self._planned, self._budget, self.multiple = planned, budget, multiple
        # (from this step on, examples or tokens)
        self._sizes: list[tuple[int, int]] = [(0, budget or planned)]
        self._alone_from: int | None = None  # the step from which there was no memory for several
        if self._file.is_file():
            kept = read_json(self._file)
            self._alone_from = kept["one_at_a_time_from"]
            halved = [(int(step), int(size)) for step, size in kept["halved"]]
            self._sizes += [(step, min(size, self._sizes[0][1])) for step, size in halved]

    def size(self, step: int) -> int:
        """The bound at `step`: examples of a part, with a budget of tokens its padded tokens. With
        several passes at the same time, of all parts that they compute together.
        """
        return min(size for start, size in self._sizes if start <= step)

    def parts(self, step: int, items: Sequence[Item]) -> list[Sequence[Item]]:
        """The parts of the batch of `step`, each of them the items of one pass."""
        size = self.size(step)
        if self._passes > 1:
            budget, examples = (size, self._planned) if self._budget else (0, size)
            return split_evenly(items, self._passes, budget, examples, self.multiple)
        if self._budget:
            return split_by_tokens(items, size, self._planned, self.multiple)
        return split(items, size)

    def padded_tokens(self, batches: Sequence[Batch], first: int) -> int:
        """What these batches, of the steps from `first` on, came to with their padding."""
        return sum(
            padded_tokens(part, self.multiple)
            for step, batch in enumerate(batches, first)
            for part in self.parts(step, batch.items)
        )

    def examples(self, batches: Sequence[Batch], step: int) -> int:
        """Examples that are in the model at the same time at most, of these batches as they would
        be cut at `step`, where `passes` parts are computed together.
        """
        together = 1 if self.one_at_a_time(step) else self._passes
        if not self._budget and self._passes == 1:
            return self.size(step)
        of_steps = (map(len, self.parts(step, batch.items)) for batch in batches)
        return max(sum(sorted(sizes)[-together:]) for sizes in of_steps)

    def one_at_a_time(self, step: int) -> bool:
        """Whether there was no memory for several passes together, in this step or before."""
        return self._alone_from is not None and self._alone_from <= step

    def take_turns(self, step: int) -> None:
        """From `step` on, one pass at a time."""
        self._alone_from = step
        self._keep()
        self._notify(
            f"out of memory at step {step}: the step is done again, and the run goes on, with one"
            " pass at a time; its results stay the same but for rounding"
        )

    def _keep(self) -> None:
        kept = {"one_at_a_time_from": self._alone_from, "halved": self._sizes[1:]}
        with explained_os_errors(self._file):
            write_json(self._file, kept)

    def halve(self, step: int, batch: Batch) -> None:
        """From `step` on, half of what was tried. RunError when that was one example."""
        several = [part for part in self.parts(step, batch.items) if len(part) > 1]
        if not several:
            longest = max(item.tokens for item in batch.items)
            raise RunError(
                f"out of memory at step {step} with one example (up to {longest} tokens) at a time;"
                f" {LESS_MEMORY}"
            )
        if self._budget:
            tried = max(padded_tokens(part, self.multiple) for part in several)
            half, what = tried // 2, "padded tokens"
        else:
            tried = max(map(len, several))
            half, what = -(-tried // 2), "examples"
        size = half * self._passes
        if not self._budget and self._passes > 1:
            size = min(size, len(batch.items) - 1)  # as many as a batch has would be no bound
        self._sizes.append((step, size))
        self._keep()
        self._notify(
            f"out of memory at step {step} with {tried} {what} at a time: the step is done again,"
            f" and the run goes on, with {half}; the batch stays {self._batch_size}"
        )
