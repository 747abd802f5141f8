"""One data file → a typed table: reading, column types, class columns as names.

Every structural fault is a DataError that names the file, the column and the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters_xtl.errors import DataError, Problems, nearest

__all__ = ["checked", "read_file"]

IDENTITIES = ("id", "idx", "uid", "pairID", "ind", "sent_id", "title")  # read where they exist, beside what is declared
HIDDEN = ("", "-", "-1")


def read_file(path: Path, name: str, columns: Mapping[str, str]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
            return pq.read_table(path, columns=[column for column in names if column in columns or column in IDENTITIES])
        if path.suffix in (".jsonl", ".json"):
            import pyarrow.json

            return pyarrow.json.read_json(path)
        import pyarrow.csv

        options = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
        return pyarrow.csv.read_csv(path, parse_options=options)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise DataError(f"{name}: unreadable (truncated or damaged?): {reason}") from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _fits(kind: pa.DataType, declared: str) -> bool:
    """Whether an Arrow type can carry a declared column type (all-null columns fit: the rows are then unfit)."""
    if declared == "string":
        return _is_text(kind)
    if declared == "int":
        return bool(pa.types.is_integer(kind))
    if declared == "class":
        return _is_text(kind) or bool(pa.types.is_integer(kind))
    if declared in ("strings", "classes"):
        inner = kind.value_type if _is_list(kind) else None
        return inner is not None and (_is_text(inner) or (declared == "classes" and bool(pa.types.is_integer(inner))))
    if not pa.types.is_struct(kind):
        return False
    inside = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
    wanted = ("text", "answer_start") if declared == "answers" else ("label", "text")
    return all(name in inside and _is_list(inside[name]) for name in wanted)


def checked(table: pa.Table, name: str, columns: Mapping[str, str], labels: Sequence[str]) -> pa.Table:
    """The table with a column `_row`, class columns as names. DataError for all that is structurally wrong."""
    problems = Problems()
    classes = _class_names(table.schema)
    table = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
    for column, declared in columns.items():
        if column not in table.column_names:
            present = [other for other in table.column_names if other != "_row"]
            problems.add(f"{name}: no column '{column}'{nearest(column, present)}")
            continue
        kind = table.schema.field(column).type
        if not _fits(kind, declared):
            problems.add(f"{name}: column '{column}' is {kind}, expected {declared}")
            continue
        if declared in ("class", "classes"):
            try:
                place = table.schema.get_field_index(column)
                named = _as_names(table.column(column), classes.get(column, ()), labels, f"{name}: column '{column}'")
                table = table.set_column(place, column, named)
            except DataError as error:
                problems.catch(error)
    problems.raise_if_any(DataError)
    return table


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the class columns as the file's own metadata declares them."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if not metadata:
        return {}
    found = {}
    for column, feature in (json.loads(metadata).get("info", {}).get("features") or {}).items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def _as_names(column: pa.ChunkedArray, declared: Sequence[str], labels: Sequence[str], where: str) -> pa.ChunkedArray:
    """Class indices or names → names; −1, "" and null → null. DataError on a class the task does not know."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    nested = _is_list(column.type)
    flat = column.flatten() if nested else column
    if pa.types.is_integer(flat.type):
        names = list(declared or labels)
        wrong = pc.or_(pc.greater_equal(flat, len(names)), pc.less(flat, -1))
        bad = pc.index(pc.fill_null(wrong, False), True).as_py()
        if bad >= 0:
            known = ", ".join(f"{number} = {label}" for number, label in enumerate(names))
            raise DataError(f"{where}, row {_row_of(column, bad)}: unknown class {flat[bad].as_py()} ({_short(known)})")
        flat = pa.array(names).take(pc.if_else(pc.less(flat, 0), None, flat))
    elif not nested:
        flat = pc.if_else(pc.is_in(flat, pa.array([mark for mark in HIDDEN if mark not in labels])), None, flat)
    if labels:
        wrong = pc.and_(pc.is_valid(flat), pc.invert(pc.is_in(flat, pa.array(list(labels)))))
        bad = pc.index(wrong, True).as_py()
        if bad >= 0:
            value = flat[bad].as_py()
            raise DataError(f"{where}, row {_row_of(column, bad)}: unknown class '{value}'{nearest(value, labels)}")
    if len(flat) and flat.null_count == len(flat):
        raise DataError(f"{where}: no gold at all (−1 or blank throughout): these labels are hidden, they cannot be used")
    if nested:
        kind = pa.ListArray if pa.types.is_list(column.type) else pa.LargeListArray
        offsets = pc.subtract(column.offsets, column.offsets[0])
        return pa.chunked_array([kind.from_arrays(offsets, flat, mask=pc.is_null(column))])
    return pa.chunked_array([flat])


def _row_of(column: pa.Array, flat: int) -> int:
    return int(pc.list_parent_indices(column)[flat].as_py()) if _is_list(column.type) else flat


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
