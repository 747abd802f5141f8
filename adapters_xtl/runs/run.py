"""One training by everything that decides its outcome; its id is the digest of exactly that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from adapters_xtl.backbones import BITS, DTYPES
from adapters_xtl.base.files import digest
from adapters_xtl.base.typed_json import Rule, to_json
from adapters_xtl.base.untrusted import safe_name
from adapters_xtl.data import PROTOCOLS
from adapters_xtl.methods import COMPOSES
from adapters_xtl.runs.hyper import Hyper

__all__ = ["Run", "RunId", "Sha256", "TaskName"]

SEEDS = 2**32  # numpy's and torch's seeds lie below it
LAYERS = 1000
Sha256 = Annotated[
    str, Rule(lambda text: bool(re.fullmatch(r"[0-9a-f]{64}", text)), "a sha256 (64 hex digits)")
]
RunId = Annotated[
    str, Rule(lambda text: bool(re.fullmatch(r"[0-9a-f]{12,64}", text)), "12 to 64 hex digits")
]
# names of tasks and methods: also parts of paths
TaskName = Annotated[str, Rule(safe_name, "a name of letters, digits, '.', '_' and '-'")]


def _one_of(choices: Iterable[Any]) -> Rule:
    accepted = tuple(choices)
    return Rule(lambda value: value in accepted, f"one of {', '.join(map(repr, accepted))}")


def _below(limit: int) -> Rule:
    return Rule(lambda number: 0 <= number < limit, f"a whole number from 0 to {limit - 1}")


Compose = Annotated[str, _one_of(("", *COMPOSES))]  # "": there is no parent
Bits = Annotated[int, _one_of(BITS)]
Dtype = Annotated[str, _one_of(DTYPES)]
Layer = Annotated[int, _below(LAYERS)]
Seed = Annotated[int, _below(SEEDS)]
Protocol = Annotated[str, _one_of(PROTOCOLS)]


@dataclass(frozen=True)
class Run:
    """One training, by everything that decides its outcome; `id` is the digest of these fields.

    tasks     (name, version) of every task with a head
    data      {"train": […], "select": […]}: sha256 of every file read, in order
    parents   ids of the parent runs, in the order of the chain (a foreign bundle's digest)
    """

    tasks: tuple[tuple[TaskName, int], ...]
    data: Mapping[str, tuple[Sha256, ...]]
    backbone: Sha256
    method: TaskName
    options: Mapping[str, Any]
    compose: Compose
    bits: Bits
    dtype: Dtype
    from_layer: Layer
    hyper: Hyper
    seed: Seed
    protocol: Protocol
    parents: tuple[RunId, ...] = ()

    def identity(self) -> dict[str, Any]:
        record: dict[str, Any] = to_json(self)  # a field with `omit` only where it is not default
        return record

    @cached_property  # a study asks each of its runs for its id many times
    def digest(self) -> str:
        """64 hex digits."""
        return digest(self.identity())

    @property
    def id(self) -> str:
        """The first 12 hex digits of the digest: the run's name and directory."""
        return self.digest[:12]
