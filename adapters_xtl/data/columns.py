"""The columns of a table against what a task declares: types, and class columns as names.

Every structural fault is a DataError that names the file, the column and the row (counted from 0,
as everywhere).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adapters_xtl.base.errors import DataError, Problems, nearest
from adapters_xtl.data.table_files import is_list, is_text, list_offsets

__all__ = ["UNUSABLE", "checked"]

HIDDEN = ("", "-", "-1")
UNUSABLE = "these labels are hidden, they cannot be used"
INSIDE = {"answers": ("text", "answer_start"), "choices": ("label", "text")}


def _fits(kind: pa.DataType, declared: str) -> bool:
    """Whether an Arrow type can carry a declared column type."""
    is_integer = bool(pa.types.is_integer(kind))
    if declared in ("string", "int", "class", "label"):
        return (is_integer and declared != "string") or (is_text(kind) and declared != "int")
    if declared == "number":
        return is_integer or bool(pa.types.is_floating(kind))
    if declared in ("strings", "classes"):
        return is_list(kind) and _fits(
            kind.value_type, "string" if declared == "strings" else "class"
        )
    inside = (
        {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
        if pa.types.is_struct(kind)
        else {}
    )
    types = {"answer_start": "int"}
    return all(
        name in inside
        and is_list(inside[name])
        and (
            pa.types.is_null(inside[name].value_type)
            or _fits(inside[name].value_type, types.get(name, "string"))
        )
        for name in INSIDE[declared]
    )


def checked(
    table: pa.Table,
    name: str,
    columns: Mapping[str, str],
    labels: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    present: Sequence[str],
) -> pa.Table:
    """The table with a column `_row`, class columns as names. DataError for all that is
    structurally wrong.

    Class indices are named by the file's own metadata, else by `classes` (the snapshot's README),
    else by `labels`. `present`: all columns of the file, for the nearest name of a missing one.
    """
    problems = Problems()
    class_names = {**classes, **_class_names(table.schema, name)}
    table = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
    for column, declared in columns.items():
        if column not in table.column_names:
            problems.add(f"{name}: no column '{column}'{nearest(column, present)}")
            continue
        kind = table.schema.field(column).type
        if table.num_rows and table.column(column).null_count == table.num_rows:
            hidden = f": {UNUSABLE}" if declared.startswith("class") else ""
            problems.add(f"{name}: column '{column}' is null in every row{hidden}")
            continue
        if not _fits(kind, declared) and table.num_rows:
            problems.add(f"{name}: column '{column}' is {kind}, expected {_described(declared)}")
            continue
        if declared in ("class", "classes") and table.num_rows:
            try:
                place = table.schema.get_field_index(column)
                named = _as_names(
                    table.column(column),
                    class_names.get(column, ()),
                    labels,
                    f"{name}: column '{column}'",
                )
                table = table.set_column(place, column, named)
            except DataError as error:
                problems.catch(error)
    problems.raise_if_any(DataError)
    return table


def _described(declared: str) -> str:
    description = {
        "class": "class names or indices",
        "strings": "lists of strings",
        "classes": "lists of class names or indices",
        "answers": "{text: list of strings, answer_start: list of ints}",
        "choices": "{label: list of strings, text: list of strings}",
    }
    return description.get(declared, declared)


def _class_names(schema: pa.Schema, where: str) -> dict[str, list[str]]:
    """Names of the class columns as the file's own metadata declares them."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface") or "{}")
        features = dict(metadata.get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):  # somebody else's metadata
        return {}
    names_by_column = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            names = inner["names"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError(f"{where}: the class names of column '{column}' are no texts")
            names_by_column[column] = names
    return names_by_column


def _as_names(
    column: pa.ChunkedArray, declared: Sequence[str], labels: Sequence[str], where: str
) -> pa.ChunkedArray:
    """Class indices or names → names; −1, "" and null → null. DataError on a class the task does
    not know.
    """
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    nested = is_list(array.type)
    flat = array.flatten() if nested else array
    flat = flat.cast(pa.string() if is_text(flat.type) else pa.int64())

    def unknown(wrong: pa.Array, numbering: str) -> None:
        bad = pc.index(pc.fill_null(wrong, False), True).as_py()
        if bad >= 0:
            row = pc.list_parent_indices(array)[bad].as_py() if nested else bad
            value = flat[bad].as_py()
            hint = numbering or nearest(str(value), labels)
            raise DataError(f"{where}, row {row}: unknown class {value!r}{hint}")

    if pa.types.is_integer(flat.type):
        names = list(declared or labels)
        listed = ", ".join(f"{number} = {label}" for number, label in enumerate(names))
        unknown(
            pc.or_(pc.greater_equal(flat, len(names)), pc.less(flat, -1)), f" ({_short(listed)})"
        )
        flat = pa.array(names, pa.string()).take(pc.if_else(pc.less(flat, 0), None, flat))
    elif not nested:
        flat = pc.if_else(
            pc.is_in(flat, pa.array([mark for mark in HIDDEN if mark not in labels])), None, flat
        )
    if labels:
        unknown(pc.and_(pc.is_valid(flat), pc.invert(pc.is_in(flat, pa.array(list(labels))))), "")
    if len(flat) and flat.null_count == len(flat):
        raise DataError(f"{where}: no gold at all (−1 or blank throughout): {UNUSABLE}")
    if nested:
        return pa.chunked_array(
            [pa.LargeListArray.from_arrays(list_offsets(array), flat, mask=pc.is_null(array))]
        )
    return pa.chunked_array([flat])


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
