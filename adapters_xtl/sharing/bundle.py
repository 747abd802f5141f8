"""A bundle: a module ready to share, and how it is read so that nothing in it needs to be believed.

    module/            what the library itself wrote: a description (JSON) and weights (safetensors)
    head/<task>/       config.json and model.safetensors of each head
    bundle.json        see `adapters_xtl.sharing.bundle_record`
    README.md          the card: for people, never parsed here
    manifest.json      {"files": {name: sha256}} of every file but itself

Everything is checked before anything is used: names and kinds of files, JSON within limits, the
run's id and the backbone's fingerprint against what they are digests of, the backbone's config,
every tensor's shape against the backbone's own sizes, every number for being finite, every file's
sha256. A bundle's digest is that of its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from adapters_xtl import formats, methods
from adapters_xtl.backbones.shape import Shape
from adapters_xtl.base import untrusted
from adapters_xtl.base.errors import MismatchError, RequestError
from adapters_xtl.base.files import digest, file_digest
from adapters_xtl.base.typed_json import from_json
from adapters_xtl.base.untrusted import (
    Refusal,
    Tensor,
    load_json,
    printable,
    scan,
    tensors,
    unfit_name,
    unfit_values,
)
from adapters_xtl.methods import TensorShapes
from adapters_xtl.runs.records import MANIFEST, Manifest, write_record
from adapters_xtl.runs.stored_runs import StoredModule, is_run
from adapters_xtl.sharing.bundle_record import (
    RECORD,
    RECORD_BYTES,
    BundleRecord,
    backbone_shape,
    known_method,
    parse_record,
)

__all__ = ["MANIFEST", "SHOWN", "Bundle", "is_bundle", "manifest_of", "read", "seal", "unwanted"]

T = TypeVar("T")
SHOWN = 12  # complaints about one bundle
WANTED = (
    r"bundle\.json",
    r"manifest\.json",
    r"README\.md",
    r"module/[^/]+\.(?:json|safetensors)",
    r"head/[^/]+/(?:config\.json|model\.safetensors)",
)
_LONG = 16 * RECORD_BYTES  # bytes of a file whose sha256 is not taken where it is refused anyway


@dataclass(frozen=True)
class Bundle:
    """A verified bundle directory.

    digest         64 hex digits that name this bundle: of its manifest
    module_sha256  digest over the names and sha256 of the files in module/
    """

    path: Path
    digest: str
    record: BundleRecord = field(repr=False)

    @property
    def task(self) -> str:
        return self.record.task

    @property
    def module_sha256(self) -> str:
        return self.record.module_sha256

    @property
    def module(self) -> StoredModule:
        """The module in it, as `adapters_xtl.runs.stored_runs` reads one of a run."""
        record = self.record
        return StoredModule(
            path=self.path,
            id=self.digest[:12],
            task=record.task,
            run=record.run,
            backbone=record.backbone.brief,
            parents=tuple(parent.brief for parent in record.parents),
            composition=record.composition,
        )


def is_bundle(path: Path) -> bool:
    """Whether a directory says that it is one; nothing is verified."""
    return (path / RECORD).is_file()


def read(path: Path, where: str = "") -> Bundle:
    """The bundle in a directory, verified. MismatchError with one line for everything that is wrong
    with it.

    `where`: what to call it in messages, where that is not its directory.
    """
    where = where or str(path)
    if not path.is_dir():
        raise RequestError(f"{where}: {'a file, not a' if path.exists() else 'no such'} directory")
    if not is_bundle(path):
        hint = "; it is a run directory, of which `xtl hub push` makes a bundle"
        raise RequestError(f"{where}: no {RECORD}, so no bundle{hint if is_run(path) else ''}")
    complaints = _Complaints(where)
    held, problems = scan(path, WANTED)
    complaints.messages += problems
    listed = complaints.attempt(MANIFEST, lambda: manifest_of(load_json(path / MANIFEST))) or {}
    for name in sorted(set(listed) - set(held)):
        complaints.add(printable(name), "missing, though the manifest names it")
    for name in sorted(set(held) - set(listed) - {MANIFEST}):
        complaints.add(printable(name), "not in the manifest")
    record = complaints.attempt(
        RECORD, lambda: parse_record(load_json(path / RECORD, RECORD_BYTES))
    )
    if record is not None:
        _check_module(path, record, held, complaints)
        _check_heads(path, record, held, complaints)
    shas = _check_digests(path, held, listed, complaints)
    if record is not None and shas is not None:
        files = {
            name.removeprefix("module/"): sha
            for name, sha in shas.items()
            if name.startswith("module/")
        }
        module_digest, recorded = digest(files), record.module_sha256
        if module_digest != recorded:
            complaints.add(
                "module/", f"its digest is {module_digest}, not the {recorded} of {RECORD}"
            )
    complaints.raise_if_any()
    assert record is not None
    return Bundle(path, digest(listed), record)


def _check_digests(
    path: Path, held: Mapping[str, int], listed: Mapping[str, str], complaints: _Complaints
) -> dict[str, str] | None:
    """sha256 of the files that lie there and stand in the manifest; None where one was not read to
    its end: a text that is too long, or large weights that are refused already.
    """
    digests: dict[str, str] = {}
    whole = True
    for name in sorted(set(held) & set(listed)):
        reason = unwanted(name, held[name])
        if reason:
            complaints.add(name, reason)
        if reason or (held[name] > _LONG and complaints.about(name)):
            whole = False
            continue
        digests[name] = file_digest(path / name)
        if digests[name] != listed[name]:
            complaints.add(
                name, f"its sha256 is {digests[name]}, not the manifest's {listed[name]}"
            )
    return digests if whole else None


def unwanted(name: str, size: int = 0) -> str:
    """Why a file has no place in a bundle, by its name and bytes; "" where it has one."""
    if reason := unfit_name(name):
        return reason
    if not any(re.fullmatch(pattern, name) for pattern in WANTED):
        return untrusted.unwanted(name)
    long = size > RECORD_BYTES and not name.endswith(".safetensors")
    return f"longer than {RECORD_BYTES:,} bytes" if long else ""


def seal(path: Path) -> None:
    """Writes the manifest of a finished bundle directory."""
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    files = {name: file_digest(path / name) for name in names if name != MANIFEST}
    write_record(path / MANIFEST, Manifest(files))


def manifest_of(value: Any) -> dict[str, str]:
    """A manifest's files: name → sha256. Refusal for one that is malformed, or names what lies
    outside.
    """
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict) or set(value) != {"files"}:
        raise Refusal('expected {"files": {name: sha256}}')
    for name in files:
        if reason := unfit_name(name):
            raise Refusal(f"names {printable(name)!r}: {reason}")
    return dict(from_json(Manifest, value).files)


class _Complaints:
    """What is wrong with one bundle, collected."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.messages: list[str] = []

    def add(self, name: str, reason: str) -> None:
        self.messages.append(f"{name}: {reason}")

    def about(self, name: str) -> bool:
        return any(message.startswith(f"{name}:") for message in self.messages)

    def attempt(self, name: str, call: Callable[[], T]) -> T | None:
        """What `call` returns; None, and a complaint about the file `name`, for a Refusal."""
        try:
            return call()
        except Refusal as refusal:
            self.add(name, str(refusal))
            return None

    def raise_if_any(self) -> None:
        complaints = list(dict.fromkeys(self.messages))
        if complaints:
            more = [f"and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
            raise MismatchError(
                "\n".join(f"{self.where}: {message}" for message in [*complaints[:SHOWN], *more])
            )


def _check_module(
    path: Path, record: BundleRecord, held: Mapping[str, int], complaints: _Complaints
) -> None:
    """Holds the module's description and weights against the backbone's sizes."""
    config = record.backbone.identity.config
    files = known_method(record.method).module_files(record.compose == "fuse")
    description, weights = (f"module/{name}" for name in files)
    for name in held:
        if name.startswith("module/") and name not in (description, weights):
            complaints.add(
                printable(name),
                f"unknown file; a module of method {record.method} is {description} and {weights}",
            )
    for name in {description, weights} - set(held):
        complaints.add(name, "missing")
    if not {description, weights} <= set(held):
        return
    value = complaints.attempt(description, lambda: _object(path / description))
    held_tensors = complaints.attempt(weights, lambda: tensors(path / weights))
    if value is None or held_tensors is None:
        return
    wanted = complaints.attempt(
        description,
        lambda: methods.expected_tensors(
            known_method(record.method),
            value,
            config,
            held_tensors,
            options=record.run.options,
            from_layer=record.run.from_layer,
            compose=record.compose,
        ),
    )
    if wanted is not None:
        complaints.attempt(weights, lambda: _check_weights(path / weights, held_tensors, wanted))


def _object(path: Path) -> dict[str, Any]:
    value = load_json(path)
    if not isinstance(value, dict):
        raise Refusal("no JSON object")
    return value


def _check_heads(
    path: Path, record: BundleRecord, held: Mapping[str, int], complaints: _Complaints
) -> None:
    size = backbone_shape(record.backbone.identity.config)
    heads = {name.split("/")[1] for name in held if name.startswith("head/")}
    for task in sorted(heads ^ set(record.labels)):
        complaints.add(
            f"head/{printable(task)}", f"{RECORD} and the directory differ on whether it is there"
        )
    for task in sorted(heads & set(record.labels)):
        complaints.attempt(
            f"head/{task}", partial(_check_head, path / "head" / task, record.labels[task], size)
        )


def _check_head(folder: Path, labels: tuple[str, ...], size: Shape) -> None:
    config = load_json(folder / "config.json")
    wanted = formats.head_shapes(config, size.hidden, size.longest)
    if config["labels"] != list(labels):
        raise Refusal(f"its labels are not those of {RECORD}")
    weights = folder / "model.safetensors"
    _check_weights(weights, tensors(weights), wanted)


def _check_weights(path: Path, held: Mapping[str, Tensor], wanted: TensorShapes | int) -> None:
    """Refusal unless a file holds exactly the tensors that are wanted, all of finite numbers."""
    methods.check_tensors(held, wanted)
    if fault := unfit_values(path, held):
        raise Refusal(fault)
