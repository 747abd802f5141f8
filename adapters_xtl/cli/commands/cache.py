"""What `xtl cache` does: states of frozen encoders and tokenized rows, shown and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from adapters_xtl.backbones import prefix_files
from adapters_xtl.base.cache_budget import GIB, STATES, TOKENIZED, cache_budget
from adapters_xtl.base.files import cache_dir
from adapters_xtl.models import encoded_files
from adapters_xtl.pages import tables

__all__ = ["clear", "show"]

MIB = 2**20


def show() -> tuple[dict[str, Any], list[Table | str]]:
    """The spaces of states, the sets of tokenized rows, and the budget of each."""
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
    sets, room = encoded_files.stored_files(), cache_budget(TOKENIZED)
    taken = sum(size for _, size, _ in sets)
    lines = [
        _line("states of frozen layers", total, budget, STATES, folder),
        _line(
            f"{len(sets):,} sets of tokenized rows", taken, room, TOKENIZED, encoded_files.folder()
        ),
    ]
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
        "tokenized": {
            "folder": str(encoded_files.folder()),
            "sets": len(sets),
            "bytes": taken,
            "budget_bytes": room,
        },
    }
    return payload, [*([table] if rows else []), *lines]


def _line(what: str, taken: int, budget: int, variable: str, folder: Path) -> str:
    return (
        f"{what}: {taken / MIB:,.1f} MiB of a budget of {budget / GIB:g} GiB ({variable}) in"
        f" {folder}"
    )


def clear() -> tuple[dict[str, Any], list[Table | str]]:
    """Deletes every space and every set."""
    states, rows = prefix_files.clear(), encoded_files.clear()
    text = f"deleted {states / MIB:,.1f} MiB of states and {rows / MIB:,.1f} MiB of tokenized rows"
    return {"bytes": states, "tokenized_bytes": rows}, [text]
