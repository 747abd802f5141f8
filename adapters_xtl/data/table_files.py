"""One data file (parquet, JSON lines, CSV, TSV) → an Arrow table of its declared columns.

In a `.tsv` file every line is a row, every tab parts two fields, and a quote character is text: so
the files of GLUE, PAWS-X and XTREME are written, and so their own readers take them. A `.csv` file
is quoted as RFC 4180 has it: a field with a comma, a quote or a line end stands between quotes, a
quote inside is doubled, and nothing but a comma or a line end follows the closing quote. Where the
header line has semicolons and no comma, semicolons part the fields, as spreadsheets write them in
countries whose decimal mark is the comma.

An unreadable file is one DataError that names the file and, in text files, the row (counted from 0,
the header apart) and the line (counted from 1).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters_xtl.base.errors import DataError
from adapters_xtl.base.untrusted import printable

__all__ = ["count_rows", "is_list", "is_text", "list_offsets", "read_file"]

# read where they exist, beside what is declared
UNDECLARED = ("id", "idx", "uid", "pairID", "ind", "sent_id", "title", "genre")
BLOCK = 1 << 26  # bytes; a row of a text file must fit into one block
DEEPEST = 32  # levels of lists and objects in JSON; the deepest rows of a task have four
_JSON_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = re.compile(rb"[^\[\]{}]+")
_QUOTED = re.compile(r'"[^"]*"')
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def read_file(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    """(the declared columns, ids and genres that the file has, dictionaries decoded; the names of
    all columns that it has).

    `columns`: column → declared type. `name` begins every message. DataError when the file cannot
    be read.
    """
    try:
        table, present = _READERS.get(path.suffix, _read_parquet)(path, name, columns)
        if len(set(present)) < len(present):
            raise DataError(f"{name}: two columns have the same name ({', '.join(present[:12])})")
        table = table.select(
            [column for column in present if column in columns or column in UNDECLARED]
        )
        for number, field in enumerate(table.schema):
            plain = _plain_type(field.type)
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
        raise _unreadable(name, error) from error
    return table, present


def count_rows(path: Path, name: str) -> int:
    """Rows of a file: a parquet file's from its footer. DataError when it cannot be read."""
    if path.suffix != ".parquet":
        return int(read_file(path, name, {"": ""})[0].num_rows)
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        wrong = error.object[error.start]
        return DataError(f"{name}: is not UTF-8 text (byte 0x{wrong:02x}): save it as UTF-8")
    return DataError(f"{name}: unreadable (truncated or damaged?): {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _read_parquet(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        return file.read(
            columns=[column for column in names if column in columns or column in UNDECLARED]
        ), names


def _read_json(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    import pyarrow.json

    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not path.stat().st_size:
        return pa.table({column: pa.array([], pa.string()) for column in columns}), list(columns)
    if start.startswith(b"["):
        raise DataError(f"{name}: holds one JSON array; a line has to hold one object {{…}}, a row")
    _check_depth(path, name)
    options = pyarrow.json.ReadOptions(block_size=BLOCK)
    table = pyarrow.json.read_json(path, read_options=options)
    texts = pa.schema([field.with_type(_undated(field.type)) for field in table.schema])
    if texts != table.schema.remove_metadata():
        parsing = pyarrow.json.ParseOptions(explicit_schema=texts)
        table = pyarrow.json.read_json(path, read_options=options, parse_options=parsing)
    return table, table.column_names


def _check_depth(path: Path, name: str) -> None:
    """DataError for JSON that is nested deeper than any row is: Arrow's reader crashes on it."""
    brackets = _NO_BRACKET.sub(b"", _JSON_STRING.sub(b"", path.read_bytes()))
    codes = np.frombuffer(brackets, np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), 1, -1)
    if np.cumsum(steps, dtype=np.int64).max(initial=0) > DEEPEST:
        raise DataError(f"{name}: unreadable: its JSON is nested deeper than {DEEPEST} levels")


def _undated(kind: pa.DataType) -> pa.DataType:
    """The type with text for dates: the reader takes texts that all look like dates for dates."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if is_list(kind):
        return pa.list_(_undated(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct(
            [(kind.field(n).name, _undated(kind.field(n).type)) for n in range(kind.num_fields)]
        )
    return kind


def _read_text(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, list[str]]:
    """A CSV or TSV file. Columns of whole numbers become int64 where the task declares numbers or
    classes; everything else is text.
    """
    records = _tsv_records(path, name) if path.suffix == ".tsv" else _csv_records(path, name)
    header = next(records, [])
    fields: list[list[str]] = [[] for _ in header]
    for record in records:
        for column, value in zip(fields, record, strict=True):
            column.append(value)
    arrays = [
        pa.array(values, pa.string())
        if columns.get(column, "string") == "string"
        else _numbers_or_text(values)
        for column, values in zip(header, fields, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=header), header


def _numbers_or_text(values: Sequence[str]) -> pa.Array:
    """int64 with null for "" when every value is a whole number, else text."""
    if all(not value or _WHOLE_NUMBER.fullmatch(value) for value in values) and any(values):
        return pa.array([int(value) if value else None for value in values], pa.int64())
    return pa.array(values, pa.string())


def _tsv_records(path: Path, name: str) -> Iterator[list[str]]:
    """The fields of every line that is not empty, the header first."""
    width = 0
    row = -1
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            fields = line.removesuffix("\n").removesuffix("\r").split("\t")
            if fields == [""]:
                continue
            width = width or len(fields)
            if len(fields) != width:
                raise DataError(
                    f"{name}: row {row} (line {number}) has {len(fields)} fields, the header"
                    f" {width}: in a .tsv file a field holds no tab and no line end"
                )
            row += 1
            yield fields


def _csv_records(path: Path, name: str) -> Iterator[list[str]]:
    """The fields of every record that is not empty, the header first."""
    csv.field_size_limit(BLOCK)
    width = 0
    row = -1
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        parted_by = _delimiter(file.readline(BLOCK))
        file.seek(0)
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True, delimiter=parted_by)
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"{name}: row {row} (line {line}): {printable(error)}: a stray quote? (in a"
                    " .csv file a quote that is text is doubled, in a field between quotes)"
                ) from error
            if fields is None:
                return
            spanned = lines.take()
            if fields:
                width = width or len(fields)
                if len(fields) != width:
                    raise DataError(
                        f"{name}: row {row} (line {line}) has {len(fields)} fields, the header"
                        f" {width}"
                    )
                if len(spanned) > 1 and all(text.count(parted_by) == width - 1 for text in spanned):
                    raise DataError(
                        f"{name}: row {row} (lines {line} to {line + len(spanned) - 1}) holds"
                        f" {len(spanned)} lines, each of which is a row by itself: a stray quote?"
                    )
                row += 1
                yield fields
            line += len(spanned)


def _delimiter(header: str) -> str:
    """What parts the fields of a file with this first line: a comma, or a semicolon."""
    unquoted = _QUOTED.sub("", header)
    return ";" if ";" in unquoted and "," not in unquoted else ","


class _Lines:
    """The lines of a file, kept until `take` is called: those of one CSV record."""

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self._kept: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self._kept.append(line)
        return line

    def take(self) -> list[str]:
        taken, self._kept = self._kept, []
        return taken


_READERS: Mapping[str, Callable[[Path, str, Mapping[str, str]], tuple[pa.Table, list[str]]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_text,
    ".tsv": _read_text,
}


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with dictionary-encoded values decoded, at any depth of lists, and lists of structs
    as structs of lists.
    """
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if is_list(kind) and pa.types.is_struct(kind.value_type):
        inner = kind.value_type
        return pa.struct(
            [
                (inner.field(n).name, pa.list_(_plain_type(inner.field(n).type)))
                for n in range(inner.num_fields)
            ]
        )
    if is_list(kind):
        plain = _plain_type(kind.value_type)
        return kind if plain == kind.value_type else pa.list_(plain)
    return kind


def _decoded(column: pa.ChunkedArray, plain: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_struct(plain):
        return column.cast(plain)
    chunks = []
    for chunk in column.chunks:
        lists = [
            pa.LargeListArray.from_arrays(list_offsets(chunk), values)
            for values in chunk.flatten().flatten()
        ]
        names = [plain.field(number).name for number in range(plain.num_fields)]
        chunks.append(pa.StructArray.from_arrays(lists, names, mask=chunk.is_null()).cast(plain))
    return pa.chunked_array(chunks, plain)


def list_offsets(lists: pa.Array) -> pa.Array:
    """Where each list starts in `lists.flatten()`, which leaves out what null lists hide."""
    counts = (
        pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype("int64")
    )
    return pa.array([0, *counts.cumsum().tolist()], pa.int64())


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
