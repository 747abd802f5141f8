"""Encoded rows on disk: `<cache>/tokenized/KEY.rows`, a file for each set of rows that was encoded.

The key is the digest of everything that decides the items: the rows, the tokenizer's files, format,
labels, lengths, and the code and libraries that encode. A file is a line of JSON, which describes
its columns and holds their digest, and the columns, arrays one after the other. It is written aside
and renamed under a lock, so that processes share the files; one that does not hold what its digest
says is refused in one line, deleted, and written again. All files together take at most
XTL_TOKENIZED_GIB; those that were used longest ago give way. Where nothing can be kept, a line says
so and the run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl import formats
from adapters_xtl.backbones import registry
from adapters_xtl.base.cache_budget import TOKENIZED, cache_budget
from adapters_xtl.base.errors import XtlError
from adapters_xtl.base.files import atomic_write, cache_dir, digest, file_digest, read_regular
from adapters_xtl.base.locks import locked
from adapters_xtl.formats import Item, Lengths, Tokenizer

__all__ = ["LEAST", "EncodedFiles", "clear", "folder", "stored_files"]

LEAST = 256  # examples of a set that is worth a file
FORMAT, SUFFIX = 1, ".rows"
LIBRARIES = ("numpy", "tokenizers", "transformers")
Notify = Callable[[str], None]
Array = np.ndarray[Any, Any]


def folder() -> Path:
    return cache_dir() / "tokenized"


class EncodedFiles:
    """Sets of encoded rows on disk. `notify` takes lines for the user; sets with fewer than `least`
    examples are kept in memory only. RequestError where XTL_TOKENIZED_GIB is no number.
    """

    def __init__(self, notify: Notify, least: int = LEAST) -> None:
        self._notify, self._least = notify, least
        self._budget = cache_budget(TOKENIZED)
        self._refused = False  # whether a write has failed

    def wants(self, examples: int) -> bool:
        return bool(self._budget) and examples >= self._least

    def key(
        self,
        rows: str,
        format: str,
        labels: Sequence[str],
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        train: bool,
    ) -> str:
        """Name of the file of a set of rows, given their digest; "" where the tokenizer has no
        files.
        """
        source = Path(str(tokenizer.name_or_path))
        if not (source / "config.json").is_file():
            return ""
        names = (*registry.tokenizer_files(source), "config.json")
        files = {name: file_digest(source / name, remember=True) for name in names}
        what = [format, list(labels), lengths.max_length, lengths.stride, train]
        return digest([FORMAT, rows, what, files, _code(format)])

    def read_or_write(self, key: str, made: Callable[[], list[Item]]) -> list[Item]:
        """The items of a set as they are kept, or as they are made, and then kept."""
        items = self._read(key) if key else None
        if items is None:
            items = made()
            if key:
                self._write(key, items)
        return items

    def _read(self, key: str) -> list[Item] | None:
        """The items of a set; None where they are missing or damaged."""
        path = folder() / f"{key}{SUFFIX}"
        try:
            data = read_regular(path)
        except OSError:
            return None
        try:
            items = _items(key, data)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._notify(f"tokenized rows: {path} does not hold what was written; it is made again")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # somebody else's
            os.utime(path)
        return items

    def _write(self, key: str, items: Sequence[Item]) -> None:
        """Keeps a set, where its items can be written and there is room for them."""
        path = folder() / f"{key}{SUFFIX}"
        content = None if self._refused else _content(key, items)
        if content is None or len(content) > self._budget:
            return
        try:
            folder().mkdir(parents=True, exist_ok=True)
            with locked(folder() / ".lock"):
                self._make_room(path, len(content))
                atomic_write(path, content)
        except (OSError, XtlError) as error:
            self._refused = True
            self._notify(f"tokenized rows are not kept: {error}")

    def _make_room(self, path: Path, size: int) -> None:
        """Deletes what was used longest ago until `size` more bytes fit, and first what a process
        that was killed had begun to write. To be called under the lock.
        """
        for aside in folder().glob(f".*{SUFFIX}.*"):
            with contextlib.suppress(OSError):
                aside.unlink()
        listed = sorted(entry for entry in stored_files() if entry[2] != path)
        total = sum(taken for _, taken, _ in listed)
        for _, taken, oldest in listed:
            if total + size <= self._budget:
                return
            oldest.unlink(missing_ok=True)
            total -= taken


def stored_files() -> list[tuple[int, int, Path]]:
    """When each file was used last (ns), its bytes, its path."""
    found = []
    for path in folder().glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, path))
    return found


def clear() -> int:
    """Deletes every file; their bytes. A process that is about to use one encodes its rows."""
    freed = 0
    for _, size, path in stored_files():
        path.unlink(missing_ok=True)
        freed += size
    return freed


@cache
def _code(format: str) -> list[Any]:
    """What encodes besides the tokenizer: the format's own file, those that formats share, and the
    libraries.
    """
    own = Path(inspect.getfile(type(formats.load(format))))
    paths = {own, *Path(formats.__file__).parent.glob("_*.py")}
    code = {path.name: file_digest(path) for path in paths}
    return [code, {name: importlib.metadata.version(name) for name in LIBRARIES}]


# ------------------------------------------------------------------ items ↔ columns

Columns = list[tuple[str, Any, Array]]  # (place, how it is read, values)


def _content(key: str, items: Sequence[Item]) -> bytes | None:
    """The file of a set; None where an item holds what no column can."""
    typed = [item.types is not None for item in items]
    sequences = [ids for item in items for ids in item.ids]
    if not items or len(set(typed)) > 1 or any(ids.dtype != np.int32 for ids in sequences):
        return None
    columns: Columns = [
        ("owner", None, np.array([item.owner for item in items], dtype=np.int64)),
        ("cut", None, np.array([item.cut for item in items], dtype=np.int64)),
        ("sequences", None, np.array([len(item.ids) for item in items], dtype=np.int64)),
        ("lengths", None, np.array([len(ids) for ids in sequences], dtype=np.int64)),
        ("ids", None, np.concatenate(sequences)),
    ]
    if typed[0]:
        kinds = [kind for item in items for kind in item.types or ()]
        if [len(kind) for kind in kinds] != [len(ids) for ids in sequences]:
            return None
        columns.append(("types", None, np.concatenate(kinds).astype(np.int32)))
    for part in ("gold", "extra"):
        records: list[dict[str, Any]] = [getattr(item, part) for item in items]
        for name in dict.fromkeys(name for record in records for name in record):
            there = np.array([name in record for record in records])
            values = [record[name] for record in records if name in record]
            column = _column(values)
            if column is None:
                return None
            how, arrays = column
            columns.append((f"{part}.there", name, there))
            columns += [(f"{part}.{what}", how, array) for what, array in arrays]
    body = b"".join(np.ascontiguousarray(array).tobytes() for _, _, array in columns)
    described = [[place, how, array.dtype.str, array.size] for place, how, array in columns]
    header = {"items": len(items), "columns": described}
    line = json.dumps({**header, "sha256": _digest(key, header, body)})
    return line.encode() + b"\n" + body


def _digest(key: str, header: Mapping[str, Any], body: bytes) -> str:
    total = hashlib.sha256(json.dumps([FORMAT, key, header["items"], header["columns"]]).encode())
    total.update(body)
    return total.hexdigest()


def _column(values: Sequence[Any]) -> tuple[Any, list[tuple[str, Array]]] | None:
    """How values of one name are read, and the arrays that hold them; None where none can."""
    first = values[0]
    if isinstance(first, np.ndarray):
        kind = first.dtype
        fits = all(isinstance(v, np.ndarray) and v.dtype == kind and v.ndim == 1 for v in values)
        if not fits or kind.kind not in "iufb":
            return None
        counts = np.array([len(value) for value in values], dtype=np.int64)
        return "array", [("counts", counts), ("values", np.concatenate(values))]
    if isinstance(first, tuple):
        parts = [part for value in values for part in value if isinstance(value, tuple)]
        even = all(isinstance(v, tuple) and len(v) == len(first) for v in values)
        if not first or not even or not all(_is_int(part) for part in parts):
            return None
        return len(first), [("values", np.array(parts, dtype=np.int64))]
    if all(_is_int(value) for value in values):
        return "int", [("values", np.array(values, dtype=np.int64))]
    if all(value is None or isinstance(value, bool | str | float) for value in values):
        text = json.dumps(values).encode()
        return "json", [("values", np.frombuffer(text, dtype=np.uint8))]
    return None


def _is_int(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and -(2**63) <= value < 2**63


def _items(key: str, data: bytes) -> list[Item]:
    """The items of a file; ValueError, KeyError or TypeError where it is not as it was written."""
    line, _, body = data.partition(b"\n")
    header = json.loads(line)
    if _digest(key, header, body) != header["sha256"]:
        raise ValueError("another digest")
    columns: Columns = []
    start = 0
    for place, how, kind, size in header["columns"]:
        dtype = np.dtype(kind)
        if dtype.kind not in "iufb":
            raise ValueError("no column of numbers")
        columns.append((place, how, np.frombuffer(body, dtype, int(size), start)))
        start += dtype.itemsize * int(size)
    if start != len(body):
        raise ValueError("another size")
    count = int(header["items"])
    plain = {place: array for place, _, array in columns if "." not in place}
    lengths, sequences = plain["lengths"], plain["sequences"].tolist()
    ids = _grouped(_split_at(plain["ids"], lengths), sequences)
    types: Sequence[Any] = [None] * count
    if "types" in plain:
        types = _grouped(_split_at(plain["types"], lengths), sequences)
    records = _records(columns, count)
    return [
        Item(owner, own_ids, own_types, gold, extra, cut)
        for owner, own_ids, own_types, gold, extra, cut in zip(
            plain["owner"].tolist(),
            ids,
            types,
            records["gold"],
            records["extra"],
            plain["cut"].tolist(),
            strict=True,
        )
    ]


def _records(columns: Columns, count: int) -> Mapping[str, list[dict[str, Any]]]:
    """`gold` and `extra` of every item."""
    records: dict[str, list[dict[str, Any]]] = {
        part: [{} for _ in range(count)] for part in ("gold", "extra")
    }
    name, there = "", np.zeros(0, dtype=bool)
    counts = there
    for place, how, array in columns:
        part, _, what = place.partition(".")
        if what == "there":
            name, there = str(how), array
        elif what == "counts":
            counts = array
        elif what == "values":
            values = _values(how, array, counts)
            rows = np.flatnonzero(there).tolist()
            for row, value in zip(rows, values, strict=True):
                records[part][row][name] = value
    return records


def _values(how: Any, array: Array, counts: Array) -> Sequence[Any]:
    if how == "array":
        return _split_at(array, counts)
    if how == "int":
        return list(array.tolist())
    if how == "json":
        return list(json.loads(array.tobytes()))
    return [tuple(row) for row in array.reshape(-1, int(how)).tolist()]


def _split_at(values: Array, lengths: Array) -> list[Array]:
    """Split into arrays of these lengths; ValueError where they do not add up."""
    ends = np.cumsum(lengths).tolist()
    if (ends[-1] if ends else 0) != len(values) or (lengths < 0).any():
        raise ValueError("other lengths")
    return [values[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _grouped(parts: Sequence[Array], sizes: Sequence[int]) -> list[tuple[Array, ...]]:
    if sum(sizes) != len(parts) or min(sizes, default=0) < 0:
        raise ValueError("another number of sequences")
    left = iter(parts)
    return [tuple(next(left) for _ in range(size)) for size in sizes]
