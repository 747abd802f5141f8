"""Files of the hidden states that texts have at a layer of a frozen encoder, those of its lower
layers (not of prefix tuning): `<cache>/prefix/<space>/`.

A space is everything that decides the states of a text: encoder, layer, precision, machine. A file
of it holds those of many texts and is never changed: a line of JSON, a table with the key, digest
and length of each text, and the states, one text after the other. It is written aside and renamed.
Nothing that is read is trusted: a file of another size than its table says, or a text whose states
have another digest, is refused in one line, deleted, and its states are computed again.

All spaces together take at most the budget of XTL_PREFIX_GIB. For a new file the files that were
used longest ago give way, but none that this process has used: what does not fit is not kept.
Processes share the files: they are written under locks, and a file that another process deletes
costs computing its states again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters_xtl.base.cache_budget import GIB, STATES, cache_budget
from adapters_xtl.base.files import atomic_write, cache_dir, digest, write_json
from adapters_xtl.base.locks import locked

__all__ = [
    "BUDGET",
    "GIB",
    "PrefixFiles",
    "SpaceSummary",
    "budget_bytes",
    "clear",
    "spaces",
    "text_key",
]

BUDGET = STATES
FORMAT = 2
SUFFIX = ".states"
LARGEST = 32 * 2**20  # bytes of states in one file
HEADER_BYTES = 4096
_KEY_BYTES = 16
_TABLE = np.dtype([("key", f"V{_KEY_BYTES}"), ("digest", f"V{_KEY_BYTES}"), ("tokens", np.uint32)])
Array = np.ndarray[Any, Any]


def budget_bytes() -> int:
    """Bytes that all files may take: XTL_PREFIX_GIB in GiB, by default 4; 0 keeps nothing.

    RequestError where that is no number from 0 on.
    """
    return cache_budget(BUDGET)


def text_key(ids: Array, types: Array | None) -> bytes:
    """Key of a token sequence within a space, from its int32 ids and token types."""
    total = hashlib.blake2b(np.ascontiguousarray(ids, dtype=np.int32).data, digest_size=_KEY_BYTES)
    if types is not None:
        total.update(b"types")
        total.update(np.ascontiguousarray(types, dtype=np.int32).data)
    return total.digest()


@dataclass(frozen=True)
class SpaceSummary:
    """What lies in one space. `identity`: what decides its states; empty where it is unreadable."""

    name: str
    identity: Mapping[str, Any]
    texts: int
    bytes: int


@dataclass
class _File:
    """One file: where each text's states lie in it."""

    path: Path
    table: Array
    offsets: Array  # bytes from the file's start, one more than there are texts
    used: bool = False


class PrefixFiles:
    """The states of one space: a mapping from a text's key to a uint8 array (tokens, token_bytes).

    identity     what decides the states of a text; JSON
    token_bytes  of one token's state
    budget       bytes for all spaces together
    notify       takes lines for the user
    """

    def __init__(
        self,
        identity: Mapping[str, Any],
        token_bytes: int,
        budget: int,
        notify: Callable[[str], None],
    ) -> None:
        self.space = digest({**identity, "format": FORMAT})[:32]
        self.root = cache_dir() / "prefix"
        self.folder = self.root / self.space
        self._identity, self._token_bytes = dict(identity), token_bytes
        self.budget, self._notify = budget, notify
        self._files: dict[str, _File] = {}
        self._places: dict[bytes, tuple[str, int]] = {}
        self._verified: set[tuple[str, int]] = set()  # places whose digest was found right
        self.full = budget <= 0
        if not self.full:
            self.scan()

    @property
    def file_bytes(self) -> int:
        """Bytes of states that are written into one file at most."""
        return max(1, min(LARGEST, self.budget // 8))

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def lacking(self, keys: Iterable[bytes]) -> list[bytes]:
        """The texts that have no intact states here. Each is read and checked once a process; a
        damaged file is deleted whole, with the texts in it that had been checked before.
        """
        keys = list(keys)
        for key in keys:
            if key in self._places and self._places[key] not in self._verified:
                self.get(key)
        return [key for key in keys if key not in self._places]

    def get(self, key: bytes) -> Array | None:
        """The states of a text, uint8 (tokens, token_bytes); None if missing or damaged."""
        place = self._places.get(key)
        if place is None:
            return None
        file, number = self._files[place[0]], place[1]
        tokens = int(file.table["tokens"][number])
        size = tokens * self._token_bytes
        try:
            with file.path.open("rb", buffering=0) as handle:
                handle.seek(int(file.offsets[number]))
                data = handle.read(size)
        except OSError:  # another process has deleted it
            self._forget(place[0])
            return None
        if place not in self._verified:
            if len(data) != size or self._digest(key, data) != bytes(file.table["digest"][number]):
                self._refuse(file.path, "does not hold what was written")
                return None
            self._verified.add(place)
        if len(data) != size:
            self._refuse(file.path, "was cut short")
            return None
        if not file.used:
            file.used = True
            with contextlib.suppress(OSError):  # somebody else's
                os.utime(file.path)
        return np.frombuffer(data, dtype=np.uint8).reshape(tokens, self._token_bytes)

    def scan(self) -> None:
        """Takes up the files that other processes have written meanwhile."""
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                if path.name not in self._files:
                    self._take_up(path)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock of the space, with what others wrote before taken up: what is missing then
        is computed by this process alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(
            self.folder / ".lock",
            lambda: self._notify(
                f"another process computes states at layer {self._identity.get('layer')}: waiting"
            ),
        ):
            self.scan()
            yield

    def add(self, states: Sequence[tuple[bytes, Array]]) -> bool:
        """Keeps the states of texts, uint8 (tokens, token_bytes), as one file; False, and from then
        on `full`, where the budget has no room for them. To be called while `writing`.
        """
        table = np.zeros(len(states), dtype=_TABLE)
        parts: list[bytes] = []
        for number, (key, array) in enumerate(states):
            data = np.ascontiguousarray(array).tobytes()
            table[number] = (key, self._digest(key, data), len(array))
            parts.append(data)
        header = {
            "format": FORMAT,
            "space": self.space,
            "texts": len(states),
            "token_bytes": self._token_bytes,
            "table": hashlib.sha256(table.tobytes()).hexdigest(),
        }
        line = json.dumps(header).encode() + b"\n"
        content = b"".join((line, table.tobytes(), *parts))
        with locked(self.root / ".lock"):
            if self.full or not self._make_room(len(content)):
                self.full = True
                return False
            self.folder.mkdir(parents=True, exist_ok=True)  # `clear` may have taken it
            if not (self.folder / "space.json").is_file():
                write_json(self.folder / "space.json", self._identity)
            path = self.folder / f"{secrets.token_hex(8)}{SUFFIX}"
            atomic_write(path, content)
        self._note(path, table, len(line), used=True)
        return True

    def _digest(self, key: bytes, data: bytes) -> bytes:
        """Of a text's states, bound to the text and the space."""
        total = hashlib.blake2b(key, digest_size=_KEY_BYTES, key=self.space.encode())
        total.update(data)
        return total.digest()

    def _take_up(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                line = file.readline(HEADER_BYTES)
                header = json.loads(line)
                own = (header["format"], header["space"], header["token_bytes"])
                if own != (FORMAT, self.space, self._token_bytes):
                    raise ValueError
                length = int(header["texts"]) * _TABLE.itemsize
                if not 0 <= length <= size:
                    raise ValueError
                data = file.read(length)
                if hashlib.sha256(data).hexdigest() != header["table"]:
                    raise ValueError
        except OSError:  # deleted meanwhile, or not readable now: no proof that it is damaged
            return
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(path, "is damaged")
            return
        table = np.frombuffer(data, dtype=_TABLE)
        states = int(table["tokens"].sum(dtype=np.int64)) * self._token_bytes
        if len(line) + len(data) + states != size:
            self._refuse(path, "was cut short")
            return
        self._note(path, table, len(line), used=False)

    def _note(self, path: Path, table: Array, header: int, *, used: bool) -> None:
        sizes = table["tokens"].astype(np.int64) * self._token_bytes
        offsets = header + table.nbytes + np.concatenate(([0], np.cumsum(sizes)))
        self._files[path.name] = _File(path, table, offsets, used)
        keys = table["key"].tobytes()
        for number in range(len(table)):
            key = keys[number * _KEY_BYTES : (number + 1) * _KEY_BYTES]
            self._places[key] = (path.name, number)

    def _forget(self, name: str) -> None:
        del self._files[name]
        self._places = {key: place for key, place in self._places.items() if place[0] != name}

    def _refuse(self, path: Path, reason: str) -> None:
        self._notify(f"prefix cache: {path} {reason}; its states are computed again")
        with contextlib.suppress(OSError):
            path.unlink()
        if path.name in self._files:
            self._forget(path.name)

    def _make_room(self, size: int) -> bool:
        """Deletes what was used longest ago until `size` more bytes fit; False, with nothing
        deleted, where that takes files that this process has used. To be called under the lock of
        all spaces: what a process that was killed had begun to write goes first.
        """
        for path in self.root.glob("*/.*.*"):  # written aside; not `.lock`
            with contextlib.suppress(OSError):
                path.unlink()
        used = {file.path for file in self._files.values() if file.used}
        listed = []
        for path in self.root.glob(f"*/*{SUFFIX}"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                listed.append((stat.st_mtime_ns, stat.st_size, path))
        kept = sum(entry[1] for entry in listed if entry[2] in used)
        if kept + size > self.budget:
            return False
        total = sum(entry[1] for entry in listed)
        for _, taken, path in sorted(listed):
            if total + size <= self.budget:
                break
            if path not in used:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= taken
        return total + size <= self.budget


def spaces() -> list[SpaceSummary]:
    """What the cache holds, space by space."""
    summaries = []
    for folder in sorted((cache_dir() / "prefix").glob("*")):
        if not folder.is_dir():
            continue
        identity: Mapping[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            identity = json.loads((folder / "space.json").read_text(encoding="utf-8"))
        texts = size = 0
        for path in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                size += path.stat().st_size
                with path.open("rb") as file:
                    texts += int(json.loads(file.readline(HEADER_BYTES))["texts"])
        summaries.append(
            SpaceSummary(folder.name, identity if isinstance(identity, dict) else {}, texts, size)
        )
    return summaries


def clear() -> int:
    """Deletes everything that is kept; its bytes. Processes that use it compute their states
    again.
    """
    freed = sum(space.bytes for space in spaces())
    root = cache_dir() / "prefix"
    if root.is_dir():
        with locked(root / ".lock"):
            for folder in root.glob("*"):
                if folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
    return freed
