"""Values of a study's record as the page writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters_xtl.pages.table_text import one_line

__all__ = ["joined", "point_text", "texts", "value_text"]


def point_text(point: Any) -> str:
    """A point of the grid: `method lora, task xnli`."""
    if not isinstance(point, Mapping):
        return joined(point)
    return ", ".join(f"{name} {value_text(value)}" for name, value in point.items())


def value_text(value: Any) -> str:
    """A value of an axis or a setting: `mnli>squad1` for a chain, "none" for an empty one."""
    if value is None or value == [] or value == "":
        return "none"
    return (
        joined(value) if not isinstance(value, list | tuple) else ">".join(map(value_text, value))
    )


def texts(value: Any) -> list[str]:
    """A value as a list of texts: its items where it is a list, none where it is empty."""
    if value is None or value == "":
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def joined(value: Any) -> str:
    """A value, or the items of a list, on one line."""
    return one_line(", ".join(texts(value)))
