"""What `xtl cache` does: the kept states of frozen encoders shown and deleted."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from adapters_xtl.backbones import prefix_files
from adapters_xtl.base.files import cache_dir
from adapters_xtl.pages import tables

__all__ = ["clear", "show"]

MIB = 2**20


def show() -> tuple[dict[str, Any], list[Table | str]]:
    """The spaces of the cache, and its budget."""
    spaces, budget = prefix_files.spaces(), prefix_files.budget_bytes()
    total = sum(space.bytes for space in spaces)
    folder = cache_dir() / "prefix"
    rows = [
        (
            space.name[:12],
            str(space.identity.get("backbone", "unknown"))[:12],
            str(space.identity.get("layer", "-")),
            f"{space.identity.get('bits', '-')} bits, {space.identity.get('dtype', '-')}",
            str(space.identity.get("device", "-")),
            f"{space.texts:,}",
            f"{space.bytes / MIB:,.1f}",
        )
        for space in spaces
    ]
    columns = ("space", "backbone", "layer", "precision", "device", "texts", "MiB")
    table = tables.listed("states of frozen layers", columns, rows)
    line = (
        f"{total / MIB:,.1f} MiB of a budget of {budget / prefix_files.GIB:g} GiB"
        f" ({prefix_files.BUDGET}) in {folder}"
    )
    payload = {
        "folder": str(folder),
        "bytes": total,
        "budget_bytes": budget,
        "spaces": [
            {
                "space": space.name,
                "identity": dict(space.identity),
                "texts": space.texts,
                "bytes": space.bytes,
            }
            for space in spaces
        ],
    }
    return payload, [*([table] if rows else []), line]


def clear() -> tuple[dict[str, Any], list[Table | str]]:
    """Deletes every space."""
    freed = prefix_files.clear()
    return {"bytes": freed}, [f"deleted {freed / MIB:,.1f} MiB of states"]
