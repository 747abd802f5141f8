"""What the importers share: a mirror that is built aside and renamed last, and the report of what
went into it.

Problems are collected over all files; if there is one, nothing is left behind and one DataError
names them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from adapters_xtl.base.errors import DataError, Problems, RequestError
from adapters_xtl.base.files import explained_os_errors

__all__ = ["Column", "Report", "Staging", "staging"]

SHOWN = 5  # problems named for one file; the rest are counted


@dataclass(frozen=True)
class Report:
    """What a conversion did. Written files are named relative to `out`, all others relative to the
    source.

    written  file → rows
    refused  (file, reason): splits that must not be scored, such as those whose gold is hidden
    counted  (file, what, how often): oddities that were written as they are
    notes    what was chosen, and what was not read
    """

    out: str
    written: Mapping[str, int]
    refused: tuple[tuple[str, str], ...]
    counted: tuple[tuple[str, str, int], ...]
    notes: tuple[str, ...]

    def rows(self) -> list[tuple[str, str, int | None, str]]:
        """(what happened, file, number, words), for a table."""
        return [
            *(("written", file, rows, "") for file, rows in self.written.items()),
            *(("refused", file, None, reason) for file, reason in self.refused),
            *(("counted", file, times, what) for file, what, times in self.counted),
            *(("note", "", None, note) for note in self.notes),
        ]

    def record(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "out": self.out,
            "written": dict(self.written),
            "refused": [{"file": file, "reason": reason} for file, reason in self.refused],
            "counted": [
                {"file": file, "what": what, "times": times} for file, what, times in self.counted
            ],
            "notes": list(self.notes),
        }

    def shown(self) -> list[str]:
        """`rows()` as lines of text, and a last one with the totals."""
        lines = [
            f"{happened:8}{'' if number is None else number:>8} "
            f" {': '.join(part for part in (file, words) if part)}"
            for happened, file, number, words in self.rows()
        ]
        total = (
            f"{len(self.written)} files with {sum(self.written.values())} rows written,"
            f" {len(self.refused)} refused"
        )
        return [*lines, total + ("" if self.written else ": no mirror was made")]


class Column(NamedTuple):
    """A column of a written file. `names` are the classes of a class column; its values are their
    indices.
    """

    name: str
    kind: str  # a key of KINDS
    names: tuple[str, ...] = ()


def _value(kind: str, names: Sequence[str]) -> dict[str, Any]:
    return (
        {"names": list(names), "_type": "ClassLabel"}
        if kind == "class"
        else {"dtype": kind, "_type": "Value"}
    )


def _list(kind: str, names: Sequence[str] = ()) -> dict[str, Any]:
    return {"feature": _value(kind, names), "_type": "List"}


_ANSWERS = {"answer_start": "int32", "text": "string"}
_STRUCT = pa.struct([("answer_start", pa.list_(pa.int32())), ("text", pa.list_(pa.string()))])
KINDS: Mapping[
    str, Any
] = {  # kind → arrow type, and a function of the class names that gives the hub's description
    "string": (pa.string(), lambda names: _value("string", names)),
    "int32": (pa.int32(), lambda names: _value("int32", names)),
    "bool": (pa.bool_(), lambda names: _value("bool", names)),
    "class": (pa.int64(), lambda names: _value("class", names)),
    "strings": (pa.list_(pa.string()), lambda names: _list("string")),
    "classes": (pa.list_(pa.int64()), lambda names: _list("class", names)),
    "answers": (_STRUCT, lambda names: {name: _list(kind) for name, kind in _ANSWERS.items()}),
}


def _schema(columns: Sequence[Column]) -> pa.Schema:
    features = {column.name: KINDS[column.kind][1](column.names) for column in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(
        [(column.name, KINDS[column.kind][0]) for column in columns], metadata=metadata
    )


class Staging:
    """A mirror in the making, under `<out>.partial`. Made by `staging()`."""

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, Path(os.path.abspath(out))
        self.aside = self.out.with_name(f"{self.out.name}.partial")
        self.problems = Problems()
        self._shown: Counter[Path] = Counter()
        self._written: dict[str, int] = {}
        self._refused: list[tuple[str, str]] = []
        self._counted: Counter[tuple[str, str]] = Counter()
        self._notes: list[str] = []
        self._accounted: set[Path] = set()

    def name(self, path: Path) -> str:
        """A source file's name in the report."""
        return (
            path.relative_to(self.source).as_posix()
            if path.is_relative_to(self.source)
            else str(path)
        )

    def problem(self, path: Path, what: str, line: int | None = None) -> None:
        """A file or a row that is not what it must be; `line` counts from 1."""
        self.account(path)
        self._shown[path] += 1
        if self._shown[path] <= SHOWN:
            self.problems.add(f"{path}{'' if line is None else f', line {line}'}: {what}")

    def refuse(self, path: Path, reason: str) -> None:
        self.account(path)
        self._refused.append((self.name(path), reason))

    def count(self, path: Path, what: str, times: int = 1) -> None:
        if times:
            self._counted[self.name(path), what] += times

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def account(self, path: Path) -> None:
        """Marks a file as read, or as left out for a reason that the report gives or needs not."""
        self._accounted.add(path)

    def note_unread(self, folder: Path) -> None:
        """Notes the files below `folder` that nothing was done with."""
        unread = [
            path.relative_to(folder).as_posix()
            for path in sorted(folder.rglob("*"))
            if not path.is_dir() and path not in self._accounted
        ]
        if unread:
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            self.note(f"not read: in {self.name(folder)}, {', '.join(unread[:3])}{more}")

    def troubled(self, path: Path) -> bool:
        """True once `path` has a problem."""
        return path in self._shown

    def text(self, path: Path) -> str | None:
        """The file as UTF-8 text without a byte-order mark; None, and a problem, if it is none."""
        self.account(path)
        if path.exists() and not path.is_file():
            self.problem(path, "not a regular file")
            return None
        try:
            data = path.read_bytes()
        except OSError as error:
            self.problem(path, f"cannot be read ({error.strerror})")
            return None
        try:
            return data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.problem(path, f"no valid UTF-8 (byte 0x{data[error.start]:02x})", line)
            return None

    def lines(self, path: Path) -> list[str]:
        """The file's lines, of which only newlines (with or without a carriage return) are the
        ends.
        """
        lines = [line.removesuffix("\r") for line in (self.text(path) or "").split("\n")]
        return lines if lines[-1] else lines[:-1]

    def write(
        self, file: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]], origin: Path
    ) -> None:
        """One Parquet file, `file` relative to the mirror; every row has one value a column."""
        if self.troubled(origin):
            return
        if not rows:
            self.problem(origin, "no rows")
            return
        if file in self._written:
            self.problem(origin, f"another file already gave {file}")
            return
        schema = _schema(columns)
        values = list(zip(*rows, strict=True))
        try:
            arrays = [
                pa.array(list(column), type=field.type)
                for column, field in zip(values, schema, strict=True)
            ]
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
            self.problem(origin, f"a value has no place in {file}: {str(error).splitlines()[0]}")
            return
        path = self.aside / file
        with explained_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)
        self._written[file] = len(rows)

    def report(self) -> Report:
        counted = tuple(
            (file, what, times) for (file, what), times in sorted(self._counted.items())
        )
        written = dict(sorted(self._written.items()))
        return Report(
            str(self.out), written, tuple(sorted(self._refused)), counted, tuple(self._notes)
        )

    def _begin(self) -> None:
        if not self.source.is_dir():
            raise RequestError(f"{self.source}: no such directory")
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise RequestError(f"{self.out} is there already and not empty; name a new directory")
        if self.aside.exists():
            foreign = [
                path
                for path in self.aside.rglob("*")
                if path.is_file() and path.suffix != ".parquet"
            ]
            if not self.aside.is_dir() or foreign:
                raise RequestError(
                    f"{self.aside} is in the way: it is not what an interrupted import leaves"
                )
            shutil.rmtree(self.aside)
        try:
            with explained_os_errors(self.aside):
                self.aside.mkdir(parents=True)
        except OSError as error:
            raise RequestError(f"{self.aside} cannot be made ({error.strerror})") from error

    def _finish(self) -> None:
        for path, times in self._shown.items():
            if times > SHOWN:
                self.problems.add(f"{path}: and {times - SHOWN} more")
        self.problems.raise_if_any(DataError)
        if self._written:
            if self.out.exists():
                self.out.rmdir()
            os.replace(self.aside, self.out)


@contextlib.contextmanager
def staging(source: Path, out: Path) -> Iterator[Staging]:
    """Builds a mirror: renamed to `out` at the end if there was no problem, else removed and
    DataError.

    RequestError if `source` is no directory or `out` is there already and not empty. If every split
    was refused, `out` is not made.
    """
    build = Staging(source, out)
    build._begin()
    try:
        yield build
        build._finish()
    finally:
        shutil.rmtree(build.aside, ignore_errors=True)
