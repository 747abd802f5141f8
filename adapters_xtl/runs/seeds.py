"""The seed of each training of a chain, where every training is to have one of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["phase_seed"]


def phase_seed(seed: int, tasks: Sequence[str]) -> int:
    """The first 32 bits of sha256 over `SEED TASK>TASK`, the chain of tasks that the training ends.

    `phase_seed(1, ["mnli", "squad1"])` hashes `1 mnli>squad1`. So a training of mnli draws alike
    whatever is trained after it, and is one run for all chains that begin with it; two trainings of
    one chain, and trainings of one task in two chains, draw differently.
    """
    text = f"{seed} {'>'.join(tasks)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
