"""Reading files of strangers: JSON within limits, safetensors, directories without surprises.

Nothing here runs or unpickles anything. JSON is parsed within limits of size and depth. A
safetensors file is 8 bytes (little endian: the header's length), the header (JSON: name → dtype,
shape, offsets) and the tensors' bytes; the library `safetensors` reads it.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

__all__ = [
    "JSON_BYTES",
    "Refusal",
    "Tensor",
    "load_json",
    "not_ours",
    "open_regular",
    "parse_json",
    "printable",
    "read_small",
    "safe_name",
    "scan",
    "tensors",
    "unfit_name",
    "unfit_values",
    "unwanted",
    "write_tensors",
]

JSON_BYTES = 1 << 20
JSON_DEPTH = 24
HEADER_BYTES = 4 << 20
FILES = 400  # directory entries that are looked at
DTYPES = {"F32": 4, "F16": 2, "BF16": 2}  # bytes of a number
_TYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_EXPONENTS = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
_PIECE = 1 << 22  # numbers that are looked at together
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_PICKLES = (
    ".pkl",
    ".pickle",
    ".joblib",
    ".dill",
    ".npy",
    ".npz",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
)
_CODE = (".py", ".pyc", ".so", ".sh", ".exe", ".dll", ".ipynb", ".js", ".jar")


class Refusal(ValueError):
    """Why something is not read; the text has no line breaks."""


class Tensor(NamedTuple):
    """One tensor of a safetensors file. Its bytes are `start` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def printable(text: object, limit: int = 80) -> str:
    """Foreign text for a terminal: control characters escaped, cut at `limit`."""
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def safe_name(text: object) -> bool:
    """Whether a text may name a task, an adapter or one part of a path."""
    return isinstance(text, str) and bool(_PART.fullmatch(text)) and ".." not in text


def unfit_name(name: str) -> str:
    """Why a manifest's file name leads out of its directory or is none; "" when it is fine."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "a path that leads out of the bundle ('..')"
    return "" if all(map(safe_name, name.split("/"))) else "not a plain file name"


def not_ours(name: str) -> bool:
    """Whether a file is what the hub or its client leaves in a directory: it is no part of a
    bundle, and never read.
    """
    return name == ".gitattributes" or f"{name}/".startswith(".cache/huggingface/")


def unwanted(name: str) -> str:
    """Why a file that no bundle has is refused."""
    suffix = Path(name).suffix.lower()
    if suffix in _PICKLES:
        return (
            f"a {suffix} file, which can hold a pickle and so run code when it is opened; bundles"
            " hold safetensors only"
        )
    if suffix in _CODE:
        return "code; a bundle holds weights and descriptions only"
    return (
        "unknown file; a bundle holds module/, head/<task>/, bundle.json, README.md and"
        " manifest.json"
    )


def scan(folder: Path, wanted: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """(name → bytes of the regular files below `folder` that are wanted, complaints about
    everything else there).

    `wanted` are regular expressions. Links are never followed, and nothing is opened. A directory
    in which nothing lies is complained of, too.
    """
    patterns = [re.compile(pattern) for pattern in wanted]
    sizes: dict[str, int] = {}
    complaints: list[str] = []
    seen, todo = 0, [""]
    while todo:
        base = todo.pop()
        entries = sorted(os.scandir(folder / base), key=lambda entry: entry.name)
        if base and not entries:
            complaints.append(f"{printable(base)}: an empty directory")
        for entry in entries:
            name, seen = f"{base}{entry.name}", seen + 1
            if seen > FILES:
                return sizes, [*complaints, f"more than {FILES} files"]
            mode = entry.stat(follow_symlinks=False)
            shown = printable(name)
            if not_ours(name) and not stat.S_ISLNK(mode.st_mode):
                continue
            if stat.S_ISLNK(mode.st_mode):
                complaints.append(f"{shown}: a symbolic link")
            elif stat.S_ISDIR(mode.st_mode):
                todo.append(f"{name}/")
            elif not stat.S_ISREG(mode.st_mode):
                complaints.append(f"{shown}: neither a file nor a directory")
            elif not any(pattern.fullmatch(name) for pattern in patterns):
                complaints.append(f"{shown}: {unwanted(name)}")
            else:
                sizes[name] = mode.st_size
    return sizes, complaints


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened without following a link. Refusal for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refusal(f"cannot be read ({error.strerror})") from error
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise Refusal("not a regular file")
    return file


def read_small(path: Path, limit: int = JSON_BYTES) -> bytes:
    """A file's bytes; Refusal when it is longer than `limit`, a link or no regular file."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Refusal(f"longer than {limit:,} bytes")
    return data


def load_json(path: Path, limit: int = JSON_BYTES) -> Any:
    return parse_json(read_small(path, limit), limit)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(f"the key {printable(twice)!r} occurs twice")
    return values


def _constant(text: str) -> Any:
    raise Refusal(f"{text} is no JSON value")


def _integer(text: str) -> int:
    if len(text) > 40:
        raise Refusal("a number of more than 40 digits")
    return int(text)


def _float(text: str) -> float:
    if len(text) > 400 or not math.isfinite(value := float(text)):
        raise Refusal(f"the number {printable(text, 20)} is out of range")
    return value


def parse_json(data: bytes, limit: int = JSON_BYTES, depth: int = JSON_DEPTH) -> Any:
    """The value of a JSON text. Refusal when it is too long, too deep, has a key twice, NaN, or is
    no JSON.
    """
    if len(data) > limit:
        raise Refusal(f"longer than {limit:,} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except Refusal:
        raise
    except RecursionError:
        raise Refusal(f"nested deeper than {depth} levels") from None
    except UnicodeDecodeError as error:
        raise Refusal("not UTF-8 text") from error
    except ValueError as error:
        raise Refusal(f"no JSON ({printable(error, 100)})") from error
    _check_depth(value, depth)
    _check_characters(data, value)
    return value


def _check_depth(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Refusal(f"nested deeper than {depth} levels")


def _check_characters(data: bytes, value: Any) -> None:
    """Refusal for half a surrogate pair, which JSON can write and UTF-8 cannot."""
    if b"\\u" in data:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise Refusal("holds half a surrogate pair, which is no character") from error


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, name → dtype, shape and place, in the file's order.

    The library `safetensors` reads the header. Refusal, one line, where it finds a fault, and for
    what it lets pass: a link, a header over `HEADER_BYTES`, a name that occurs twice, a dtype that
    no module has. The values are not read (see `unfit_values`).
    """
    from safetensors import SafetensorError, safe_open

    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8:
            raise Refusal("too short for a safetensors file")
        if length > HEADER_BYTES:
            # asked only now: the length of a small header may begin with the same bytes
            if first[:2] == b"PK" or first[:1] == b"\x80":
                raise Refusal("a pickle or a zip archive under the name of a safetensors file")
            raise Refusal(f"announces a header of {length:,} bytes (at most {HEADER_BYTES:,})")
        if length > size - 8:
            raise Refusal(f"announces a header of {length:,} bytes, but the file has {size:,}")
        header = parse_json(file.read(length), HEADER_BYTES, depth=4)
    if not isinstance(header, dict):
        raise Refusal("its header is no JSON object")
    for name, entry in header.items():
        fields = {"dtype", "shape", "data_offsets"}
        if name != "__metadata__" and (not isinstance(entry, dict) or set(entry) != fields):
            raise Refusal(f"tensor {printable(name)}: its header entry is malformed")
    header_tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="np") as opened:
            end = 8 + length
            for name in opened.offset_keys():
                part = opened.get_slice(name)
                dtype, shape = str(part.get_dtype()), tuple(part.get_shape())
                if dtype not in DTYPES or len(shape) > 4:
                    raise Refusal(
                        f"tensor {printable(name)}: {dtype} of shape {list(shape)[:8]}; modules"
                        f" have {', '.join(DTYPES)} in at most 4 dimensions"
                    )
                # the library has checked that tensors follow one another without a gap
                start, end = end, end + math.prod(shape) * DTYPES[dtype]
                header_tensors[name] = Tensor(dtype, shape, start, end)
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"no valid safetensors file ({printable(error, 160)})") from error
    return header_tensors


def unfit_values(path: Path, held: Mapping[str, Tensor]) -> str:
    """Which tensor holds a value that is no finite number, as "NAME holds NaN …"; "" where all do.

    A network with such weights still gives labels and scores, and they mean nothing. Reads the
    whole file, in pieces of 16 MB.
    """
    import numpy as np

    for name, tensor in held.items():
        if tensor.start == tensor.end:
            continue
        width = DTYPES[tensor.dtype]
        # the exponent's bits, all set: an infinity or NaN
        exponent = np.array(_EXPONENTS[tensor.dtype], f"<u{width}")
        values = np.memmap(path, exponent.dtype, "r", tensor.start, (math.prod(tensor.shape),))
        for at in range(0, len(values), _PIECE):
            if bool(((values[at : at + _PIECE] & exponent) == exponent).any()):
                return f"tensor {printable(name)} holds NaN or infinite values"
    return ""


def write_tensors(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Copies tensors of a safetensors file into a new one; `names`: name there → name here."""
    import numpy as np
    from safetensors import TensorSpec, serialize_file

    held = tensors(source)
    chosen: dict[str, Any] = {}
    data: list[Any] = []  # kept until the file is written: the library is given addresses
    for old, new in sorted(names.items(), key=lambda item: item[1]):
        tensor = held[old]
        data.append(np.fromfile(source, "u1", tensor.end - tensor.start, offset=tensor.start))
        chosen[new] = TensorSpec(
            dtype=_TYPE_NAMES[tensor.dtype],
            shape=tensor.shape,
            data_ptr=data[-1].ctypes.data,
            data_len=data[-1].nbytes,
        )
    serialize_file(chosen, target, {"format": "pt"})
