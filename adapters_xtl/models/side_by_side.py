"""Passes that are computed at the same time on a CPU, each in a thread of its own with its share of
the threads of torch's operators.

Much of a small encoder's pass runs in one thread whatever torch has: small products, random draws,
the dispatch of operators; and every operator with several threads ends with a barrier at which they
wait. Two passes with a thread each leave less idle than one pass with two threads
(`+parallel-passes` in `benchmarks/train_speed.py` measures it together with masks from random bytes
and with parts of similar length).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import TypeVar

import torch
from torch import nn

__all__ = ["SharedChange", "SideBySide", "max_parallel_passes"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def max_parallel_passes(model: nn.Module, device: str) -> int:
    """How many passes of a model can be computed at the same time: one for each thread of torch on
    a CPU. One where layers are quantised: those of bitsandbytes keep a state for each call, which
    threads would share.
    """
    quantised = any(not parameter.is_floating_point() for parameter in model.parameters())
    return 1 if device != "cpu" or quantised else torch.get_num_threads()


class SideBySide:
    """Calls a function on many arguments, at most `at_once` at a time; with 1 in the thread of the
    caller.

    A context: when it is left, for whatever reason, the threads have ended. Torch's modes
    (autocast, gradients) are a thread's own: the function sets what it needs.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._threads: ThreadPoolExecutor | None = None
        if at_once > 1:
            usual = torch.get_num_threads()
            share = max(1, usual // at_once)
            self._threads = ThreadPoolExecutor(at_once, "pass", _begin, (share,))
            together = threading.Barrier(at_once)
            try:
                list(self._threads.map(lambda _: together.wait(), range(at_once)))  # all have begun
            except BaseException:  # the system gives no further thread, or the user has had enough
                together.abort()
                self.one_at_a_time()
                raise
            finally:
                # set_num_threads in the workers has also changed what later threads begin with
                torch.set_num_threads(usual)

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.one_at_a_time()

    @property
    def several(self) -> bool:
        """Whether more than one call is computed at a time."""
        return self._threads is not None

    def one_at_a_time(self) -> None:
        """From here on; waits for the calls that have begun."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def map(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result]:
        """The results in the order of the arguments, each as soon as it and those before are there.

        A call that fails ends the iteration with its error, when no call is running any more.
        """
        if self._threads is None:
            yield from map(function, arguments)
            return
        waiting = iter(arguments)
        begun: deque[Future[Result]] = deque()
        try:
            # a few ahead: results that are ready do not pile up behind a slow one
            for argument in islice(waiting, 2 * self._at_once):
                begun.append(self._threads.submit(function, argument))
            while begun:
                result = begun.popleft().result()
                for argument in islice(waiting, 1):
                    begun.append(self._threads.submit(function, argument))
                yield result
        finally:
            for future in begun:
                future.cancel()
            for future in begun:
                if not future.cancelled():
                    future.exception()


def _begin(threads: int) -> None:
    """Gives a new worker so many threads for torch's operators."""
    # when first asked in a thread, torch copies the process's number to it: asked now, so that the
    # copy does not overwrite what is set next
    torch.get_num_threads()
    torch.set_num_threads(threads)


class SharedChange:
    """A change to objects that several threads use at once, made by the first that needs it and
    undone after the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def made(self, change: Callable[[], Callable[[], None]]) -> Iterator[None]:
        """`change()` makes it and gives what undoes it. Users at the same time share one change."""
        with self._lock:
            if not self._users:
                self._undo = change()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._undo()
