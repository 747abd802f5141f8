"""Whether something of the encoder lies below all that a training changes (`train.prefix`)."""

from __future__ import annotations

from adapters_xtl import methods
from adapters_xtl.backbones.prefix_files import budget_bytes
from adapters_xtl.base.errors import Problems
from adapters_xtl.runs.request import Module, Request

__all__ = ["check_fixed_prefix", "no_fixed_prefix"]


def check_fixed_prefix(lacking: str, flag: str, problems: Problems) -> None:
    """What is wrong with a training whose lower layers are to be fixed. `lacking`: see
    `no_fixed_prefix`.
    """
    if lacking:
        problems.add(f"{flag} train.prefix=fixed: {lacking}")
    with problems.catching():
        budget_bytes()


def no_fixed_prefix(request: Request, compose: str, parents: tuple[Module, ...]) -> str:
    """Why the lower layers give no constants of the texts; "" where they do."""
    lowest = request.from_layer
    if not lowest:
        return "every layer gets a module; --from-layer K leaves those below K without"
    if not methods.load(request.method).takes_from_layer:
        return f"{request.method} trains every layer"
    below = [parent for parent in parents if parent.run.from_layer < lowest]
    if compose == "fuse" and below:
        return (
            f"the fusion has a layer wherever its parents have a module, and {below[0]} begins at"
            f" layer {below[0].run.from_layer}"
        )
    return ""
