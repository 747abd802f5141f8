"""One data file → a typed table: reading, column types, class columns as names.

Every structural fault is a DataError that names the file, the column and the row (counted from 0,
as everywhere).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters_xtl.base.errors import DataError, Problems, nearest

__all__ = ["UNUSABLE", "checked", "count_rows", "read_file"]

IDENTITIES = (
    "id",
    "idx",
    "uid",
    "pairID",
    "ind",
    "sent_id",
    "title",
)  # read where they exist, beside what is declared
HIDDEN = ("", "-", "-1")
BLOCK = 1 << 26  # bytes; a row of a text file must fit into one block
UNUSABLE = "these labels are hidden, they cannot be used"
INSIDE = {"answers": ("text", "answer_start"), "choices": ("label", "text")}


def read_file(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    """The declared columns and ids that the file has, dictionaries decoded, and the names of all
    that it has.

    DataError when it cannot be read.
    """
    try:
        table, present = _reader(path)(path, columns)
        if len(set(present)) < len(present):
            raise DataError(f"{name}: two columns have the same name ({', '.join(present[:12])})")
        table = table.select(
            [column for column in present if column in columns or column in IDENTITIES]
        )
        for number, field in enumerate(table.schema):
            plain = _plain(field.type)
            if plain != field.type:
                table = table.set_column(
                    number, field.with_type(plain), _decoded(table.column(number), plain)
                )
        for column in table.column_names:
            try:  # a damaged page may still decode, into text that is none
                table.column(column).validate(full=True)
            except pa.ArrowException as error:
                raise DataError(
                    f"{name}: column '{column}' is damaged: {_first_line(error)}"
                ) from error
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name}: unreadable (truncated or damaged?): {_first_line(error)}"
        ) from error
    return table, present


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _reader(path: Path) -> Any:
    return {".parquet": _parquet, ".jsonl": _json, ".json": _json}.get(path.suffix, _csv)


def _parquet(path: Path, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        return file.read(
            columns=[column for column in names if column in columns or column in IDENTITIES]
        ), names


def _json(path: Path, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    import pyarrow.json

    if not path.stat().st_size:
        return pa.table({column: pa.array([], pa.string()) for column in columns}), list(columns)
    options = pyarrow.json.ReadOptions(block_size=BLOCK)
    table = pyarrow.json.read_json(path, read_options=options)
    texts = pa.schema([field.with_type(_undated(field.type)) for field in table.schema])
    if texts != table.schema.remove_metadata():
        parsing = pyarrow.json.ParseOptions(explicit_schema=texts)
        table = pyarrow.json.read_json(path, read_options=options, parse_options=parsing)
    return table, table.column_names


def _undated(kind: pa.DataType) -> pa.DataType:
    """The type with text for dates: the reader takes texts that all look like dates for dates."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if _is_list(kind):
        return pa.list_(_undated(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct(
            [(kind.field(n).name, _undated(kind.field(n).type)) for n in range(kind.num_fields)]
        )
    return kind


def _csv(path: Path, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    import pyarrow.csv

    texts = {column: pa.string() for column, declared in columns.items() if declared == "string"}
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(column_types=texts),
    )
    return table, table.column_names


def count_rows(path: Path, name: str) -> int:
    """Rows of a file: a parquet file's from its footer. DataError when it cannot be read."""
    if path.suffix != ".parquet":
        return int(read_file(path, name, {"": ""})[0].num_rows)
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: unreadable (truncated or damaged?): {_first_line(error)}"
        ) from error


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with dictionary-encoded values decoded, at any depth of lists, and lists of structs
    as structs of lists.
    """
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if _is_list(kind) and pa.types.is_struct(kind.value_type):
        inner = kind.value_type
        return pa.struct(
            [
                (inner.field(n).name, pa.list_(_plain(inner.field(n).type)))
                for n in range(inner.num_fields)
            ]
        )
    if _is_list(kind):
        plain = _plain(kind.value_type)
        return kind if plain == kind.value_type else pa.list_(plain)
    return kind


def _decoded(column: pa.ChunkedArray, plain: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_struct(plain):
        return column.cast(plain)
    chunks = []
    for chunk in column.chunks:
        lists = [
            pa.LargeListArray.from_arrays(_offsets(chunk), values)
            for values in chunk.flatten().flatten()
        ]
        names = [plain.field(number).name for number in range(plain.num_fields)]
        chunks.append(pa.StructArray.from_arrays(lists, names, mask=chunk.is_null()).cast(plain))
    return pa.chunked_array(chunks, plain)


def _offsets(lists: pa.Array) -> pa.Array:
    """Where each list starts in `lists.flatten()`, which leaves out what null lists hide."""
    counts = (
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype("int64")
    )
    return pa.array([0, *counts.cumsum().tolist()], pa.int64())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _fits(kind: pa.DataType, declared: str) -> bool:
    """Whether an Arrow type can carry a declared column type."""
    whole = bool(pa.types.is_integer(kind))
    if declared in ("string", "int", "class"):
        return (whole and declared != "string") or (_is_text(kind) and declared != "int")
    if declared in ("strings", "classes"):
        return _is_list(kind) and _fits(
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
        and _is_list(inside[name])
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
    known = {**classes, **_class_names(table.schema)}
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
            problems.add(f"{name}: column '{column}' is {kind}, expected {_said(declared)}")
            continue
        if declared in ("class", "classes") and table.num_rows:
            try:
                place = table.schema.get_field_index(column)
                named = _as_names(
                    table.column(column),
                    known.get(column, ()),
                    labels,
                    f"{name}: column '{column}'",
                )
                table = table.set_column(place, column, named)
            except DataError as error:
                problems.catch(error)
    problems.raise_if_any(DataError)
    return table


def _said(declared: str) -> str:
    said = {
        "class": "class names or indices",
        "strings": "lists of strings",
        "classes": "lists of class names or indices",
        "answers": "{text: list of strings, answer_start: list of ints}",
        "choices": "{label: list of strings, text: list of strings}",
    }
    return said.get(declared, declared)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the class columns as the file's own metadata declares them."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface") or "{}")
        features = dict(metadata.get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):  # somebody else's metadata
        return {}
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def _as_names(
    column: pa.ChunkedArray, declared: Sequence[str], labels: Sequence[str], where: str
) -> pa.ChunkedArray:
    """Class indices or names → names; −1, "" and null → null. DataError on a class the task does
    not know.
    """
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    nested = _is_list(array.type)
    flat = array.flatten() if nested else array
    flat = flat.cast(pa.string() if _is_text(flat.type) else pa.int64())

    def unknown(wrong: pa.Array, known: str) -> None:
        bad = pc.index(pc.fill_null(wrong, False), True).as_py()
        if bad >= 0:
            row = pc.list_parent_indices(array)[bad].as_py() if nested else bad
            value = flat[bad].as_py()
            hint = known or nearest(str(value), labels)
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
            [pa.LargeListArray.from_arrays(_offsets(array), flat, mask=pc.is_null(array))]
        )
    return pa.chunked_array([flat])


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
