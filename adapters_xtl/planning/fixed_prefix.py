"""Whether something of the encoder lies below all that a training changes (`train.prefix`)."""

from __future__ import annotations

from adapters_xtl import methods
from adapters_xtl.runs.request import Module, Request

__all__ = ["no_fixed_prefix"]


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
