"""`xtl tasks`, `xtl backbones`: what there is."""

from __future__ import annotations

from adapters_xtl.cli.flags import Data, Json, answer

__all__ = ["backbones", "tasks"]


def tasks(data: Data = None, as_json: Json = False) -> None:
    """List every task: kind, format, data, languages, metric, and what the source has."""
    from adapters_xtl.cli.commands import listing

    answer(as_json, lambda: listing.tasks_table(data))


def backbones(as_json: Json = False) -> None:
    """List the named backbones; hub ids and directories are taken too."""
    from adapters_xtl.cli.commands import listing

    answer(as_json, listing.backbones_table)
