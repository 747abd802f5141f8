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
from adapters_xtl.backbones.shape import Shape, shape
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
<<<<<<< HEAD
from adapters_xtl.methods._tensor_shapes import (
    Sizes,
    check_shapes,
    module_files,
    module_shapes,
    sizes,
)
from adapters_xtl.runs.records import MANIFEST, Manifest, write_record
from adapters_xtl.runs.stored import StoredModule, is_run
from adapters_xtl.sharing.bundle_record import RECORD, RECORD_BYTES, BundleRecord, parse_record
=======
from adapters_xtl.methods import Method, TensorShapes
>>>>>>> e988436 (A method is known in its file alone; its options are checked before anything is loaded; a run's weights follow from its id)

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
        """The module in it, as `adapters_xtl.runs.stored` reads one of a run."""
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
        found, recorded = digest(files), record.module_sha256
        if found != recorded:
            complaints.add("module/", f"its digest is {found}, not the {recorded} of {RECORD}")
    complaints.raise_if_any()
    assert record is not None
    return Bundle(path, digest(listed), record)


def _check_digests(
    path: Path, held: Mapping[str, int], listed: Mapping[str, str], complaints: _Complaints
) -> dict[str, str] | None:
    """sha256 of the files that lie there and stand in the manifest; None where one was not read to
    its end: a text that is too long, or large weights that are refused already.
    """
    found: dict[str, str] = {}
    whole = True
    for name in sorted(set(held) & set(listed)):
        reason = unwanted(name, held[name])
        if reason:
            complaints.add(name, reason)
        if reason or (held[name] > _LONG and complaints.about(name)):
            whole = False
            continue
        found[name] = file_digest(path / name)
        if found[name] != listed[name]:
            complaints.add(name, f"its sha256 is {found[name]}, not the manifest's {listed[name]}")
    return found if whole else None


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
        found = list(dict.fromkeys(self.messages))
        if found:
            more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
            raise MismatchError(
                "\n".join(f"{self.where}: {message}" for message in [*found[:SHOWN], *more])
            )


def _check_module(
    path: Path, record: BundleRecord, held: Mapping[str, int], complaints: _Complaints
) -> None:
<<<<<<< HEAD
    """Holds the module's description and weights against the backbone's sizes."""
    config = record.backbone.identity.config
    description, weights = (
        f"module/{name}" for name in module_files(record.method, record.compose)
=======
    """Descriptions and headers of the module and the heads, held against the backbone's sizes."""
    backbone = record["backbone"]["identity"]["config"]
    size, method = _shape(backbone), _method(record["method"])
    description, weights = (
        f"module/{name}" for name in method.module_files(record["compose"] == "fuse")
>>>>>>> e988436 (A method is known in its file alone; its options are checked before anything is loaded; a run's weights follow from its id)
    )
    for name in held:
        if name.startswith("module/") and name not in (description, weights):
            complaints.add(
                printable(name),
                f"unknown file; a {record.method} module is {description} and {weights}",
            )
    for name in {description, weights} - set(held):
<<<<<<< HEAD
        complaints.add(name, "missing")
    if not {description, weights} <= set(held):
        return
    value = complaints.attempt(description, lambda: _object(path / description))
    held_tensors = complaints.attempt(weights, lambda: tensors(path / weights))
    if value is None or held_tensors is None:
        return
    wanted = complaints.attempt(
        description,
        lambda: module_shapes(record.method, record.compose, value, config, held_tensors),
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
    size = sizes(record.backbone.identity.config)
=======
        complaints.messages.append(f"{name}: missing")
    if description in held and weights in held:
        there = complaints.attempt(weights, lambda: tensors(path / weights))
        if there is not None:
            wanted = complaints.attempt(
                description,
                lambda: methods.expected_tensors(
                    method,
                    load_json(path / description),
                    backbone,
                    there,
                    options=record["run"]["options"],
                    from_layer=record["run"]["from_layer"],
                    compose=record["compose"],
                ),
            )
            if wanted is not None:
                complaints.attempt(weights, lambda: _check_weights(path / weights, there, wanted))
        else:
            complaints.attempt(description, lambda: load_json(path / description))
>>>>>>> e988436 (A method is known in its file alone; its options are checked before anything is loaded; a run's weights follow from its id)
    heads = {name.split("/")[1] for name in held if name.startswith("head/")}
    for task in sorted(heads ^ set(record.labels)):
        complaints.add(
            f"head/{printable(task)}", f"{RECORD} and the directory differ on whether it is there"
        )
    for task in sorted(heads & set(record.labels)):
        complaints.attempt(
            f"head/{task}", partial(_check_head, path / "head" / task, record.labels[task], size)
        )


<<<<<<< HEAD
def _check_head(folder: Path, labels: tuple[str, ...], size: Sizes) -> None:
=======
def _head(folder: Path, labels: list[str], size: Shape) -> None:
>>>>>>> e988436 (A method is known in its file alone; its options are checked before anything is loaded; a run's weights follow from its id)
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
<<<<<<< HEAD
=======


def parse_record(value: Any) -> dict[str, Any]:
    """bundle.json's value, checked. Refusal names the first key that is missing, malformed or at
    odds with another.
    """
    if isinstance(value, bytes):
        value = parse_json(value, RECORD_BYTES)
    if not isinstance(value, dict):
        raise Refusal("no JSON object")
    if value.get("format") != FORMAT:
        raise Refusal(f"format {printable(value.get('format'), 20)}; this version reads {FORMAT}")
    for name, check in _KEYS.items():
        if name not in value:
            raise Refusal(f"lacks the key {name!r}")
        if not check(value[name]):
            raise Refusal(
                f"the key {name!r} is malformed"
                f" ({printable(json.dumps(value[name], ensure_ascii=False), 60)})"
            )
    for name in value:
        if name not in _KEYS:
            raise Refusal(f"unknown key {printable(name, 40)!r}")
    run, backbone = value["run"], value["backbone"]
    if digest(run)[: len(value["id"])] != value["id"]:
        raise Refusal(f"the id {value['id']} is not the digest of its run, {digest(run)[:12]}")
    if not run["backbone"] == backbone["fingerprint"] == digest(backbone["identity"]):
        raise Refusal(
            "the backbone's fingerprint is not the digest of its identity, or not the run's"
        )
    for name, said in (
        (name, value[name]) for name in ("method", "compose", "seed", "options", "protocol")
    ):
        if run[name] != said:
            raise Refusal(f"the key {name!r} and its run differ")
    if (run["bits"], run["dtype"]) != (backbone["bits"], backbone["dtype"]):
        raise Refusal("its backbone's bits or dtype are not its run's")
    if value["compose"] == "fuse" and len(value["parents"]) < 2:
        raise Refusal("it is fused, and has fewer than two parents")
    if list(run["parents"]) != [parent["id"] for parent in value["parents"]]:
        raise Refusal("its parents are not those of its run")
    if not set(value["labels"]) <= {name for name, _ in run["tasks"]}:
        raise Refusal("it has a head for a task that its run was not trained on")
    if run["from_layer"] >= _shape(backbone["identity"]["config"]).layers:
        raise Refusal(
            f"its run begins at layer {run['from_layer']}, which its backbone does not have"
        )
    _method(value["method"])
    return value


def _method(name: str) -> Method:
    """Refusal for a method that is not known here."""
    if name not in methods.names():
        raise Refusal(f"method {printable(name, 20)!r}: known here: {', '.join(methods.names())}")
    return methods.load(name)


def _shape(config: Mapping[str, Any]) -> Shape:
    """Refusal where a backbone's config.json has no sensible sizes."""
    try:
        return shape(config, "its backbone")
    except RequestError as error:
        raise Refusal(str(error)) from error


def _line(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 500 and value.isprintable()


def _lines(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_line, value)) and all(map(_line, value.values()))


def _sha(value: Any) -> bool:
    return isinstance(value, str) and bool(_HEX.fullmatch(value))


def _run(value: Any) -> bool:
    """Whether a value can be `Run.identity()`: these keys, with values that can be made a `Run` of
    again.
    """
    return (
        isinstance(value, dict)
        and set(value) == set(_RUN)
        and all(check(value[name]) for name, check in _RUN.items())
    )


def _natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _all(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= 1000 and all(map(check, value))


def _named(checks: Mapping[str, Callable[[Any], bool]], value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= set(checks)
        and all(checks[name](value[name]) for name in value)
    )


_WHOLE = (
    "max_steps",
    "batch_size",
    "max_length",
    "stride",
    "max_examples",
    "eval_every",
    "patience",
    "select_examples",
    "cap",
)
_SHARES = ("lr", "epochs", "warmup", "weight_decay", "clip", "dropout")
HYPER: Mapping[str, Callable[[Any], bool]] = {  # the fields of `spec.Hyper`
    **dict.fromkeys(_WHOLE, _natural),
    **dict.fromkeys(_SHARES, _number),
    "optimizer": safe_name,
    "dtype": safe_name,
    "tasks": _all(safe_name),
}
_RUN: Mapping[str, Callable[[Any], bool]] = {
    "tasks": lambda value: (
        isinstance(value, list)
        and all(
            isinstance(each, list) and len(each) == 2 and safe_name(each[0]) and _natural(each[1])
            for each in value
        )
    ),
    "data": lambda value: (
        _named({"train": _all(_sha), "select": _all(_sha)}, value) and len(value) == 2
    ),
    "backbone": lambda value: _sha(value),
    "method": safe_name,
    "options": lambda value: (
        isinstance(value, dict) and len(value) < 100 and all(map(safe_name, value))
    ),
    "compose": lambda value: value in ("", "stack", "init", "fuse"),
    "bits": lambda value: _natural(value) and value in (32, 16, 8, 4),
    "dtype": lambda value: value in ("float32", "bfloat16", "float16"),
    "from_layer": _natural,
    "hyper": lambda value: _named(HYPER, value) and "tasks" in value,
    "seed": lambda value: type(value) is int,
    "protocol": lambda value: value in ("clean", "xtreme"),
    "parents": _all(lambda value: isinstance(value, str) and bool(_ID.fullmatch(value))),
}


def _backbone(value: Any) -> bool:
    names = {"name", "location", "fingerprint", "revision", "bits", "dtype", "identity"}
    if not isinstance(value, dict) or set(value) != names or not _sha(value["fingerprint"]):
        return False
    identity = value["identity"]
    texts = all(_line(value[name]) for name in ("name", "location", "revision", "dtype"))
    return (
        texts
        and value["bits"] in (32, 16, 8, 4)
        and isinstance(identity, dict)
        and isinstance(identity.get("config"), dict)
    )


def _parent(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"task", "id", "sha256", "where"}:
        return False
    places = value["where"]
    return (
        safe_name(value["task"])
        and safe_name(value["id"])
        and _sha(value["sha256"])
        and isinstance(places, list)
        and (
            len(places) <= 20
            and all(isinstance(place, str) and _PLACE.fullmatch(place) for place in places)
        )
    )


def _metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(
        safe_name(task)
        and isinstance(entry, dict)
        and isinstance(entry.get("score"), _NUMBERS)
        and all(isinstance(entry.get(name), str) for name in ("split", "metric", "protocol"))
        and isinstance(entry.get("languages"), dict)
        and all(
            safe_name(code)
            and isinstance(scores, dict)
            and all(isinstance(each, _NUMBERS) for each in scores.values())
            for code, scores in entry["languages"].items()
        )
        for task, entry in value.items()
    )


def _labels(value: Any) -> bool:
    return isinstance(value, dict) and all(
        safe_name(task) and isinstance(each, list) for task, each in value.items()
    )


_KEYS: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: value == FORMAT,
    "task": safe_name,
    "id": lambda value: isinstance(value, str) and bool(_ID.fullmatch(value)),
    "method": safe_name,
    "options": lambda value: isinstance(value, dict),
    "labels": _labels,
    "compose": lambda value: value in ("", "stack", "init", "fuse"),
    "composition": _line,
    "seed": lambda value: type(value) is int,
    "protocol": safe_name,
    "run": _run,
    "backbone": _backbone,
    "module_sha256": _sha,
    "parents": lambda value: (
        isinstance(value, list) and len(value) <= 16 and all(map(_parent, value))
    ),
    "metrics": _metrics,
    "trained": lambda value: value is None or isinstance(value, dict),
    "data": lambda value: isinstance(value, dict) and isinstance(value.get("source"), str),
    "versions": _lines,
    "licence": safe_name,
}
>>>>>>> e988436 (A method is known in its file alone; its options are checked before anything is loaded; a run's weights follow from its id)
