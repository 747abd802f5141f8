"""One training by everything that decides its outcome; its id is the digest of exactly that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapters_xtl.base.files import digest
from adapters_xtl.runs.settings import Hyper

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """One training, by everything that decides its outcome; `id` is the digest of these fields.

    tasks     (name, version) of every task with a head
    data      {"train": […], "select": […]}: sha256 of every file read, in order
    parents   ids of the parent runs, in the order of the chain (a foreign bundle's digest)
    """

    tasks: tuple[tuple[str, int], ...]
    data: Mapping[str, tuple[str, ...]]
    backbone: str
    method: str
    options: Mapping[str, Any]
    compose: str
    bits: int
    dtype: str
    from_layer: int
    hyper: Hyper
    seed: int
    protocol: str
    parents: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return digest(self.identity())

    @property
    def id(self) -> str:
        """The first 12 hex digits of the digest: the run's name and directory."""
        return self.digest[:12]
