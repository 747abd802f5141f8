"""Rows told apart by what stands in one of their columns: by language, or by the texts of
`Rows.only`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["has_text", "of_language", "with_text"]


def of_language(values: pa.ChunkedArray, how: str, code: str) -> pa.ChunkedArray:
    """Which rows are of a language, by their language column or by the prefix of their ids."""
    return pc.fill_null(
        pc.equal(values, code) if how == "column" else pc.starts_with(values, f"{code}-"), False
    )


def has_text(texts: pa.ChunkedArray, values: Sequence[str]) -> pa.ChunkedArray:
    """Which texts are one of `values`, or begin with one that ends in `*`."""
    chosen = pc.is_in(texts, pa.array(values, pa.string()))
    for value in values:
        if value.endswith("*"):
            chosen = pc.or_(chosen, pc.fill_null(pc.starts_with(texts, value[:-1]), False))
    return chosen


def with_text(
    numbered: Iterable[tuple[int, dict[str, Any]]], column: str, values: Sequence[str]
) -> tuple[list[tuple[int, dict[str, Any]]], set[str]]:
    """(those of numbered rows whose text is one of `values`, as `has_text` takes them, the values
    that some have).
    """
    rows = list(numbered)
    texts = pa.chunked_array([pa.array([row.get(column) for _, row in rows], pa.string())])
    present = {value for value in values if pc.any(has_text(texts, [value])).as_py()}
    chosen = pc.fill_null(has_text(texts, values), False).to_pylist()
    return [row for row, is_chosen in zip(rows, chosen, strict=True) if is_chosen], present
